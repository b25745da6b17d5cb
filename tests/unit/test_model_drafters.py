"""Drafters with small models: what each proposes, what it passes, and where it stops."""

from itertools import pairwise

import numpy as np
import pytest

from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.drafters.small import gain as gain_module
from draftwood.drafters.small.gain import Gain
from draftwood.drafters.small.grow import MergedDrafter, ModelDrafter
from draftwood.drafters.small.sampled import MultiCandidate
from draftwood.drafters.small.seat import DraftSeat
from draftwood.drafters.small.shapes import Shape
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback, Verdict
from draftwood.sampling.ranking import k_likeliest
from draftwood.sources import SMALL_MODEL
from draftwood.testing import ToyDraftModel, ToyTarget, greedy_text, hash_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

V = 12
PROMPT = as_tokens([3, 1, 4])
MODEL = hash_model(V, order=2, seed=5)
OTHER = hash_model(V, order=1, seed=6)


def log_row(model, prefix):
    return ToyDraftModel(model, V).open(as_tokens(prefix)).root()


def plain_seats(model):
    """A model whose seats leave ranking to `DraftSeat`."""

    class Seat(DraftSeat):
        def __init__(self, seat):
            self.seat = seat

        room = property(lambda self: self.seat.room)
        passes = property(lambda self: self.seat.passes)

        def root(self):
            return self.seat.root()

        def expand(self, tokens, parents):
            return self.seat.expand(tokens, parents)

        def keep(self, path, tokens):
            self.seat.keep(path, tokens)

        def close(self):
            self.seat.close()

    class Model:
        vocab_size, end_tokens = V, ()

        def open(self, prompt):
            return Seat(ToyDraftModel(model, V).open(prompt))

    return Model()


class Watched(ToyDraftModel):
    """A toy that keeps its seats, so that tests may look at them; with a limit, if given."""

    def __init__(self, row, room=None):
        super().__init__(row, V)
        self.seats, self.room = [], room

    def open(self, prompt):
        seat = super().open(prompt)
        seat.room = self.room
        self.seats.append(seat)
        return seat


def settled(stream, draft, accepted, bonus):
    """Tell the stream that the draft's first path was right for so many tokens."""
    path = np.arange(accepted, dtype=np.int32)
    tokens = as_tokens([*draft.tokens[path].tolist(), bonus])
    stream.observe(Feedback(draft, Verdict(path, bonus), tokens))
    return tokens


# ---------------------------------------------------------------------------------------- ranking


@pytest.mark.parametrize("k", [1, 3, 8, 9, 40])
def test_the_likeliest_come_first_and_equals_by_the_lower_id(k):
    rows = np.random.default_rng(k).integers(0, 9, (5, 30)).astype(np.float32)
    before = rows.copy()
    top = k_likeliest(rows, k)
    assert top.tokens.shape == (5, min(k, 30))
    assert (top.tokens.dtype, top.logprobs.dtype) == (np.int32, np.float32)
    for row, tokens, logs in zip(rows.tolist(), top.tokens.tolist(), top.logprobs, strict=True):
        ranked = sorted(range(30), key=lambda token: (-row[token], token))[:k]
        assert sorted(row[token] for token in tokens) == sorted(row[token] for token in ranked)
        assert [row[token] for token in tokens] == logs.tolist()
        assert all((-row[a], a) < (-row[b], b) for a, b in pairwise(tokens))
        if k <= 8:
            assert tokens == ranked
    assert (rows == before).all()


# ------------------------------------------------------------------------------------------ chain


def test_a_chain_holds_the_models_greedy_text_with_its_probabilities():
    model = Watched(MODEL)
    stream = ModelDrafter(model, Shape.chain(5), gain=0).open(PROMPT)
    draft = stream.propose(Budget(32))
    text = greedy_text(MODEL, PROMPT.tolist(), 5)
    assert draft.tokens.tolist() == text
    assert draft.is_chain
    assert draft.proposal is None
    for at, token in enumerate(text):
        q = np.exp(log_row(MODEL, [*PROMPT.tolist(), *text[:at]])[token])
        assert draft.confidence[at] == pytest.approx(q, rel=1e-5)
    assert model.seats[0].passes == 5
    assert model.seats[0].rows == 4  # the last token is not passed


