"""Ouroboros: drafts lengthened by phrases."""

from types import SimpleNamespace

import numpy as np
import pytest

from draftwood.decode import decode
from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.mix.ouroboros import PHRASE, Ouroboros, PhraseTable, discarded
from draftwood.drafters.small.grow import ModelDrafter
from draftwood.drafters.small.shapes import Shape
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback, Verdict
from draftwood.testing import DraftFrom, ToyDraftModel, ToyTarget, greedy_text, hash_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

PROMPT = as_tokens([0, 0])
SHORT = Draft.chain([1, 2], confidence=[0.9, 0.8])


class Told:
    """A drafter and its stream in one, with the same draft always; remembers what it is told."""

    def __init__(self, draft):
        self.draft, self.told, self.closed = draft, [], False

    def open(self, prompt, *, namespace=""):
        return self

    def propose(self, budget):
        return self.draft

    def observe(self, feedback):
        self.told.append(feedback)

    def close(self):
        self.closed = True


def verdict_on(draft, path, next_token=9):
    verdict = Verdict(np.array(path, dtype=np.int32), next_token)
    return Feedback(draft, verdict, verdict.tokens(draft))


def generated(stream, tokens):
    verdict = Verdict(np.empty(0, dtype=np.int32), tokens[-1])
    stream.observe(Feedback(Draft.empty(), verdict, as_tokens(tokens)))


def paths(draft):
    return [draft.tokens[draft.path(node)].tolist() for node in range(len(draft))]


def test_a_phrase_from_history_lengthens_a_draft():
    drafter = Ouroboros(DraftFrom(lambda context, budget: SHORT), length=3)
    stream = drafter.open(PROMPT)
    assert paths(stream.propose(Budget(8))) == [[1], [1, 2]]
    generated(stream, [2, 3, 4, 5, 6])
    draft = stream.propose(Budget(8))
    assert paths(draft) == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5]]
    assert draft.source.tolist() == [0, 0, PHRASE, PHRASE, PHRASE]
    assert draft.confidence.tolist() == pytest.approx([0.9, 0.8, 0.5, 0.5, 0.5])


def test_several_phrases_are_a_tree_below_the_tip():
    drafter = Ouroboros(DraftFrom(lambda context, budget: SHORT), length=2)
    stream = drafter.open(PROMPT)
    for phrase in ([2, 3, 4], [2, 3, 5], [2, 6, 7]):
        drafter.phrases.add(phrase)
    tails = [path[2:] for path in paths(stream.propose(Budget(16)))[2:]]
    assert sorted(tails) == [[3], [3, 4], [3, 5], [6], [6, 7]]


def test_what_the_target_agreed_with_in_a_discarded_branch_is_a_phrase():
    #  context - 1 - 2        accepted: 1; discarded: 2, and the branch 3 4 5, of which the target
    #         `- 3 - 4 - 5    says that 4 follows 3, 5 follows 4, and 8 comes then
    draft = Draft.tree([1, 3, 2, 4, 5], [-1, -1, 0, 1, 3])
    best = [1, 7, 4, 6, 5, 8]  # after the context and after each node
    rows = SimpleNamespace(argmax=lambda: as_tokens(best))
    verdict = Verdict(np.array([0], dtype=np.int32), 7)
    assert list(discarded(draft, verdict, rows)) == [[3, 4, 5, 8]]
    stream = Ouroboros(drafter := Told(draft)).open(PROMPT)
    feedback = Feedback(stream.propose(Budget(8)), verdict, as_tokens([1, 7]), rows)
    drafter.draft = Draft.chain([3])
    stream.observe(feedback)
    assert stream.propose(Budget(8)).tokens.tolist() == [3, 4, 5, 8]


def test_an_accepted_draft_and_a_disagreeing_target_leave_no_phrases():
    draft = Draft.tree([1, 2, 3, 4], [-1, 0, 0, 2])
    rows = SimpleNamespace(argmax=lambda: as_tokens([1, 2, 9, 9, 9]))
    assert list(discarded(draft, Verdict(np.array([0, 1], np.int32), 9), rows)) == []
    rows.argmax = lambda: pytest.fail("nothing was discarded")
    chain = Draft.chain([1, 2])
    assert list(discarded(chain, Verdict(np.array([0, 1], np.int32), 9), rows)) == []


