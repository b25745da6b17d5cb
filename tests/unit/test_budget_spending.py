"""What of the drafts is verified: the best cut, within limits, and off where it does not pay."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftwood.budget.account import Account
from draftwood.budget.cost import CurveCost, GeometricCost, LinearCost, times
from draftwood.budget.cut import best_length, best_prefix, keep, rank
from draftwood.budget.measured import MeasuredCost
from draftwood.budget.spender import PassReport
from draftwood.budget.spending import Spending
from draftwood.draft import ROOT, Budget, Draft
from draftwood.errors import InvalidOption


@st.composite
def confident(draw, max_nodes=7):
    """Trees with confidence, ties and zeros included."""
    count = draw(st.integers(0, max_nodes))
    return Draft.tree(
        list(range(count)),
        [draw(st.integers(ROOT, at - 1)) for at in range(count)],
        confidence=[draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])) for _ in range(count)],
    )


def values(draft):
    found = {ROOT: 1.0}
    for node, parent in enumerate(draft.parents.tolist()):
        found[node] = found[parent] * float(draft.confidence[node])
    return found


def subtrees(draft):
    """All sets of nodes that hold every node's parent."""
    nodes = range(len(draft))
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(nodes, k) for k in range(len(draft) + 1)
    ):
        if all(int(draft.parents[node]) in (ROOT, *chosen) for node in chosen):
            yield chosen


def gain(draft, chosen):
    return sum(values(draft)[node] for node in chosen)


CURVES = [
    CurveCost.of([[0, 1.0], [100, 21.0]]),
    CurveCost.of([[0, 1.0], [3, 1.0], [4, 1.9], [8, 2.0], [9, 6.0]]),
    GeometricCost(1.3),
]


@pytest.mark.parametrize("cost", CURVES)
@pytest.mark.parametrize("padded", [False, True])
@given(drafts=st.lists(confident(4), min_size=1, max_size=3), pace=st.sampled_from([0.5, 2.0, 4.0]))
def test_the_cut_is_the_best_of_all_that_could_be_verified(cost, padded, drafts, pace):
    batch, ranked = len(drafts), [rank(draft) for draft in drafts]
    if padded:
        curve = times(cost, batch * max(map(len, drafts)))[::batch]
        counts = best_length(ranked, pace, curve)
    else:
        counts = best_prefix(ranked, pace, times(cost, sum(map(len, drafts))))

    def worth(chosen):
        count = batch * max(map(len, chosen)) if padded else sum(map(len, chosen))
        return sum(map(gain, drafts, chosen)) - pace * (cost.seconds(count) - cost.seconds(0))

    kept = [keep(*each).tokens.tolist() for each in zip(drafts, ranked, counts, strict=True)]
    best = max(worth(chosen) for chosen in itertools.product(*map(subtrees, drafts)))
    # tokens name the nodes they were
    assert worth(kept) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("padded", [False, True])
@given(st.lists(confident(), min_size=1, max_size=4), st.sampled_from(CURVES))
def test_what_is_spent_is_a_part_of_what_was_drafted(padded, drafts, cost):
    spent = Spending(cost).spend(drafts, padded=padded)
    assert len(spent) == len(drafts)
    for kept, draft in zip(spent, drafts, strict=True):
        assert_part(kept, draft)


def assert_part(kept, draft):
    nodes = kept.tokens.tolist()
    assert nodes == sorted(nodes)
    for at, node in enumerate(nodes):
        parent = int(kept.parents[at])
        assert (nodes[parent] if parent != ROOT else ROOT) == int(draft.parents[node])
        assert kept.confidence[at] == draft.confidence[node]