def test_a_chain_goes_on_behind_what_was_accepted_without_passing_it_again():
    model = Watched(MODEL)
    stream = ModelDrafter(model, Shape.chain(4), gain=0).open(PROMPT)
    context, rows = PROMPT.tolist(), 0
    for accepted in (4, 2, 0):
        draft = stream.propose(Budget(32))
        assert draft.tokens.tolist() == greedy_text(MODEL, context, 4)
        assert model.seats[0].rows - rows == 3
        rows = model.seats[0].rows
        context += settled(stream, draft, accepted, 7).tolist()
        assert model.seats[0].context == tuple(context)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: ModelDrafter(model, Shape.chain(), gain=0),
        lambda model: ModelDrafter(model, Shape.expansion((3, 2, 2)), gain=0),
        lambda model: ModelDrafter(model, Shape.best_first(), gain=0),
        lambda model: MergedDrafter(
            [
                ModelDrafter(model, Shape.expansion((2, 2)), gain=0),
                ModelDrafter(ToyDraftModel(OTHER, V), Shape.expansion((2, 2)), gain=0),
            ]
        ),
        lambda model: MultiCandidate(model, widths=(2, 2, 1)),
    ],
)
@pytest.mark.parametrize("budget", [Budget(5), Budget(32, 2), Budget(1), Budget(32, 0), Budget(0)])
def test_drafts_stay_within_their_budget(make, budget):
    draft = make(ToyDraftModel(MODEL, V)).open(PROMPT).propose(budget)
    assert len(draft) <= budget.nodes
    assert draft.height <= budget.reach
    assert bool(len(draft)) == bool(budget.reach) or budget.nodes == 1


def test_nodes_below_the_floor_are_neither_drafted_nor_passed():
    model = Watched(MODEL)
    free = ModelDrafter(model, Shape.best_first(floor=0), gain=0).open(PROMPT).propose(Budget(32))
    assert worth(free).min() < 0.1
    draft = (
        ModelDrafter(model, Shape.best_first(), gain=0).open(PROMPT).propose(Budget(32, None, 0.1))
    )
    assert worth(draft).min() >= 0.1
    assert model.seats[1].rows < model.seats[0].rows


def worth(draft):
    """The product of confidences down the path, for every node."""
    return np.array([draft.confidence[draft.path(node)].prod() for node in range(len(draft))])


@pytest.mark.parametrize("room", [0, 1, 3])
def test_drafts_end_with_the_small_models_context(room):
    for make in (
        lambda model: ModelDrafter(model, Shape.chain(8), gain=0),
        lambda model: ModelDrafter(model, Shape.expansion((2,) * 6), gain=0),
        lambda model: ModelDrafter(model, Shape.best_first(), gain=0),
        lambda model: MultiCandidate(model, widths=(2, 1, 1, 1, 1, 1)),
    ):
        draft = make(Watched(MODEL, room)).open(PROMPT).propose(Budget(500))
        # room for 3 tokens: the third can be passed, and its row names a fourth
        assert draft.height == (room + 1 if room else 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: ModelDrafter(model, Shape.chain(), gain=0),
        lambda model: ModelDrafter(model, Shape.expansion((4, 4, 4)), gain=0),
        lambda model: ModelDrafter(model, Shape.best_first(floor=0), gain=0),
        lambda model: MultiCandidate(model, widths=(6, 2, 2)),
    ],
)
def test_nothing_is_drafted_behind_an_end_token(make):
    free, ending = Watched(MODEL), Watched(MODEL)
    first = make(free).open(PROMPT).propose(Budget(64))
    parents = [int(first.tokens[parent]) for parent in first.parents if parent != ROOT]
    end = parents[0]
    ending.end_tokens = {end}
    draft = make(ending).open(PROMPT).propose(Budget(64))
    assert end in draft.tokens
    assert all(draft.tokens[parent] != end for parent in draft.parents if parent != ROOT)
    assert ending.seats[0].rows < free.seats[0].rows or len(draft) == 64


