"""Graph-structured drafting on a toy small model."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, as_tokens
from draftwood.drafters.small.gain import Gain
from draftwood.drafters.small.grow import ModelDrafter
from draftwood.drafters.small.shapes import ConfidenceWidths, Shape
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback, Verdict
from draftwood.sampling.ranking import k_likeliest
from draftwood.testing import WORDS, ToyDraftModel, ToyTarget, greedy_text, hash_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

PROMPT = as_tokens([1, 2, 3])
BOLD = {"siblings": 0.02, "probability": 0.01}


def gsd(model, *, gain=0, **options):
    return ModelDrafter(model, Shape.gsd(**options), gain=gain)


def text_of(drafter, row, count=60, **options):
    steps = list(
        decode(ToyTarget(row), drafter, Greedy(), PROMPT, stop=Stop(max_tokens=count), **options)
    )
    return [token for step in steps for token in step.tokens.tolist()], steps


def paths(draft):
    return {tuple(draft.tokens[draft.path(node)].tolist()) for node in range(len(draft))}


class Watched(ToyDraftModel):
    """A toy that checks, on every `keep`, that the rows kept belong to the accepted tokens."""

    def open(self, prompt):
        seat = super().open(prompt)
        seat.kept = []
        keep = seat.keep
        seat.keep = lambda path, tokens: (
            seat.kept.append((len(path), len(tokens))),
            keep(path, tokens),
        )
        self.seat = seat
        return seat


@pytest.mark.parametrize("overlap", [None, 0, 1, 2])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_text_is_the_targets_own_and_only_right_rows_are_kept(overlap, order):
    row = hash_model(order=order)
    small = hash_model(order=order, seed=0 if overlap else 1)
    model = Watched(small)
    text, _ = text_of(gsd(model, overlap=overlap, **BOLD), row)
    assert text == greedy_text(row, PROMPT.tolist(), 60)
    # ToyDraftSeat.keep raises on a path of other tokens, and decode would log and go on:
    assert sum(tokens for _, tokens in model.seat.kept) == 60


def test_a_path_over_a_merged_edge_is_kept_up_to_the_merge_only():
    # 1 -> 2 or 3, each then 4, then 5: `3 4` meets `2 4` with overlap 0
    def row(prefix):
        logits = np.full(12, -9.0)
        for token in {1: (2, 3), 2: (4,), 3: (4,), 4: (5,), 5: (6,)}.get(prefix[-1], (0,)):
            logits[token] = 0.1 * (token == 2)
        return logits

    for token, kept in ((2, 3), (3, 1)):
        model = Watched(row)
        drafter = ModelDrafter(model, Shape.gsd(overlap=0, siblings=0.5, levels=5), gain=0)
        stream = drafter.open(as_tokens([0, 1]))
        draft = stream.propose(Budget(32))
        accepted = (token, 4, 5)
        assert accepted in paths(draft)
        assert drafter.counts.merged == 1
        path, at = [], ROOT
        for wanted in accepted:
            at = next(c for c in draft.children(at).tolist() if draft.tokens[c] == wanted)
            path.append(at)
        verdict = Verdict(np.array(path, dtype=np.int32), 9)
        stream.observe(Feedback(draft, verdict, verdict.tokens(draft)))
        assert model.seat.kept == [(kept, 4)]


def test_the_example_of_the_docs():
    follow = {
        ".": {"the": 0.6, "a": 0.4},
        "the": {"cat": 0.7, "dog": 0.3},
        "a": {"cat": 0.5, "dog": 0.5},
        "cat": {"sees": 0.8, "and": 0.2},
        "dog": {"sees": 1.0},
    }

    def row(prefix):
        logits = np.full(len(WORDS), -30.0)
        for word, q in follow[WORDS[prefix[-1]]].items():
            logits[WORDS.index(word)] = np.log(q)
        return logits

    drafts = {}
    for overlap, nodes, merged, rows in ((None, 12, 0, 6), (0, 6, 3, 4)):
        drafter = ModelDrafter(
            ToyDraftModel(row),
            Shape.gsd(overlap=overlap, siblings=0.01, probability=0, levels=3),
            gain=0,
        )
        draft = drafter.open(as_tokens([WORDS.index(".")])).propose(Budget(64))
        counts = drafter.counts
        assert (counts.nodes, counts.merged, counts.rows) == (nodes, merged, rows)
        assert counts.passes == 3
        drafts[overlap] = [
            (
                " ".join(WORDS[token] for token in draft.tokens[draft.path(node)]),
                round(float(np.prod(draft.confidence[draft.path(node)])), 2),
            )
            for node in range(len(draft))
        ]
    assert drafts[0] == drafts[None]
    assert drafts[0][:7] == [
        ("the", 0.6),
        ("the cat", 0.42),
        ("a", 0.4),
        ("the cat sees", 0.34),
        ("a cat", 0.2),
        ("a dog", 0.2),
        ("a dog sees", 0.2),
    ]
    assert len(drafts[0]) == 12


def test_the_targets_own_token_is_kept_too_where_the_graph_held_it():
    model = Watched(hash_model(order=1))
    stream = gsd(model, overlap=None, **BOLD).open(PROMPT)
    draft = stream.propose(Budget(8))
    first = int(draft.tokens[0])
    # the step accepts nothing, but its token is one that the small model saw
    verdict = Verdict(np.empty(0, dtype=np.int32), first)
    stream.observe(Feedback(draft, verdict, verdict.tokens(draft)))
    assert model.seat.kept == [(1, 1)]


def test_without_merging_it_drafts_the_likeliest_paths_of_the_small_model():
    small = hash_model(vocab_size=5, order=2)
    drafter = ModelDrafter(
        ToyDraftModel(small, 5),
        Shape.gsd(
            overlap=None, siblings=0.0, probability=0.0, top_k=5, levels=3, width=99, nodes=12
        ),
        gain=0,
    )
    draft = drafter.open(PROMPT).propose(Budget(64, depth=3))

    def law(prefix):
        weights = np.exp(small(prefix))
        return weights / weights.sum()

    everything = {}
    level = {(): 1.0}
    for _ in range(3):
        level = {
            (*path, token): value * q
            for path, value in level.items()
            for token, q in enumerate(law((*PROMPT.tolist(), *path)))
        }
        everything |= level
    best = sorted(everything, key=everything.get, reverse=True)[:12]
    assert paths(draft) == set(best)


def test_what_cannot_join_the_draft_is_not_passed_through_the_model():
    def row(prefix):  # 1 -> 2 -> 3 -> ..., nearly sure
        logits = np.zeros(12)
        logits[(prefix[-1] + 1) % 12] = 8.0
        return logits

    drafter = ModelDrafter(
        ToyDraftModel(row), Shape.gsd(siblings=0, probability=0, overlap=None), gain=0
    )
    draft = drafter.open(PROMPT).propose(Budget(4))
    assert paths(draft) == {(4,), (4, 5), (4, 5, 6), (4, 5, 6, 7)}
    assert drafter.counts.nodes == 16
    assert drafter.counts.rows == 3  # a chain: the siblings stay leaves


def test_merged_nodes_are_not_drafted_again():
    # order 1: what follows a token depends on nothing else, so that merging is exact
    row = hash_model(order=1)
    rows, drafts = {}, {}
    for overlap in (None, 0):
        model = Watched(row)
        drafter = gsd(model, overlap=overlap, levels=6, **BOLD)
        stream = drafter.open(PROMPT)
        drafts[overlap] = stream.propose(Budget(32))
        rows[overlap] = drafter.counts.rows
        assert model.seat.rows == drafter.counts.rows
        assert model.seat.passes == drafter.counts.passes
        assert (drafter.counts.merged > 0) == (overlap == 0)
    assert rows[0] < rows[None]
    assert drafts[0].expected >= 0.95 * drafts[None].expected


def test_nothing_is_drafted_behind_an_end_token():
    def row(prefix):  # 4 5 6 ..., sure
        logits = np.full(12, -50.0)
        logits[(prefix[-1] + 1) % 12] = 0.0
        return logits

    model = ToyDraftModel(row)
    model.end_tokens = frozenset([6])
    drafter = ModelDrafter(model, Shape.gsd(), gain=0)
    assert drafter.open(PROMPT).propose(Budget(8)).tokens.tolist() == [4, 5, 6]
    assert drafter.counts.passes == 3


def test_passes_must_promise_their_gain():
    def row(prefix):  # two likely words, and four behind each of them
        return np.log([0.6, 0.4] if len(prefix) == len(PROMPT) else [0.25] * 4)

    draft = {}
    for gain in (0, 0.9, 1.1):
        options = {"siblings": 0, "probability": 0, "levels": 3, "overlap": None}
        drafter = gsd(ToyDraftModel(row), gain=gain, **options)
        drafter.gain._came = drafter.gain._promised  # what is promised comes true
        draft[gain] = drafter.open(PROMPT).propose(Budget(64))
    assert [draft[gain].height for gain in (0, 0.9, 1.1)] == [3, 3, 1]


def test_the_gain_is_told_what_was_promised_and_what_came():
    told = []

    class Recorded(Gain):
        def record(self, promised, came):
            told.append((promised, came))

        def begin(self):
            told.append("begin")

        def time(self, passes, pass_seconds, tokens):
            told.append((passes, pass_seconds > 0, tokens))

    def row(prefix):  # 4 5 6 ..., sure
        logits = np.full(12, -50.0)
        logits[(prefix[-1] + 1) % 12] = 0.0
        return logits

    drafter = ModelDrafter(ToyDraftModel(row), Shape.gsd(levels=4))
    drafter.gain = Recorded(0)
    stream = drafter.open(PROMPT)
    for accepted in (4, 1, 0):
        draft = stream.propose(Budget(8))
        verdict = Verdict(np.arange(accepted, dtype=np.int32), 3)
        stream.observe(Feedback(draft, verdict, verdict.tokens(draft)))
    assert told == [(3.0, 3), "begin", (3.0, 0), (4, True, 2), (3.0, 0), (4, True, 1)]


def test_counts_add_up_over_threads():
    drafter = gsd(ToyDraftModel(hash_model()), **BOLD)
    alone = gsd(ToyDraftModel(hash_model()), **BOLD)
    text_of(alone, hash_model(), 30)

    def run(_):
        return text_of(drafter, hash_model(), 30)[0]

    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(run, range(8)))
    assert len({tuple(text) for text in texts}) == 1
    for name in ("drafts", "nodes", "merged", "passes", "rows"):
        assert getattr(drafter.counts, name) == 8 * getattr(alone.counts, name)
    assert 0 < drafter.counts.model_seconds < drafter.counts.seconds


def test_budget_levels_width_and_room_bound_a_draft():
    drafter = ModelDrafter(
        ToyDraftModel(hash_model()), Shape.gsd(levels=3, width=2, probability=0), gain=0
    )
    draft = drafter.open(PROMPT).propose(Budget(64))
    assert draft.height == 3
    assert drafter.counts.passes == 3
    assert drafter.counts.rows <= 4
    stream = drafter.open(PROMPT)
    assert stream.propose(Budget(64, depth=2)).height == 2
    assert len(stream.propose(Budget(0))) == 0
    assert len(stream.propose(Budget(5))) == 5
    stream._seat.room = 1  # one token may follow the context in the small model's cache
    assert stream.propose(Budget(64)).height == 2
    stream._seat.room = 0
    assert len(stream.propose(Budget(64))) == 0


def test_a_second_proposal_is_the_first_again():
    stream = gsd(Watched(hash_model()), **BOLD).open(PROMPT)
    one, two = stream.propose(Budget(16)), stream.propose(Budget(16))
    assert one.tokens.tolist() == two.tokens.tolist()
    verdict = Verdict(two.path(len(two) - 1), 0)
    stream.observe(Feedback(two, verdict, verdict.tokens(two)))


def test_the_budgets_floor_prunes_before_passes_are_spent():
    drafter = gsd(ToyDraftModel(hash_model()), **BOLD)
    stream = drafter.open(PROMPT)
    stream.propose(Budget(32))
    before = drafter.counts.rows
    draft = stream.propose(Budget(32, floor=0.2))
    assert drafter.counts.rows - before < before
    assert all(np.prod(draft.confidence[draft.path(n)]) >= 0.199 for n in range(len(draft)))


def test_widening_follows_the_confidence_of_the_likeliest():
    rule = ConfidenceWidths(bounds=(0.3, 0.6), widths=(4, 2, 1))
    assert [rule.width(q) for q in (0.1, 0.3, 0.31, 0.6, 0.61, 1.0)] == [4, 4, 2, 2, 1, 1]
    rows = np.log(np.array([[0.7, 0.1, 0.1, 0.1], [0.5, 0.3, 0.1, 0.1], [0.25] * 4], np.float32))
    tokens, shares = Shape.cape(rule).candidates(k_likeliest(rows, 4))
    assert tokens == [[0], [0, 1], [0, 1, 2, 3]]
    assert shares[1] == pytest.approx([0.5, 0.3])


def test_a_widened_chain_is_a_chain_with_siblings():
    drafter = ModelDrafter(ToyDraftModel(hash_model()), Shape.cape(levels=4), gain=0)
    draft = drafter.open(PROMPT).propose(Budget(64))
    assert draft.height == 4
    inner = set(draft.parents.tolist()) - {ROOT}
    assert len(inner) == 3  # one node a level has children
    for node in [ROOT, *inner]:
        below = draft.confidence[draft.children(node)]
        assert len(below) == ConfidenceWidths().width(float(below.max()))


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"width": 0},
        {"levels": 0},
        {"nodes": 0},
        {"siblings": 2.0},
        {"overlap": -1},
        {"gain": -1},
    ],
)
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        gsd(ToyDraftModel(hash_model()), **options)


@pytest.mark.parametrize(
    "options",
    [{"bounds": (0.6, 0.3, 0.8)}, {"widths": (1, 2, 3, 4)}, {"widths": (2, 1)}, {"bounds": (1.0,)}],
)
def test_widenings_that_make_no_sense_are_refused(options):
    with pytest.raises(InvalidOption):
        ConfidenceWidths(**options)
