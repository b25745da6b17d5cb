"""Whatever a drafter does wrong costs its drafts, is logged once, and never reaches the request."""

import logging
from dataclasses import dataclass

import numpy as np
import pytest

from draftwood.batch import Request, decode_batch
from draftwood.budget.calibration import Calibrated
from draftwood.budget.spending import Spending
from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.drafters.mix.blend import Blend
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.none import NoDraft
from draftwood.errors import InvalidDraft
from draftwood.guarded import (
    FAILING_STEPS,
    DraftRules,
    GuardedStreams,
    ask_all,
    checked_draft,
    shares_calls,
    tell_all,
)
from draftwood.protocols import Feedback
from draftwood.sessions import Sessions
from draftwood.testing import DraftFrom, ToyTarget, greedy_text, hash_model, raising
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

ROW = hash_model(seed=5)
PROMPTS = [[1, 2, 3], [4], [0, 11, 5]]
COUNT = 7
EXPECTED = [greedy_text(ROW, prompt, COUNT) for prompt in PROMPTS]


class Model(ToyTarget):
    """A toy that says how many tokens it knows, and passes only those, as an embedding does."""

    vocab_size = 12

    def open(self, prompt):
        cursor = super().open(prompt)
        score = cursor.score

        def strict(draft):
            assert draft.tokens.dtype == np.int32
            assert all(0 <= token < 12 for token in draft.tokens.tolist())
            return score(draft)

        cursor.score = strict
        return cursor


class Together:
    """A drafter with calls for all, around one without."""

    def __init__(self, drafter):
        self.drafter, self.calls = drafter, []

    def open(self, prompt, *, namespace=""):
        return self.drafter.open(prompt)

    def propose_all(self, streams, budgets):
        self.calls.append(("propose", len(streams)))
        return [stream.propose(budget) for stream, budget in zip(streams, budgets, strict=True)]

    def observe_all(self, streams, feedback):
        self.calls.append(("observe", len(streams)))
        for stream, each in zip(streams, feedback, strict=True):
            stream.observe(each)

    def close(self):
        """Nothing to give back."""


def draft_of(tokens=(5, 6), parents=(-1, 0), confidence=(1.0, 1.0), source=(0, 0), **rest):
    kinds = (np.int32, np.int32, np.float32, np.uint8)
    given = (tokens, parents, confidence, source)
    return Draft(*(np.array(each, kind) for each, kind in zip(given, kinds, strict=True)), **rest)


def spoiled(name, place, value):
    """A sound draft, one of whose arrays is changed after it was made."""
    draft = draft_of()
    getattr(draft, name)[place] = value
    return draft


def with_rows(rows):
    return draft_of(proposal=np.array(rows))


Z = [0, 0]
O = [1.0, 1.0]  # noqa: E741
FLAT = np.full((2, 12), 1 / 12)
BAD = {
    "negative id": lambda: draft_of(tokens=(-1, 5)),
    "negative id, later": lambda: spoiled("tokens", 1, -7),
    "id beyond the vocabulary": lambda: draft_of(tokens=(5, 12)),
    "largest id": lambda: draft_of(tokens=(5, 2**31 - 1)),
    "trusted id beyond the vocabulary": lambda: Draft.trusted(as_tokens([5, 12]), *arrays()[1:]),
    "ids of int64": lambda: Draft(np.array([5, 2**40]), *arrays()[1:]),
    "small ids of int64": lambda: Draft(np.array([5, 6]), *arrays()[1:]),
    "ids of float": lambda: Draft(np.array([5.7, 6.0]), *arrays()[1:]),
    "ids in a list": lambda: Draft([5, 6], *arrays()[1:]),
    "ids in a matrix": lambda: Draft(np.array([[5], [6]], np.int32), *arrays()[1:]),
    "no ids": lambda: Draft(None, *arrays()[1:]),
    "parents of float": lambda: Draft(arrays()[0], np.array([-1.0, 0.0]), *arrays()[2:]),
    "parents in a list": lambda: Draft(arrays()[0], [-1, 0], *arrays()[2:]),
    "a cycle": lambda: spoiled("parents", 0, 1),
    "its own parent": lambda: spoiled("parents", 1, 1),
    "a parent before the context": lambda: spoiled("parents", 0, -2),
    "a parent that is not there": lambda: spoiled("parents", 1, 99),
    "confidence NaN": lambda: draft_of(confidence=(1.0, np.nan)),
    "confidence infinite": lambda: draft_of(confidence=(np.inf, 1.0)),
    "confidence above 1": lambda: draft_of(confidence=(1.0, 1.5)),
    "confidence negative": lambda: draft_of(confidence=(1.0, -0.5)),
    "confidence of float64": lambda: Draft(*arrays()[:2], np.ones(2), arrays()[3]),
    "source of int64": lambda: Draft(*arrays()[:3], np.zeros(2, np.int64)),
    "evidence of another length": lambda: draft_of(evidence=np.zeros(3, np.uint8)),
    "evidence of float": lambda: draft_of(evidence=np.zeros(2)),
    "fewer parents than ids": lambda: draft_of(parents=(-1,)),
    "rows of zeros": lambda: with_rows(0 * FLAT),
    "rows of NaN": lambda: with_rows(np.nan * FLAT),
    "a row with an infinite weight": lambda: with_rows(FLAT + np.eye(2, 12) * np.inf),
    "a row with a negative weight": lambda: with_rows(FLAT - np.eye(2, 12)),
    "rows without weight on their tokens": lambda: with_rows(FLAT * (np.arange(12) < 5)),
    "rows of another vocabulary": lambda: with_rows(FLAT[:, :7]),
    "rows of a larger vocabulary": lambda: with_rows(np.ones((2, 13))),
    "one row for two tokens": lambda: with_rows(FLAT[:1]),
    "flat rows": lambda: with_rows(FLAT[:, 0]),
    "rows in lists": lambda: draft_of(proposal=FLAT.tolist()),
    "100 000 broken nodes": lambda: spoil_many(),
    "None": lambda: None,
    "a list": lambda: [5, 6],
    "a Draft without arrays": lambda: object.__new__(Draft),
    "an error": lambda: 1 // 0,
}