# ------------------------------------------------------------------------------------------- gain


def test_a_pass_is_made_while_it_promises_enough():
    """The model is sure of each token with 0.8; a pass at depth d promises 0.8^d."""

    def row(prefix):
        logits = np.full(V, np.log(0.2 / (V - 1)))
        logits[(prefix[-1] + 1) % V] = np.log(0.8)
        return logits

    for least, length in ((0.0, 8), (0.3, 5), (0.5, 3), (0.65, 1)):
        drafter = ModelDrafter(ToyDraftModel(row, V), Shape.chain(8), gain=least)
        draft = drafter.open(PROMPT).propose(Budget(32))
        # rate begins at 0.8: 0.8 * 0.8^d >= least
        assert len(draft) == length, least


def test_the_rate_follows_what_came_of_promises_and_recovers_without_any():
    gain = Gain(0.5)
    assert gain.pays(0.7)
    for _ in range(300):
        gain.record(2.0, 0)
    assert gain.rate < 0.15
    assert not gain.pays(1.0)
    for _ in range(1000):
        gain.record(0.0, 0)
    assert gain.rate == pytest.approx(0.8, abs=0.01)
    for _ in range(300):
        gain.record(0.5, 1)
    assert 1.2 < gain.rate < 2.0
    assert not gain.pays(0.0)


def test_a_measured_gain_is_the_time_of_a_pass_at_the_present_pace(monkeypatch):
    now = 100.0
    monkeypatch.setattr(gain_module, "perf_counter", lambda: now)
    gain = Gain("auto")
    gain.begin()
    for _ in range(200):
        now += 8.0
        gain.time(5, 5.0, 4)  # a pass takes 1 s, a token 2 s
    assert gain.gain == pytest.approx(0.5)
    now += 1000.0
    gain.begin()  # between two requests nothing is counted
    now += 8.0
    gain.time(5, 5.0, 4)
    assert gain.gain == pytest.approx(0.5)
    for _ in range(400):
        now += 4.0
        gain.time(5, 5.0, 4)  # a token takes 1 s now
    assert gain.gain == pytest.approx(1.0, abs=0.01)


def test_a_given_gain_is_not_measured():
    gain = Gain(0.25)
    gain.begin()
    gain.time(3, 1.0, 1)
    assert gain.gain == 0.25


@pytest.mark.parametrize("wrong", [-1, "often", float("nan")])
def test_a_gain_that_is_none_is_refused(wrong):
    with pytest.raises(InvalidOption, match="gain is"):
        Gain(wrong)


# ------------------------------------------------------------------------------------------ trees


def paths_of(draft):
    return {tuple(draft.tokens[draft.path(node)].tolist()) for node in range(len(draft))}


def test_specinfer_expands_each_node_of_a_level_to_its_likeliest_tokens():
    model = Watched(MODEL)
    draft = ModelDrafter(model, Shape.expansion((3, 2, 1)), gain=0).open(PROMPT).propose(Budget(64))
    expected, level = set(), [()]
    for width in (3, 2, 1):
        level = [
            (*path, token)
            for path in level
            for token in np.argsort(-log_row(MODEL, [*PROMPT.tolist(), *path]), kind="stable")[
                :width
            ].tolist()
        ]
        expected |= set(level)
    assert paths_of(draft) == expected
    assert len(draft) == 3 + 6 + 6
    assert model.seats[0].passes == 3
    assert model.seats[0].rows == 3 + 6
    values = worth(draft)
    assert (np.diff(values) <= 1e-7).all()  # best first


