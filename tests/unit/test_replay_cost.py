from __future__ import annotations

import pytest

from draftwood.budget.cost import CurveCost, GeometricCost, LinearCost
from draftwood.budget.spender import PassReport
from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_priced_drafter
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.none import NoDraft
from draftwood.errors import InvalidOption
from draftwood.logs.call import Record
from draftwood.replay.cost import Clock, spender_for
from draftwood.replay.run import replay


class Scripted:
    """Proposes the given trees in turn; remembers which requests it served, step by step."""

    def __init__(self, drafts=()):
        self.drafts = drafts
        self.served: list[int] = []

    def open(self, prompt, *, namespace=""):
        return _ScriptedStream(self, int(prompt[0]))


class _ScriptedStream:
    def __init__(self, drafter, request):
        self.drafter, self.request, self.left = drafter, request, iter(drafter.drafts)

    def propose(self, budget):
        self.drafter.served.append(self.request)
        return next(self.left, Draft.empty())

    def observe(self, feedback): ...

    def close(self): ...


class Told:
    """A spender that changes nothing and remembers what it was told."""

    def __init__(self) -> None:
        self.spent: list[PassReport] = []
        self.batches: list[int] = []

    def plan(self, batch, context=0, *, padded=False):
        self.batches.append(batch)
        return Budget(64)

    def spend(self, drafts, context=0, *, padded=False):
        return list(drafts)

    def observe(self, spent):
        self.spent.append(spent)


def record(prompt, response, session=None):
    return Record(as_tokens(prompt), as_tokens(response), session)


def one(records, drafter, **options):
    return replay(records, {"d": drafter}, **options)["d"]


def test_the_clock_counts_what_passes_would_take():
    drafts = [Draft.chain([5, 6]), Draft.chain([9])]
    figures = one([record([1], [5, 6, 7, 8, 9])], Scripted(drafts), cost=LinearCost(0.25))
    # [5 6]7 takes 1.5, [9]8 takes 1.25, 9 takes 1: 5 tokens in 3.75 for 5 plain steps
    assert figures.clock.seconds == 3.75
    assert figures.predicted_speedup == pytest.approx(5 / 3.75)
    assert figures.as_dict()["predicted_speedup"] == pytest.approx(5 / 3.75)


def test_a_response_that_ends_inside_a_draft_counts_its_own_tokens_only():
    figures = one([record([1], [5, 6])], Scripted([Draft.chain([5, 6, 7])]), cost=LinearCost(0.5))
    assert figures.predicted_speedup == pytest.approx(2 / 2.5)


@pytest.mark.parametrize(
    "cost", [LinearCost(0.1, step=7.0), GeometricCost(1.05), CurveCost.of([[0, 3.0], [4, 5.0]])]
)
def test_plain_decoding_is_as_fast_as_itself_at_every_cost(cost):
    records = [record([1], [5, 6, 7]), record([2], [5])]
    for options in ({}, {"interleave": 2}, {"batch": 2}):
        assert one(records, NoDraft(), cost=cost, **options).predicted_speedup == pytest.approx(1.0)


def test_without_a_cost_nothing_is_predicted():
    figures = one([record([1], [5])], NoDraft())
    assert figures.predicted_speedup is None
    assert "predicted_speedup" not in figures.as_dict()


def test_spenders_see_simulated_time():
    told = Told()
    one(
        [record([1], [5, 6, 7])],
        Scripted([Draft.chain([5])]),
        spenders={"d": told},
        cost=LinearCost(0.5),
    )
    assert [each.pass_seconds for each in told.spent] == [1.5, 1.0]
    assert {each.draft_seconds for each in told.spent} == {0.0}


def test_a_spender_cuts_what_does_not_pay():
    # half of what is drafted is wrong; a draft token that costs a step pays for none
    records = [record([1], [5, 6] * 20)]
    free, dear = (
        one(records, PromptLookup(), spenders={"d": spender_for(make_priced_drafter(spec), None)})
        for spec in ("lookup:cost=0", "lookup:cost=1.5")
    )
    assert free.stats.drafted > 0
    assert dear.stats.drafted < free.stats.drafted


def test_requests_of_a_batch_share_passes_and_their_cost():
    told = Told()
    records = [record([n], [5, 6, 7]) for n in (1, 2, 3)]
    figures = one(
        records,
        Scripted([Draft.chain([5])]),
        spenders={"d": told},
        batch=2,
        cost=CurveCost.of({1: [[0, 1.0], [2, 2.0]], 2: [[0, 1.2], [2, 1.6]]}),
    )
    # two requests: 5 drafted each, t(2) = 1.6; then 7 for both, t(0) = 1.2; then the third alone
    assert told.batches == [2, 2, 1, 1]
    assert figures.clock.seconds == pytest.approx(1.6 + 1.2 + 1.5 + 1.0)
    assert figures.predicted_speedup == pytest.approx((6 * 1.2 / 2 + 3 * 1.0) / 5.3)
    assert figures.stats.tokens == 9


def test_a_batch_keeps_the_calls_of_a_session_in_order():
    drafter = Scripted()
    records = [record([1], [7, 7], "a"), record([2], [7, 7], "a"), record([3], [7, 7], "b")]
    figures = one(records, drafter, batch=2)
    assert drafter.served == [1, 3, 1, 3, 2, 2]
    assert figures.stats.sequences == 3


def test_a_batch_waits_for_a_session_though_many_others_come():
    drafter = Scripted()
    records = [record([n], [7] * 3, "a") for n in range(40)]
    records += [record([n + 40], [7], None) for n in range(3)]
    figures = one(records, drafter, batch=2)
    first = list(dict.fromkeys(drafter.served))
    assert [n for n in first if n < 40] == list(range(40))
    assert figures.stats.tokens == 123


@pytest.mark.parametrize("batch", [1, 2, 5, 16])
def test_a_batch_gives_every_token_once(batch):
    records = [record([1], [7] * n, str(n % 3)) for n in range(1, 12)]
    figures = one(records, PromptLookup(), batch=batch)
    assert figures.stats.tokens == sum(range(1, 12))
    assert figures.stats.sequences == 11


def test_batch_and_interleave_exclude_each_other():
    with pytest.raises(InvalidOption, match="give one of them"):
        replay([], {}, interleave=2, batch=2)
    with pytest.raises(InvalidOption, match="batch is 0"):
        replay([], {}, batch=0)


def test_auto_needs_a_cost():
    priced = make_priced_drafter("lookup:cost=auto")
    with pytest.raises(InvalidOption, match=r"lookup:cost=auto asks for cost=auto.*--cost-curve"):
        spender_for(priced, None, spec="lookup:cost=auto")
    cost = GeometricCost(1.05)
    assert spender_for(priced, cost).cost is cost
    assert spender_for(make_priced_drafter("lookup"), cost) is None
    assert spender_for(make_priced_drafter("lookup:cost=0.01"), cost).cost == LinearCost(0.01)


def test_a_clock_without_a_spender_lets_all_drafts_be_verified():
    clock = Clock(LinearCost(0.1))
    assert clock.plan(1).nodes == 64
    draft = Draft.chain([1, 2])
    assert clock.spend([draft]) == [draft]
