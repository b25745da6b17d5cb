"""History where it is sure, the other drafter where it is not."""

import numpy as np
import pytest

from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.errors import InvalidOption, InvalidSpec
from draftwood.protocols import Feedback, Verdict

PROMPT = as_tokens([1, 2, 3])
SURE = Draft.chain([4, 5, 6], confidence=[1.0, 1.0, 1.0])  # SCORE 3
DOUBTFUL = Draft.chain([7, 8], confidence=[0.5, 0.5])  # SCORE 0.75


class Scripted:
    """A drafter and its stream in one: proposes what it was given, remembers what it is told."""

    def __init__(self, draft):
        self.draft, self.told, self.asked, self.closed = draft, [], 0, False

    def open(self, prompt, *, namespace=""):
        return self

    def propose(self, budget):
        self.asked += 1
        return self.draft

    def observe(self, feedback):
        self.told.append(feedback)

    def close(self):
        self.closed = True


class Counted(PromptLookup):
    """Takes a call for all; `calls` lists them, and for how many."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def propose_all(self, streams, budgets):
        self.calls.append(("propose", len(streams)))
        return [stream.propose(budget) for stream, budget in zip(streams, budgets, strict=True)]

    def observe_all(self, streams, feedback):
        self.calls.append(("observe", len(streams)))
        for stream, each in zip(streams, feedback, strict=True):
            stream.observe(each)


class Unopenable:
    def open(self, prompt, *, namespace=""):
        raise RuntimeError("no")


def verdict_on(draft, accepted):
    verdict = Verdict(np.arange(accepted, dtype=np.int32), 9)
    return Feedback(draft, verdict, verdict.tokens(draft))


def test_a_sure_first_draft_leaves_the_other_drafter_alone():
    first, other = Scripted(SURE), Scripted(DOUBTFUL)
    stream = Hybrid(first, other, tau=2.5).open(PROMPT)
    assert stream.propose(Budget(8)) is SURE
    assert other.asked == 0


def test_a_doubtful_first_draft_gives_way():
    first, other = Scripted(DOUBTFUL), Scripted(SURE)
    stream = Hybrid(first, other, tau=0.8).open(PROMPT)
    assert stream.propose(Budget(8)) is SURE


def test_tau_zero_never_asks_the_other_drafter():
    other = Scripted(SURE)
    stream = Hybrid(Scripted(Draft.empty()), other, tau=0).open(PROMPT)
    assert len(stream.propose(Budget(8))) == 0
    assert other.asked == 0


def test_the_first_draft_stands_when_the_other_drafter_has_none():
    stream = Hybrid(Scripted(DOUBTFUL), Scripted(Draft.empty()), tau=2).open(PROMPT)
    assert stream.propose(Budget(8)) is DOUBTFUL


@pytest.mark.parametrize(("tau", "owner"), [(2, "first"), (4, "other")])
def test_both_move_and_only_the_owner_of_the_draft_hears_the_verdict(tau, owner):
    drafters = {"first": Scripted(SURE), "other": Scripted(SURE)}
    stream = Hybrid(drafters["first"], drafters["other"], tau=tau).open(PROMPT)
    feedback = verdict_on(stream.propose(Budget(8)), 2)
    stream.observe(feedback)
    for name, drafter in drafters.items():
        (told,) = drafter.told
        assert told.tokens.tolist() == [4, 5, 9]
        assert len(told.draft) == (3 if name == owner else 0)


def test_a_learned_tau_moves_to_the_other_drafters_accepted_length():
    hybrid = Hybrid(Scripted(Draft.empty()), Scripted(SURE), tau="auto")
    stream = hybrid.open(PROMPT)
    assert hybrid.tau == 1.0
    for _ in range(1000):
        stream.observe(verdict_on(stream.propose(Budget(8)), 3))
    assert hybrid.tau == pytest.approx(3.0, abs=0.01)


def test_a_learned_tau_learns_nothing_from_the_first_drafters_drafts():
    hybrid = Hybrid(Scripted(SURE), Scripted(DOUBTFUL), tau="auto")
    stream = hybrid.open(PROMPT)
    draft = stream.propose(Budget(8))
    assert draft is SURE
    verdict = Verdict(np.array([0, 1, 2], dtype=np.int32), 9)
    stream.observe(Feedback(draft, verdict, verdict.tokens(draft)))
    assert hybrid.tau == 1.0
    hybrid.propose_all([stream], [Budget(8)])
    hybrid.observe_all([stream], [Feedback(draft, verdict, verdict.tokens(draft))])
    assert hybrid.tau == 1.0


def test_a_given_tau_stays():
    hybrid = Hybrid(Scripted(Draft.empty()), Scripted(SURE), tau=2)
    stream = hybrid.open(PROMPT)
    stream.observe(verdict_on(stream.propose(Budget(8)), 3))
    assert hybrid.tau == 2.0


def test_closing_closes_both_and_a_failed_open_leaves_nothing_open():
    first, other = Scripted(SURE), Scripted(SURE)
    Hybrid(first, other).open(PROMPT).close()
    assert first.closed
    assert other.closed
    first = Scripted(SURE)
    with pytest.raises(RuntimeError):
        Hybrid(first, Unopenable()).open(PROMPT)
    assert first.closed


@pytest.mark.parametrize("tau", [-1, "sometimes", float("nan")])
def test_refuses_a_tau_that_is_no_threshold(tau):
    with pytest.raises(InvalidOption, match="tau is"):
        Hybrid(Scripted(SURE), Scripted(SURE), tau=tau)


def test_a_spec_names_both_drafters_and_their_options():
    hybrid = make_drafter("hybrid:first=suffix:mode=tree;nodes=4,other=lookup:nodes=3,tau=1.5")
    assert hybrid.tau == 1.5
    stream = hybrid.open(as_tokens([5, 6, 7, 8, 9, 5, 6]))
    assert stream.propose(Budget(8)).tokens.tolist() == [7, 8, 9]


def test_a_wrong_drafter_inside_a_hybrid_is_named():
    with pytest.raises(InvalidSpec, match="'lokup'"):
        make_drafter("hybrid:other=lokup")


@pytest.mark.parametrize("other", [PromptLookup, lambda: SuffixDrafter(mode="tree", alpha=4.0)])
def test_a_batch_call_gives_what_single_calls_give(other):
    rng = np.random.default_rng(3)
    batch, single = (Hybrid(SuffixDrafter(), other(), tau="auto") for _ in range(2))
    prompts = [as_tokens(rng.integers(0, 4, 15)) for _ in range(9)]
    ours, twins = ([d.open(prompt) for prompt in prompts] for d in (batch, single))
    budgets = [Budget(4 + at) for at in range(9)]
    switched = set()
    for _ in range(20):
        drafts = batch.propose_all(ours, budgets)
        told = []
        for draft, twin, budget in zip(drafts, twins, budgets, strict=True):
            expected = twin.propose(budget)
            assert draft.tokens.tolist() == expected.tokens.tolist()
            assert draft.parents.tolist() == expected.parents.tolist()
            told.append(verdict_on(draft, min(len(draft), 1) if draft.is_chain else 0))
        switched |= {stream._from_other for stream in ours}
        batch.observe_all(ours, told)
        for twin, each in zip(twins, told, strict=True):
            twin.observe(each)
        assert batch.tau == single.tau
    assert switched == {True, False}
    assert batch.propose_all([], []) == []


@pytest.mark.parametrize("place", ["first", "other"])
def test_a_part_that_takes_a_call_for_all_is_asked_once_wherever_it_stands(place):
    parts = {"first": Counted(), "other": Counted()}
    hybrid = Hybrid(
        parts["first"] if place == "first" else Scripted(DOUBTFUL),
        parts["other"] if place == "other" else PromptLookup(),
        tau=9,
    )
    streams = [hybrid.open(PROMPT) for _ in range(3)]
    drafts = hybrid.propose_all(streams, [Budget(4)] * 3)
    hybrid.observe_all(streams, [verdict_on(draft, 0) for draft in drafts])
    assert parts[place].calls == [("propose", 3), ("observe", 3)]