def test_a_small_budget_keeps_the_likeliest_paths_and_passes_no_others():
    model = Watched(MODEL)
    drafter = ModelDrafter(model, Shape.expansion((4, 4, 4)), gain=0)
    whole = drafter.open(PROMPT).propose(Budget(500))
    small = drafter.open(PROMPT).propose(Budget(6))
    assert paths_of(small) == paths_of(whole.cut(nodes=6))
    assert model.seats[1].rows < model.seats[0].rows


def test_trees_of_several_models_are_merged_by_their_paths():
    one, other = Watched(MODEL), Watched(OTHER)
    trees = [
        ModelDrafter(model, Shape.expansion((3, 2)), gain=0).open(PROMPT).propose(Budget(64))
        for model in (one, other)
    ]
    drafter = MergedDrafter(
        [
            ModelDrafter(one, Shape.expansion((3, 2)), gain=0),
            ModelDrafter(other, Shape.expansion((3, 2)), gain=0),
        ]
    )
    stream = drafter.open(PROMPT)
    draft = stream.propose(Budget(64))
    assert paths_of(draft) == paths_of(trees[0]) | paths_of(trees[1])
    assert len(paths_of(draft)) == len(draft)
    shares = [
        {tuple(tree.tokens[tree.path(at)].tolist()): tree.confidence[at] for at in range(len(tree))}
        for tree in trees
    ]
    for node in range(len(draft)):
        path = tuple(draft.tokens[draft.path(node)].tolist())
        found = [share[path] for share in shares if path in share]
        assert draft.confidence[node] == max(found)
        assert draft.source[node] == SMALL_MODEL + (path not in shares[0])
    assert (np.diff(worth(draft)) <= 1e-7).all()
    settled(stream, draft, 1, 7)
    for model in (one, other):
        assert model.seats[-1].context == (*PROMPT.tolist(), int(draft.tokens[0]), 7)
    assert drafter.counts.passes == 4
    assert drafter.counts.nodes == sum(map(len, trees))


def test_best_first_finds_the_likeliest_paths_of_all():
    """Against all paths of four tokens: 12 candidates, all nodes of a level in a pass."""
    drafter = ModelDrafter(
        ToyDraftModel(MODEL, V),
        Shape.best_first(nodes=20, top_k=V, width=10_000, passes=4, floor=0),
        gain=0,
    )
    draft = drafter.open(PROMPT).propose(Budget(64))
    values, level = {}, [((), 0.0)]
    for _ in range(4):
        level = [
            ((*path, token), log + share)
            for path, log in level
            for token, share in enumerate(log_row(MODEL, [*PROMPT.tolist(), *path]).tolist())
        ]
        level.sort(key=lambda entry: -entry[1])
        level = level[:40]  # what is behind cannot come among the best 20
        values |= dict(level)
    best = sorted(values, key=values.__getitem__, reverse=True)[:20]
    assert paths_of(draft) == set(best)


def test_best_first_passes_the_likeliest_open_nodes_wherever_they_stand():
    r"""A narrow search comes back to an earlier level where that has become the likelier one.

        context       pass 1 takes a (.6), whose children are unlikely; pass 2 takes b (.4),
        /     \       which stands on the level above
     a .6    b .4
     |||||    |
    .03 each  c .4
    """
    a, b, c = 0, 1, 2
    rows = {PROMPT[-1]: {a: 0.6, b: 0.4}, a: dict.fromkeys(range(V), 0.05), b: {c: 1.0}}

    def row(prefix):
        shares = np.full(V, 1e-9)
        for token, share in rows.get(prefix[-1], {3: 1.0}).items():
            shares[token] = share
        return np.log(shares / shares.sum())

    model = Watched(row)
    drafter = ModelDrafter(
        model, Shape.best_first(nodes=8, top_k=4, width=1, passes=3, floor=0), gain=0
    )
    draft = drafter.open(PROMPT).propose(Budget(64))
    assert (b, c) in paths_of(draft)
    assert model.seats[0].passes == 3