def arrays():
    draft = draft_of()
    return draft.tokens, draft.parents, draft.confidence, draft.source


def spoil_many():
    draft = Draft.chain(np.full(100_000, 5))
    draft.tokens[3] = -4
    return draft


RUNS = {
    "plain": lambda: Budget(6),
    "spending": lambda: Spending.of(0.01),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
@pytest.mark.parametrize("budget", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one call"])
def test_a_bad_draft_costs_drafts_alone_and_in_a_batch(make, budget, together, caplog):
    drafter = DraftFrom(lambda context, allowed: make())
    if together:
        drafter = Together(drafter)
    for prompt, expected in zip(PROMPTS, EXPECTED, strict=True):
        steps = decode(Model(ROW), drafter, Greedy(), prompt, budget=budget(), stop=Stop(COUNT))
        assert [token for step in steps for token in step.tokens.tolist()] == expected
    caplog.clear()
    asked = [Request(prompt, Greedy(), Stop(COUNT)) for prompt in PROMPTS]
    texts = {number: [] for number in range(3)}
    for number, step in decode_batch(Model(ROW), drafter, asked, budget=budget()):
        assert not len(step.draft)
        texts[number] += step.tokens.tolist()
    assert list(texts.values()) == EXPECTED
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert messages.count("drafter failed in propose; this sequence goes on without drafts") == 1
    assert len(messages) <= 2  # and its call for all, where that fails as well


def sound(context, allowed):
    """The next token of the text, as a draft of one node."""
    return Draft.chain([int(np.argmax(ROW(context)))])


MIXTURES = {
    "hybrid, first": lambda bad: Hybrid(bad, DraftFrom(sound), tau=0.5),
    "hybrid, other": lambda bad: Hybrid(DraftFrom(lambda *_: Draft.empty()), bad, tau=0.5),
    "blend": lambda bad: Blend([bad, DraftFrom(sound)]),
    "hybrid in a blend": lambda bad: Blend([Hybrid(DraftFrom(sound), bad), DraftFrom(sound)]),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
@pytest.mark.parametrize("mix", MIXTURES.values(), ids=MIXTURES)
def test_a_bad_draft_within_a_mixture_costs_no_text_anywhere(make, mix):
    def drafter():
        return mix(DraftFrom(lambda context, allowed: make()))

    for prompt, expected in zip(PROMPTS, EXPECTED, strict=True):
        steps = decode(Model(ROW), drafter(), Greedy(), prompt, budget=Budget(6), stop=Stop(COUNT))
        assert [token for step in steps for token in step.tokens.tolist()] == expected
    asked = [Request(prompt, Greedy(), Stop(COUNT)) for prompt in PROMPTS]
    texts = {number: [] for number in range(3)}
    for number, step in decode_batch(Model(ROW), drafter(), asked, budget=Budget(6)):
        texts[number] += step.tokens.tolist()
    assert list(texts.values()) == EXPECTED
    sessions = Sessions(drafter(), nodes=6, vocab_size=12, context_limit=64)
    for key, prompt in enumerate(PROMPTS):
        sessions.open(key, prompt)
    for step in range(COUNT):
        drafts = sessions.step([0, 1, 2], [text[step : step + 1] for text in EXPECTED])
        for tokens, parents in drafts.trees():
            assert all(0 <= token < 12 for token in tokens)
            assert all(-1 <= parent < at for at, parent in enumerate(parents))


@pytest.mark.parametrize("trees", [False, True])
def test_bad_drafts_do_no_harm_to_targets_of_chains(trees, caplog):
    for make in BAD.values():
        target = Model(ROW, trees=trees)
        drafter = DraftFrom(lambda context, allowed, make=make: make())
        steps = decode(target, drafter, Greedy(), PROMPTS[0], stop=Stop(COUNT))
        assert [token for step in steps for token in step.tokens.tolist()] == EXPECTED[0]


def test_in_a_call_for_all_a_bad_draft_costs_its_own_sequence_only():
    def propose(context, budget):
        if context[0] == 4:
            return spoiled("tokens", 0, -1)
        return Draft.chain(greedy_text(ROW, context.tolist(), budget.reach))

    drafter = Together(DraftFrom(propose))
    asked = [Request(prompt, Greedy(), Stop(COUNT)) for prompt in PROMPTS]
    events = list(decode_batch(Model(ROW), drafter, asked, budget=Budget(2)))
    assert {number for number, step in events if len(step.draft)} == {0, 2}
    assert drafter.calls[:4] == [("propose", 3), ("observe", 2), ("propose", 2), ("observe", 2)]


def test_a_sound_part_of_a_huge_draft_is_taken():
    huge = Draft.chain(np.full(100_000, 5))
    assert len(checked_draft(huge, Budget(6))) == 6
    assert checked_draft(huge, Budget(6, depth=4)).height == 4


def test_equal_siblings_of_chosen_drafts_are_sound():
    twins = Draft.tree([5, 5, 6, 6], [ROOT, ROOT, 0, 1])
    assert checked_draft(twins, Budget(8), DraftRules(12)) is twins
    text = greedy_text(ROW, PROMPTS[0], COUNT)

    def propose(context, budget):
        right = text[len(context) - 3 : len(context) - 1] or [0]
        return Draft.tree([*right[:1] * 2, *right[1:] * 2], [ROOT, ROOT, 0, 1][: 2 * len(right)])

    steps = list(decode(Model(ROW), DraftFrom(propose), Greedy(), PROMPTS[0], stop=Stop(COUNT)))
    assert [token for step in steps for token in step.tokens.tolist()] == text
    assert sum(len(step.verdict.path) for step in steps) > 0


def test_weights_that_do_not_sum_to_one_are_sound():
    draft = with_rows(5 * FLAT)
    assert checked_draft(draft, Budget(8), DraftRules(12)) is draft


def test_confidence_that_rounding_put_above_one_is_sound():
    draft = draft_of(confidence=(np.float32(1.0000001), 1.0))
    assert checked_draft(draft, Budget(8)) is draft


BROKEN = {
    "a cycle": ("parents", 0, 1),
    "a parent before the context": ("parents", 0, -2),
    "a negative id": ("tokens", 1, -7),
    "an id beyond the vocabulary": ("tokens", 1, 12),
    "no confidence": ("confidence", 0, np.nan),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_trusted_draft_is_looked_at_like_any_other(broken):
    sound = Draft.trusted(*arrays())
    assert checked_draft(sound, Budget(8), DraftRules(12)) is sound
    wrong = Draft.trusted(*arrays())
    name, place, value = BROKEN[broken]
    getattr(wrong, name)[place] = value
    with pytest.raises(InvalidDraft):
        checked_draft(wrong, Budget(8), DraftRules(12))


@pytest.mark.parametrize("broken", BROKEN)
def test_a_drafter_that_trusts_broken_arrays_loses_its_drafts_and_no_token(broken):
    name, place, value = BROKEN[broken]

    def propose(context, budget):
        draft = Draft.trusted(*arrays())
        getattr(draft, name)[place] = value
        return draft

    steps = list(decode(Model(ROW), DraftFrom(propose), Greedy(), PROMPTS[0], stop=Stop(COUNT)))
    said = [token for step in steps for token in step.tokens.tolist()]
    assert said == greedy_text(ROW, PROMPTS[0], COUNT)
    assert not any(len(step.draft) for step in steps)


def test_arrays_in_an_unusual_layout_are_sound_drafts():
    """Native code says no to them; the longer look finds nothing wrong."""
    tokens = np.array([5, 0, 6, 0], np.int32)[::2]
    draft = Draft(tokens, *arrays()[1:])
    assert not draft.is_sound()
    assert checked_draft(draft, Budget(8), DraftRules(12)) is draft


class TooLarge:
    """Proposes five tokens in two branches, whatever the budget."""

    def open(self, prompt, *, namespace=""):
        return self

    def propose(self, budget):
        return Draft.tree([5, 6, 7, 8, 9], [ROOT, 0, 1, 2, ROOT])

    def observe(self, feedback):
        pass

    def close(self):
        pass


def test_drafts_above_their_budget_are_cut_counted_and_logged_once(caplog):
    guards = GuardedStreams(TooLarge())
    guard = guards.open(PROMPTS[0])
    for budget, kept in ((Budget(5), 5), (Budget(3), 3), (Budget(5, 2), 3), (Budget(5), 5)):
        assert len(guards.propose([guard], [budget])[0]) == kept
    assert guards.cuts == 2
    assert guards.failures == 0
    assert len(caplog.records) == 1
    assert "asked for at most 3" in caplog.records[0].message


class Failing(Together):
    """Fails in the calls of the given numbers, from 1."""

    def __init__(self, drafter, propose=(), observe=()):
        super().__init__(drafter)
        self.fail = {"propose": propose, "observe": observe}

    def propose_all(self, streams, budgets):
        drafts = super().propose_all(streams, budgets)
        self.maybe_fail("propose")
        return drafts

    def observe_all(self, streams, feedback):
        self.maybe_fail("observe")
        super().observe_all(streams, feedback)

    def maybe_fail(self, verb):
        if sum(name == verb for name, _ in self.calls) in self.fail[verb]:
            raise RuntimeError("as it was told to")


def copies(context, budget):
    """What the target would say: always right."""
    return Draft.chain(greedy_text(ROW, context.tolist(), budget.reach))


def run(drafter, requests=3, count=12, max_batch=3):
    asked = [Request([number], Greedy(), Stop(count)) for number in range(requests)]
    texts = {number: [] for number in range(requests)}
    drafted = []
    steps = decode_batch(Model(ROW), drafter, asked, budget=Budget(1), max_batch=max_batch)
    for number, step in steps:
        texts[number] += step.tokens.tolist()
        drafted.append(len(step.draft))
    assert texts == {n: greedy_text(ROW, [n], count) for n in range(requests)}
    return drafted


def test_a_call_for_all_that_fails_now_and_then_is_made_again(caplog):
    drafter = Failing(DraftFrom(copies), propose=(1, 2, 4, 5))
    assert all(run(drafter))  # each stream was asked by itself where the call failed
    assert [size for _, size in drafter.calls] == [3] * len(drafter.calls)
    assert len(caplog.records) == 1


def test_a_drafter_that_fails_in_steps_in_a_row_is_switched_off_with_one_line(caplog):
    drafter = Failing(DraftFrom(copies), propose=range(1, 100))
    drafted = run(drafter)
    assert sum(drafted) == 3 * FAILING_STEPS
    assert [name for name, _ in drafter.calls].count("propose") == FAILING_STEPS
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "drafter failed in propose_all; its streams are served one by one",
        "drafter Failing failed in 3 steps in a row; this run goes on without it",
    ]


def test_a_drafter_that_fails_for_every_sequence_is_not_opened_any_more(caplog):
    opened = []

    class Broken:
        def open(self, prompt, *, namespace=""):
            opened.append(int(prompt[0]))
            raise RuntimeError("never")

    assert not any(run(Broken(), requests=10, count=2, max_batch=1))
    assert opened == [0, 1, 2]
    assert len(caplog.records) == 2


def test_a_drafter_that_fails_for_some_sequences_drafts_on_for_the_others():
    def propose(context, budget):
        if context[0] % 2:
            raise RuntimeError("not for odd prompts")
        return copies(context, budget)

    drafted = run(DraftFrom(propose), requests=20, count=4, max_batch=1)
    # four tokens in two steps with drafts, then four in four steps without
    assert drafted == [1, 1, 0, 0, 0, 0] * 10


def test_closing_that_fails_costs_no_drafts(caplog):
    class Sticky:
        def open(self, prompt, *, namespace=""):
            stream = DraftFrom(copies).open(prompt)
            stream.close = lambda: 1 // 0
            return stream

    assert all(run(Sticky(), requests=8, count=4, max_batch=1))
    assert len(caplog.records) == 1


def test_streams_of_several_drafters_are_grouped_by_drafter():
    one, two = Together(DraftFrom(copies)), Together(DraftFrom(copies))
    three = DraftFrom(copies)
    asked = [
        Request([number], Greedy(), Stop(6), drafter=drafter)
        for number, drafter in enumerate([None, two, three, two, one, None])
    ]
    events = list(decode_batch(Model(ROW), one, asked, budget=Budget(1), max_batch=6))
    assert all(len(step.draft) for _, step in events)
    assert one.calls == [("propose", 3), ("observe", 3)] * 3
    assert two.calls == [("propose", 2), ("observe", 2)] * 3


def test_drafters_that_are_equal_are_asked_together():
    calls = []

    @dataclass(frozen=True)
    class Mine:
        kind: str

        def open(self, prompt, *, namespace=""):
            return DraftFrom(copies).open(prompt)

        def propose_all(self, streams, budgets):
            calls.append((self.kind, len(streams)))
            return ask_all(NoDraft(), streams, budgets)

        def observe_all(self, streams, feedback):
            tell_all(NoDraft(), streams, feedback)

    asked = [Request([n], Greedy(), Stop(2), drafter=Mine(kind)) for n, kind in enumerate("aabab")]
    list(decode_batch(Model(ROW), NoDraft(), asked, budget=Budget(1)))
    assert calls == [("a", 3), ("b", 2)]


def test_a_drafter_without_a_hash_is_one_of_its_own():
    @dataclass
    class Unhashable:
        kind: str

        def open(self, prompt, *, namespace=""):
            return DraftFrom(copies).open(prompt)

    asked = [Request([n], Greedy(), Stop(4), drafter=Unhashable("a")) for n in range(3)]
    events = list(decode_batch(Model(ROW), NoDraft(), asked, budget=Budget(1)))
    assert all(len(step.draft) for _, step in events)


def test_one_function_asks_and_one_tells_whatever_the_drafter_can():
    for drafter in (DraftFrom(copies), Together(DraftFrom(copies))):
        streams = [drafter.open(as_tokens([number])) for number in range(3)]
        drafts = ask_all(drafter, streams, [Budget(2)] * 3)
        assert [draft.tokens.tolist() for draft in drafts] == [
            greedy_text(ROW, [number], 2) for number in range(3)
        ]
        told = [Feedback.of(draft, draft.tokens) for draft in drafts]
        tell_all(drafter, streams, told)
        assert ask_all(drafter, streams, [Budget(1)] * 3)[0].tokens.tolist() == [
            greedy_text(ROW, [0], 3)[2]
        ]
    empty = Together(NoDraft())
    assert list(ask_all(empty, [], [])) == []
    tell_all(empty, [], [])
    assert empty.calls == []


def test_a_call_is_shared_where_a_part_of_the_drafter_shares_it():
    single, several = DraftFrom(copies), Together(DraftFrom(copies))
    assert not shares_calls(single)
    assert shares_calls(several)
    assert not shares_calls(Calibrated(single))
    assert shares_calls(Calibrated(several))
    for made in (Hybrid, lambda *parts: Blend(parts)):
        assert not shares_calls(made(single, single))
        assert shares_calls(made(single, several))
        assert shares_calls(made(several, single))
        assert not shares_calls(Calibrated(made(single, Calibrated(single))))


def test_a_part_of_a_blend_that_keeps_failing_is_switched_off_in_it(caplog):
    blend = Blend([DraftFrom(copies), raising()], nodes=2)
    assert all(run(blend, requests=6, count=4))
    assert all(run(blend, requests=6, count=4))
    messages = [record.getMessage() for record in caplog.records]
    assert sum("goes on without it" in message for message in messages) <= 1


def test_what_a_run_is_told_of_a_drafter():
    batch = GuardedStreams(raising(), vocab_size=12)
    guards = [batch.open(as_tokens([1])) for _ in range(2)]
    drafts = batch.propose(guards, [Budget(2)] * 2)
    assert [len(draft) for draft in drafts] == [0, 0]
    assert batch.failures == 2
    assert [guard.failures for guard in guards] == [1, 1]
