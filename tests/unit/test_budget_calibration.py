"""Confidence that comes true, for any drafter."""

import numpy as np
import pytest

from draftwood.budget.calibration import Calibrated, Calibrator
from draftwood.budget.spending import Spending
from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter, make_priced_drafter
from draftwood.errors import InvalidSpec
from draftwood.protocols import Feedback, Verdict
from draftwood.testing import DraftFrom

PROMPT = as_tokens([1])


def told(draft, tokens):
    path = np.empty(0, dtype=np.int32)
    return Feedback(draft, Verdict(path, int(tokens[-1])), as_tokens(tokens))


def settle(stream, tokens, nodes=32):
    draft = stream.propose(Budget(nodes))
    stream.observe(told(draft, tokens))
    return draft


def test_an_overconfident_drafter_is_believed_less():
    #  says 0.92 of every token; 3 in 10 first tokens are right, second ones always
    always = DraftFrom(lambda context, budget: Draft.chain([5, 6], confidence=0.92))
    stream = Calibrated(always).open(PROMPT)
    first = stream.propose(Budget(8)).confidence
    assert first == pytest.approx([0.93, 0.93], abs=0.03)  # not known better yet
    for turn in range(400):
        settle(stream, [5, 6, 0] if turn % 10 < 3 else [0])
    assert stream.propose(Budget(8)).confidence == pytest.approx([0.3, 1.0], abs=0.05)


def test_sources_and_evidence_are_kept_apart():
    kinds = {(0, 1): 0.2, (0, 9): 0.9, (1, 1): 0.6}
    random = np.random.default_rng(0)
    turn = 0

    def propose(context, budget):
        source, evidence = list(kinds)[turn % 3]
        draft = Draft.chain([5], confidence=0.5, source=source)
        return Draft(
            draft.tokens,
            draft.parents,
            draft.confidence,
            draft.source,
            None,
            np.array([evidence], dtype=np.uint8),
        )

    stream = Calibrated(DraftFrom(propose)).open(PROMPT)
    for turn in range(3000):
        kind = list(kinds)[turn % 3]
        settle(stream, [5, 0] if random.random() < kinds[kind] else [0])
    for turn, expected in enumerate(kinds.values()):  # noqa: B007 (propose reads it)
        assert float(stream.propose(Budget(8)).confidence[0]) == pytest.approx(expected, abs=0.06)


def test_few_outcomes_change_little_and_many_change_all():
    calibrator = Calibrator()
    draft = Draft.chain([5], confidence=0.55)
    cells = calibrator.cells(draft)
    assert float(calibrator.confidence(cells)[0]) == pytest.approx(0.55, abs=0.01)
    calibrator.learn(draft, cells, as_tokens([0]))
    assert 0.3 < float(calibrator.confidence(cells)[0]) < 0.55
    for _ in range(2000):
        calibrator.learn(draft, cells, as_tokens([0]))
    assert float(calibrator.confidence(cells)[0]) < 0.01
    for _ in range(4000):  # and what was learned fades
        calibrator.learn(draft, cells, as_tokens([5]))
    assert float(calibrator.confidence(cells)[0]) > 0.7


def test_only_nodes_whose_parent_came_have_an_outcome():
    #  5 - 6     came: 5 7
    #   \- 7
    #  8 - 9     never reached
    draft = Draft.tree(
        [5, 8, 6, 7, 9], [ROOT, ROOT, 0, 0, 1], confidence=[0.5, 0.35, 0.65, 0.75, 0.85]
    )
    calibrator = Calibrator()
    cells = calibrator.cells(draft)
    before = calibrator.confidence(cells)
    calibrator.learn(draft, cells, as_tokens([5, 7]))
    change = calibrator.confidence(cells) - before
    assert change[0] > 0.0 > change[1]
    assert change[3] > 0.0 > change[2]
    # the node below 8 had no outcome; it only learns that more confidence was worth more
    assert abs(change[4]) < abs(change[3])