def test_best_first_leaves_no_place_of_a_pass_to_nodes_that_end_the_text():
    """`a` ends it and is the likeliest open node for ever; each pass of one row goes to another."""
    a, b, c = 0, 1, 2

    def row(prefix):
        shares = np.full(V, 1e-9)
        shares[{b: c, c: b}.get(prefix[-1], b)] = 0.4
        shares[a if prefix[-1] == PROMPT[-1] else 3] = 0.6
        return np.log(shares / shares.sum())

    model = Watched(row)
    model.end_tokens = {a, 3}
    shape = Shape.best_first(nodes=8, top_k=2, width=1, passes=3, floor=0)
    draft = ModelDrafter(model, shape, gain=0).open(PROMPT).propose(Budget(64))
    assert (b, c) in paths_of(draft)
    assert model.seats[0].passes == 3


def test_an_accepted_branch_keeps_its_rows():
    model = Watched(MODEL)
    stream = ModelDrafter(model, Shape.best_first(nodes=16), gain=0).open(PROMPT)
    draft = stream.propose(Budget(64))
    deep = int(np.argmax(draft.depths))
    path = draft.path(deep)
    tokens = as_tokens([*draft.tokens[path].tolist(), 7])
    stream.observe(Feedback(draft, Verdict(path, 7), tokens))
    assert model.seats[0].context == (*PROMPT.tolist(), *tokens.tolist())
    assert len(stream.propose(Budget(64)))


@pytest.mark.parametrize(
    "make",
    [
        lambda model: ModelDrafter(model, Shape.chain(3), gain=0),
        lambda model: ModelDrafter(model, Shape.expansion((2, 2, 2)), gain=0),
        lambda model: ModelDrafter(model, Shape.best_first(width=2, passes=3, floor=0), gain=0),
        lambda model: MultiCandidate(model, widths=(2, 2, 2)),
        lambda model: MultiCandidate(model, widths=(3, 2, 1), draw="independent"),
    ],
)
def test_what_was_passed_and_accepted_is_handed_to_the_cache(make):
    kept = []

    class Model(Watched):
        def open(self, prompt):
            seat = super().open(prompt)
            plain = seat.keep

            def keep(path, tokens):
                kept.append(seat._nodes[int(path[-1])][len(seat.context) :] if len(path) else ())
                plain(path, tokens)

            seat.keep = keep
            return seat

    stream = make(Model(MODEL)).open(PROMPT)
    draft = stream.propose(Budget(64))
    deepest = int(np.argmax(draft.depths))
    path = draft.path(deepest)
    assert len(path) == 3
    tokens = as_tokens([*draft.tokens[path].tolist(), 7])
    stream.observe(Feedback(draft, Verdict(path, 7), tokens))
    assert kept == [tuple(tokens[:2].tolist())]  # the leaf did not go through the model


def test_streams_learn_what_their_passes_are_worth():
    for make in (
        lambda: ModelDrafter(ToyDraftModel(MODEL, V), Shape.chain(4), gain=0),
        lambda: MultiCandidate(ToyDraftModel(MODEL, V), widths=(1, 1, 1, 1)),
    ):
        rates = []
        for accepted in (0, 4):
            drafter = make()
            stream = drafter.open(PROMPT)
            for _ in range(30):
                settled(stream, stream.propose(Budget(8)), accepted, 7)
            rates.append(drafter.gain.rate)
        assert rates[0] < 0.75 < 0.82 < rates[1]  # it begins at 0.8


def test_sampled_drafts_tell_how_often_each_rank_was_accepted():
    drafter = MultiCandidate(ToyDraftModel(MODEL, V), widths=(2,))
    stream = drafter.open(PROMPT)
    for turn in range(300):
        draft = stream.propose(Budget(8))
        rank = 0 if turn % 4 else 1  # the second draw is right every fourth time
        path = np.array([rank], dtype=np.int32)
        stream.observe(Feedback(draft, Verdict(path, 7), as_tokens([int(draft.tokens[rank]), 7])))
    assert stream.propose(Budget(8)).confidence == pytest.approx([0.75, 0.25], abs=0.02)