@given(
    st.lists(confident(), min_size=1, max_size=4),
    st.floats(0, 10),
    st.booleans(),
    st.lists(st.floats(0.01, 3.0), min_size=3, max_size=30),
)
def test_a_cut_is_a_valid_part_of_its_draft_whatever_the_curve(drafts, pace, padded, points):
    ranked = [rank(draft) for draft in drafts]
    longest, total = max(map(len, drafts)), sum(map(len, drafts))
    curve = np.resize(np.array(points), 1 + (longest if padded else total))
    choose = best_length if padded else best_prefix
    counts = choose(ranked, pace, curve)
    for draft, order, count in zip(drafts, ranked, counts, strict=True):
        kept = keep(draft, order, count)
        assert len(kept) == count <= len(draft)
        assert_part(kept, draft)


def test_confidence_that_is_none_is_worth_nothing_or_all():
    draft = Draft.tree([0, 1, 2], [-1, -1, -1], confidence=[float("nan"), 7.0, -1.0])
    (kept,) = Spending(LinearCost(0.5)).spend([draft])
    assert kept.tokens.tolist() == [1]


def sampled(parents, confidence):
    proposal = np.full((len(parents), 4), 0.25)
    return Draft.tree([0] * len(parents), parents, confidence=confidence, proposal=proposal)


@pytest.mark.parametrize(("count", "left"), [(0, 0), (1, 0), (2, 2), (3, 2), (4, 4), (5, 5)])
def test_of_a_sampled_draft_whole_levels_are_kept(count, left):
    # level 1: two nodes, level 2: two, level 3: one
    draft = sampled([-1, -1, 0, 1, 3], [0.5] * 5)
    assert len(keep(draft, rank(draft, [1.0, 0.8, 0.5]), count)) == left


def test_sampled_drafts_are_cut_by_level_and_not_by_what_was_drawn():
    # level 1: two nodes, level 2: two, level 3: one
    parents = [-1, -1, 0, 1, 3]
    spending = Spending(LinearCost(0.08))
    for _ in range(100):  # level 1 is always accepted, level 2 hardly
        spending.observe(PassReport(True, [sampled(parents, 0.5)], [1], 10, False, 0.0, None))
    cuts = [
        spending.spend([sampled(parents, confidence)])[0]
        for confidence in ([0.9] * 5, [0.0] * 5, [0.1, 0.9, 0.2, 0.8, 0.3])
    ]
    assert [len(cut) for cut in cuts] == [2, 2, 2]
    assert all(cut.height == 1 and len(cut.proposal) == 2 for cut in cuts)


def test_a_length_that_parts_a_level_of_sampled_nodes_keeps_the_levels_above_it():
    """In a padded pass the length is chosen for all drafts, wherever their levels end."""
    draft = sampled([-1, -1, 0, 1, 3], 0.5)  # levels of 2, 2 and 1 nodes
    ranked = rank(draft, reach=[0.9, 0.5, 0.2])
    kept = [keep(draft, ranked, count) for count in range(6)]
    assert [len(each) for each in kept] == [0, 0, 2, 2, 4, 5]
    assert [each.height for each in kept] == [0, 0, 1, 1, 2, 3]


def test_a_level_of_sampled_nodes_is_kept_whole_or_not_at_all():
    # one level of four nodes: worth 0.75, each node costs 0.2
    spending = Spending(LinearCost(0.2))
    assert len(spending.spend([sampled([-1] * 4, 1.0)])[0]) == 0
    assert len(Spending(LinearCost(0.1)).spend([sampled([-1] * 4, 0.0)])[0]) == 4


def test_the_floor_of_a_plan_is_the_price_of_a_node():
    spending = Spending(LinearCost(0.02), limit=Budget(16, depth=5))
    budget = spending.plan(1)
    assert (budget.nodes, budget.depth) == (16, 5)
    assert budget.floor == pytest.approx(0.02)
    assert Spending(GeometricCost(1.05)).plan(1).floor == pytest.approx(0.05)
    assert Spending(LinearCost(3.0)).plan(1).floor == 1.0
    assert spending.plan(4).floor == pytest.approx(0.08)  # a second is worth four tokens
    assert spending.plan(4, padded=True).floor == pytest.approx(0.04)  # some cost nothing