def test_confidence_is_learned_from_phrases_whose_head_was_accepted():
    drafter = Ouroboros(DraftFrom(lambda context, budget: SHORT), length=1)
    drafter.phrases.add([2, 3])
    stream = drafter.open(PROMPT)

    def step(path):
        stream.observe(verdict_on(stream.propose(Budget(8)), path, 0))

    step([0])  # the phrase's head was not accepted: nothing is learned
    assert drafter.confidence == 0.5
    step([0, 1])
    assert drafter.confidence == pytest.approx(0.495)
    for _ in range(500):
        step([0, 1, 2])
    assert drafter.confidence > 0.99


def test_the_other_drafter_is_told_of_its_own_nodes_only():
    base = Draft.tree([1, 4, 2], [-1, -1, 0], confidence=[0.6, 0.3, 0.5])
    inner = Told(base)
    drafter = Ouroboros(inner, length=2)
    drafter.phrases.add([2, 3, 3])
    stream = drafter.open(PROMPT)
    draft = stream.propose(Budget(8))
    at = paths(draft)
    whole = verdict_on(draft, [at.index([1]), at.index([1, 2]), at.index([1, 2, 3])])
    stream.observe(whole)
    (told,) = inner.told
    assert told.draft is base
    assert told.verdict.path.tolist() == [0, 2]
    assert told.tokens.tolist() == [1, 2, 3, 9]
    assert told.verified is whole


def test_a_sampled_draft_stays_as_it_is():
    sampled = Draft.chain([1, 2], proposal=np.ones((2, 12)))
    drafter = Ouroboros(Told(sampled))
    drafter.phrases.add([2, 3])
    assert drafter.open(PROMPT).propose(Budget(8)) is sampled


def test_budgets_tips_and_equal_siblings():
    twins = Draft.tree([1, 1, 2], [-1, -1, 1], confidence=[0.9, 0.9, 0.5])
    drafter = Ouroboros(Told(twins), tips=1, length=3)
    drafter.phrases.add([2, 3, 4, 5])
    stream = drafter.open(PROMPT)
    draft = stream.propose(Budget(8))
    assert paths(draft) == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5]]
    assert len(stream.propose(Budget(3))) == 3
    assert stream.propose(Budget(8, depth=3)).height == 3
    assert len(Ouroboros(Told(twins), tips=0).open(PROMPT).propose(Budget(8))) == 3


def test_the_likeliest_tips_are_lengthened():
    base = Draft.tree([1, 2, 3], [-1, -1, -1], confidence=[0.2, 0.5, 0.3])
    for tips, lengthened in ((1, {2}), (2, {2, 3}), (3, {1, 2, 3})):
        drafter = Ouroboros(Told(base), tips=tips, length=1)
        for head in (1, 2, 3):
            drafter.phrases.add([head, 9])
        draft = drafter.open(PROMPT).propose(Budget(16))
        assert {path[0] for path in paths(draft) if len(path) == 2} == lengthened


def test_the_table_is_bounded_and_keeps_the_latest():
    table = PhraseTable(2, each=2, max_heads=2)
    for run in ([1, 2], [1, 3, 4, 5], [1, 6], [1, 3, 4]):
        table.add(run)
    assert table.after(1) == [(3, 4), (6,)]
    table.add([2, 1], namespace="a")
    table.add([3, 1])
    assert len(table) == 2
    assert table.after(1) == []
    assert table.after(2) == []
    assert table.after(2, namespace="a") == [(1,)]
    table.add([7])  # nothing follows
    assert table.after(7) == []


def test_the_text_is_the_targets_own_and_phrases_save_steps():
    row, counts = hash_model(order=2), {}
    for name in ("alone", "lengthened"):
        drafter = ModelDrafter(ToyDraftModel(row), Shape.gsd(levels=1))  # one right token a step
        if name == "lengthened":
            drafter = Ouroboros(drafter)
        steps = list(decode(ToyTarget(row), drafter, Greedy(), PROMPT, stop=Stop(max_tokens=150)))
        assert [t for s in steps for t in s.tokens.tolist()] == greedy_text(row, [0, 0], 150)
        counts[name] = len(steps)
    assert counts["alone"] == 75
    assert counts["lengthened"] < 60


def test_closing_learns_the_last_tokens_and_closes_the_other():
    drafter = Ouroboros(inner := Told(SHORT), length=4)
    stream = drafter.open(PROMPT)
    generated(stream, [5, 6, 7])
    assert drafter.phrases.after(5) == []
    stream.close()
    assert inner.closed
    assert drafter.phrases.after(5) == [(6, 7)]
    assert drafter.phrases.after(6) == [(7,)]


@pytest.mark.parametrize("options", [{"length": 0}, {"each": 0}, {"max_heads": 0}, {"tips": -1}])
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        Ouroboros(Told(SHORT), **options)