def test_a_stream_that_was_not_asked_follows_what_others_drafted():
    model = Watched(MODEL)
    for drafter in (ModelDrafter(model, Shape.chain()), MultiCandidate(model)):
        stream = drafter.open(PROMPT)
        stream.propose(Budget(8))
        foreign = Draft.chain([7, 7])
        path = np.array([0, 1], dtype=np.int32)
        stream.observe(Feedback(foreign, Verdict(path, 2), as_tokens([7, 7, 2])))
        stream.observe(Feedback(Draft.empty(), Verdict(path[:0], 5), as_tokens([5])))
        assert model.seats[-1].context == (*PROMPT.tolist(), 7, 7, 2, 5)
        assert len(stream.propose(Budget(8)))


def test_seats_that_do_not_rank_draft_the_same():
    for make in (
        lambda model: ModelDrafter(model, Shape.chain(), gain=0),
        lambda model: ModelDrafter(model, Shape.best_first(), gain=0),
    ):
        ours = make(plain_seats(MODEL)).open(PROMPT).propose(Budget(16))
        theirs = make(ToyDraftModel(MODEL, V)).open(PROMPT).propose(Budget(16))
        assert ours.tokens.tolist() == theirs.tokens.tolist()
        assert ours.parents.tolist() == theirs.parents.tolist()


@pytest.mark.parametrize(
    ("make", "drafts_all_it_finds"),
    [
        (lambda model: ModelDrafter(model, Shape.chain()), True),
        (lambda model: ModelDrafter(model, Shape.expansion((2, 2, 1))), True),
        (lambda model: ModelDrafter(model, Shape.best_first(), gain=0), False),
        (
            lambda model: MergedDrafter(
                [
                    ModelDrafter(model, Shape.expansion((2, 2)), gain=0),
                    ModelDrafter(ToyDraftModel(OTHER, V), Shape.expansion((2, 2)), gain=0),
                ]
            ),
            False,
        ),
        (lambda model: MultiCandidate(model), True),
    ],
)
def test_greedy_text_is_the_targets_and_counts_add_up(make, drafts_all_it_finds):
    def target(prefix):  # the model, with a word of its own now and then
        return MODEL(prefix) if len(prefix) % 4 else OTHER(prefix)

    drafter = make(ToyDraftModel(MODEL, V))
    steps = list(decode(ToyTarget(target), drafter, Greedy(), PROMPT, stop=Stop(max_tokens=40)))
    text = [token for step in steps for token in step.tokens.tolist()]
    assert text == greedy_text(target, PROMPT.tolist(), 40)
    assert len(steps) < 40
    counts = drafter.counts
    drafted = sum(len(step.draft) for step in steps)
    if drafts_all_it_finds:
        assert counts.nodes == drafted
    else:  # the likeliest of what was found, or what two models found alike, once
        assert counts.nodes > drafted
    asked = sum(len(step.draft) > 0 for step in steps)
    assert asked <= counts.drafts <= len(steps)
    assert counts.passes >= asked
    assert counts.seconds > 0


# ---------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda m: ModelDrafter(m, Shape.chain(0)), "gamma is 0"),
        (lambda m: ModelDrafter(m, Shape.expansion(())), "widths are"),
        (lambda m: ModelDrafter(m, Shape.expansion((2, 0))), "widths are"),
        (lambda m: MergedDrafter([]), "no small model"),
        (lambda m: ModelDrafter(m, Shape.best_first(width=0)), "width is 0"),
        (lambda m: ModelDrafter(m, Shape.best_first(floor=2)), "floor is 2"),
        (lambda m: MultiCandidate(m, draw="best"), "draw is 'best'"),
        (lambda m: MultiCandidate(m, widths=(2, 1), draw="hub"), "hub pairs need 2"),
        (lambda m: MultiCandidate(m, chance=-1), "seed -1"),
    ],
)
def test_options_outside_their_range_are_refused(make, says):
    with pytest.raises(InvalidOption, match=says):
        make(ToyDraftModel(MODEL, V))