def test_the_price_rises_with_the_pace():
    cost = LinearCost(0.1)
    spending = Spending(cost)
    draft = Draft.chain(range(8), confidence=0.8)
    before = len(spending.spend([draft])[0])
    for _ in range(2000):
        cut = spending.spend([draft])
        spending.observe(PassReport(True, cut, [len(cut[0])], 0, False, 0.0, None))
    assert spending.speedup() == pytest.approx(
        max((1 + n) / cost.seconds(n) for n in range(9) if n == len(cut[0])), rel=0.05
    )
    assert len(spending.spend([draft])[0]) < before


@pytest.mark.parametrize("nodes", [5, 40])
def test_a_pass_of_few_nodes_is_cut_as_one_of_many(nodes):
    random = np.random.default_rng(nodes)
    drafts = [
        Draft.chain(range(nodes), confidence=random.uniform(0.7, 1.0, nodes)) for _ in range(20)
    ]
    ranked = [rank(draft) for draft in drafts]
    curve = times(CURVES[0], nodes * len(drafts))
    counts = best_prefix(ranked, 0.5, curve)
    gains = np.sort(np.concatenate([each.gains for each in ranked]))[::-1]
    worth = np.cumsum(gains) - 0.5 * (curve[1:] - curve[0])
    assert sum(counts) == int(worth.argmax()) + 1


def test_plain_steps_in_a_row_are_seldom_timed():
    class Counted(MeasuredCost):
        timed = 0

        def observe(self, drafted, seconds, *, batch=1, context=0):
            self.timed += 1
            super().observe(drafted, seconds, batch=batch, context=context)

    cost = Counted()
    spending = Spending(cost)
    for _ in range(1000):
        spending.observe(PassReport(True, [Draft.empty()], [0], 5, False, 0.0, 1.0))
    assert 60 < cost.timed < 150
    for _ in range(1000):
        spending.observe(PassReport(True, [Draft.chain([1])], [0], 5, False, 0.0, 1.1))
    assert 300 < cost.timed < 450


def test_settings_of_specs():
    assert Spending.of(0.03).cost == LinearCost(0.03)
    assert isinstance(Spending.of("auto").cost, MeasuredCost)
    curve = GeometricCost(1.05)
    assert Spending.of("auto", auto=curve, limit=Budget(7)).cost is curve
    assert Spending.of("auto", auto=curve, limit=Budget(7)).limit == Budget(7)


# the account


@given(
    st.lists(st.tuples(st.floats(1.0, 5.0), st.floats(1.0, 9.0)), max_size=300),
    st.sampled_from([0.0, 0.005, 0.1]),
)
def test_no_sequence_of_steps_loses_more_than_the_bound(steps, share):
    account = Account(share)
    lost = passed = worst = 0.0
    for time, tokens in steps:
        if not account.open:
            time = tokens = 1.0  # a plain step
        account.enter(time, tokens)
        lost += time - tokens
        passed += time
        worst = max(worst, time - tokens)
    assert lost <= 8.0 + share * passed + worst + 1e-6


def test_an_account_outside_its_limits_is_refused():
    with pytest.raises(InvalidOption, match=r"share is 1\.0"):
        Account(1.0)
    with pytest.raises(InvalidOption, match="opening balance 20"):
        Account(opening=20.0)