def test_drafts_stay_what_they_are():
    tree = Draft.tree([5, 8, 6], [ROOT, ROOT, 0], confidence=[0.5, 0.4, 0.9])
    stream = Calibrated(DraftFrom(lambda context, budget: tree)).open(PROMPT)
    draft = stream.propose(Budget(8))
    assert draft.tokens.tolist() == [5, 8, 6]
    assert draft.parents.tolist() == [ROOT, ROOT, 0]


def test_sampled_drafts_are_left_alone():
    draft = Draft.chain([5], confidence=0.3, proposal=np.ones((1, 9)) / 9)
    stream = Calibrated(DraftFrom(lambda context, budget: draft)).open(PROMPT)
    assert settle(stream, [0]) is draft
    assert stream.propose(Budget(4)) is draft


def test_a_floor_is_not_passed_to_a_drafter_that_could_not_know_what_it_means():
    seen = []

    def propose(context, budget):
        seen.append(budget)
        return Draft.empty()

    Calibrated(DraftFrom(propose)).open(PROMPT).propose(Budget(8, 3, 0.4))
    assert seen == [Budget(8, 3)]


class Together:
    """A batch drafter of chains; remembers how it was asked."""

    def __init__(self):
        self.calls = []

    def open(self, prompt, *, namespace=""):
        return DraftFrom(lambda context, budget: Draft.chain([5], confidence=0.5)).open(prompt)

    def propose_all(self, streams, budgets):
        self.calls.append(("propose", len(streams)))
        return [stream.propose(budget) for stream, budget in zip(streams, budgets, strict=True)]

    def observe_all(self, streams, feedback):
        self.calls.append(("observe", len(streams)))
        for stream, each in zip(streams, feedback, strict=True):
            stream.observe(each)


def test_a_drafter_that_takes_a_call_for_all_is_asked_once():
    inner = Together()
    drafter = Calibrated(inner)
    streams = [drafter.open(PROMPT), drafter.open(PROMPT)]
    for _ in range(300):
        drafts = drafter.propose_all(streams, [Budget(4)] * 2)
        drafter.observe_all(streams, [told(draft, [0]) for draft in drafts])
    assert inner.calls == [("propose", 2), ("observe", 2)] * 300
    assert float(streams[0].propose(Budget(4)).confidence[0]) < 0.05


@pytest.mark.parametrize("spec", ["lookup:max_ngram=4", "suffix:mode=tree,alpha=4", "recall"])
def test_any_spec_may_name_a_cost(spec):
    comma = "," if ":" in spec else ":"
    plain = make_priced_drafter(spec)
    assert plain.cost is None
    assert type(plain.drafter) is type(make_drafter(spec))
    for written, cost in (("auto", "auto"), ("0.01", 0.01)):
        priced = make_priced_drafter(f"{spec}{comma}cost={written}")
        assert priced.cost == cost
        assert isinstance(priced.drafter, Calibrated) == (spec != "recall")
    assert Spending.of(make_priced_drafter(f"{spec}{comma}cost=0.5").cost).cost.per_token == 0.5


def test_the_options_of_a_hybrid_keep_their_place():
    priced = make_priced_drafter("hybrid:first=suffix:mode=tree;nodes=16,other=lookup,cost=0.02")
    assert priced.cost == 0.02
    assert isinstance(priced.drafter, Calibrated)


@pytest.mark.parametrize("spec", ["recall:cost=cheap", "recall:cost=-1", "suffix:cost=inf"])
def test_a_cost_that_is_none_is_refused(spec):
    with pytest.raises(InvalidSpec, match=r"use auto, none, or 0\.01 of a step"):
        make_priced_drafter(spec)


def test_with_a_cost_recall_drafts_wide_unless_told_otherwise():
    def limits(spec):
        drafter = make_priced_drafter(spec).drafter
        return drafter.nodes, drafter.policy.floor

    assert limits("recall:cost=auto") == (64, 0.001)
    assert limits("recall:cost=0.01,nodes=8,floor=0.2") == (8, 0.2)
    assert limits("recall") == (32, 0.005)