class World:
    """Sequences whose drafts of 8 are each accepted with a chance that changes with time."""

    def __init__(self, spending, *, slope, drafting, chance, batch=1, noise=0.0, timed=True):
        self.spending, self.slope, self.drafting = spending, slope, drafting
        self.chance, self.batch, self.noise, self.timed = chance, batch, noise, timed
        self.random = np.random.default_rng(7)
        self.time = self.tokens = 0.0
        self.asked = 0

    def run(self, steps):
        """The speed over plain decoding's so far."""
        for step in range(steps):
            budget = self.spending.plan(self.batch)
            draft = Draft.empty()
            if budget.nodes:
                self.asked += 1
                draft = Draft.chain(range(8), confidence=0.8)
            cut = self.spending.spend([draft] * self.batch)
            runs = self.random.random((self.batch, 9)) < self.chance(step)
            accepted = [
                min(len(each), int(np.argmin(run))) for each, run in zip(cut, runs, strict=True)
            ]
            drafting = self.drafting if budget.nodes and self.timed else 0.0
            verifying = 1.0 + self.slope * sum(map(len, cut))
            wall = verifying * float(np.exp(self.noise * self.random.normal()))
            self.spending.observe(
                PassReport(budget.nodes > 0, cut, accepted, 100, False, drafting, wall)
            )
            self.time += verifying + drafting
            self.tokens += 1.0 + sum(accepted) / self.batch
        return self.tokens / self.time


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(
    ("slope", "drafting"), [(0.01, 0.02), (0.3, 0.02), (0.05, 0.5), (0.0, 2.0)]
)
@pytest.mark.parametrize(
    "chance",
    [
        lambda step: 0.0,
        lambda step: 0.8 * (step < 500),
        lambda step: 0.8 * ((step // 300) % 2),
        lambda step: 0.8 * ((step // 50) % 10 == 0),
    ],
    ids=["never", "no longer", "by turns", "seldom"],
)
def test_drafting_never_costs_more_than_its_share(slope, drafting, chance, batch):
    for cost in (LinearCost(slope), MeasuredCost()):
        timed = isinstance(cost, MeasuredCost)
        world = World(
            Spending(cost), slope=slope, drafting=drafting, chance=chance, batch=batch, timed=timed
        )
        world.run(800)
        # what a pass takes has to be learned, too: its first times are taken for shorter
        worst = (8 * batch * slope + 2 * drafting) * (2.0 if timed else 1.0)
        assert world.time - world.tokens <= 8.0 + 0.006 * world.time + worst


def test_drafting_that_never_pays_is_hardly_asked_for():
    world = World(Spending(MeasuredCost()), slope=0.05, drafting=0.3, chance=lambda step: 0.0)
    world.run(2000)
    assert 5 < world.asked < 100
    assert not world.spending.plan(1).nodes
    assert not world.spending.drafting()


def test_drafting_finds_its_way_back():
    world = World(
        Spending(MeasuredCost()), slope=0.05, drafting=0.3, chance=lambda step: 0.8 * (step >= 1500)
    )
    world.run(1500)
    assert not world.spending.drafting()
    world.time = world.tokens = 0.0
    world.chance = lambda step: 0.8
    assert world.run(1500) > 1.5
    assert world.spending.drafting()


def test_noise_does_not_switch_off_what_pays():
    for noise in (0.1, 0.3):
        world = World(
            Spending(MeasuredCost()),
            slope=0.05,
            drafting=0.02,
            chance=lambda step: 0.8,
            noise=noise,
        )
        assert world.run(1500) > 2.0  # 3.1 with all known


def test_a_pass_that_computed_prompts_is_not_timed():
    cost = MeasuredCost()
    spending = Spending(cost)
    before = cost.seconds(0)
    spending.observe(PassReport(True, [Draft.empty()], [0], 5, False, 50.0, None))
    assert cost.seconds(0) == before
    assert spending.drafting()


def test_padded_passes_are_timed_by_their_rows():
    cost = MeasuredCost()
    spending = Spending(cost)
    drafts = [Draft.chain(range(6)), Draft.empty()]
    for _ in range(5):
        spending.observe(PassReport(True, drafts, [6, 0], 5, True, 0.0, 2.0))
    assert cost.seconds(12, batch=2, context=5) == pytest.approx(2.0, rel=0.05)


def test_batch_sizes_are_switched_apart():
    spending = Spending(LinearCost(0.01))
    for _ in range(50):
        budget = spending.plan(16)
        cut = spending.spend([Draft.chain(range(8)) if budget.nodes else Draft.empty()] * 16)
        spending.observe(PassReport(budget.nodes > 0, cut, [0] * 16, 0, False, 0.0, None))
    assert not spending.drafting(16)
    assert spending.drafting(1)
