"""Drafter and target at the same time: what is drafted, kept and thrown away."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray

from draftwood.decode import decode
from draftwood.draft import Budget, TokenIds
from draftwood.drafters.small.overlapped import Overlapped
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback, Verdict
from draftwood.stats import Stats
from draftwood.testing import ToyDraftModel, ToyDraftSeat, ToyTarget, greedy_text, hash_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

MODEL = hash_model(order=2)
OTHER = hash_model(order=1, seed=3)
PROMPT = np.array([3, 4, 6], dtype=np.int32)


def generate(drafter: Overlapped, count: int = 60) -> tuple[list[int], Stats]:
    steps = list(decode(ToyTarget(MODEL), drafter, Greedy(), PROMPT, stop=Stop(max_tokens=count)))
    return [token for step in steps for token in step.tokens.tolist()], Stats.of(steps)


@pytest.mark.parametrize("ahead", [1, 2, 5, 8])
@pytest.mark.parametrize("row", [MODEL, OTHER], ids=["right", "mostly wrong"])
def test_the_text_is_the_target_s_whatever_is_drafted(row: object, ahead: int) -> None:
    drafter = Overlapped(ToyDraftModel(row), ahead=ahead)  # type: ignore[arg-type]
    text, _ = generate(drafter)
    assert text == greedy_text(MODEL, PROMPT.tolist(), 60)


def test_a_perfect_model_is_accepted_in_full() -> None:
    text, stats = generate(Overlapped(ToyDraftModel(MODEL), ahead=4, least=4))
    assert stats.accepted == stats.drafted > 0
    assert stats.steps <= 60 / 5 + 1
    assert text == greedy_text(MODEL, PROMPT.tolist(), 60)


def test_what_was_drafted_ahead_of_a_right_verdict_is_the_next_draft() -> None:
    truth = greedy_text(MODEL, PROMPT.tolist(), 12)
    with closing(Overlapped(ToyDraftModel(MODEL), ahead=6, least=6).open(PROMPT)) as stream:
        first = stream.propose(Budget(6)).cut(nodes=2)
        assert first.tokens.tolist() == truth[:2]
        stream.observe(
            Feedback(first, Verdict(np.arange(2, dtype=np.int32), truth[2]), ids(truth[:3]))
        )
        assert stream.kept == 3
        assert stream.dropped == 0
        assert stream.propose(Budget(6)).tokens.tolist() == truth[3:9]


def test_a_wrong_guess_rolls_back_to_the_text() -> None:
    truth = greedy_text(MODEL, PROMPT.tolist(), 3)
    other = next(token for token in range(12) if token != truth[1])
    with closing(Overlapped(ToyDraftModel(MODEL), ahead=4, least=4).open(PROMPT)) as stream:
        draft = stream.propose(Budget(4))
        text = [truth[0], other]
        stream.observe(Feedback(draft, Verdict(np.arange(1, dtype=np.int32), other), ids(text)))
        assert stream.dropped == 3
        expected = greedy_text(MODEL, [*PROMPT.tolist(), *text], 4)
        assert stream.propose(Budget(4)).tokens.tolist() == expected


def test_accepted_nodes_are_handed_to_the_cache_and_not_passed_again() -> None:
    kept: list[tuple[int, int]] = []

    class Watched(ToyDraftSeat):
        def keep(self, path: NDArray[np.int32], tokens: TokenIds) -> None:
            kept.append((len(path), len(tokens)))
            super().keep(path, tokens)

    class Model(ToyDraftModel):
        def open(self, prompt: TokenIds) -> ToyDraftSeat:
            return Watched(self.row, tuple(prompt.tolist()))

    truth = greedy_text(MODEL, PROMPT.tolist(), 4)
    wrong = next(token for token in range(12) if token != truth[2])
    with closing(Overlapped(Model(MODEL), ahead=4, least=4).open(PROMPT)) as stream:
        draft = stream.propose(Budget(4))
        text = [*truth[:2], wrong]
        stream.observe(Feedback(draft, Verdict(np.arange(2, dtype=np.int32), wrong), ids(text)))
        stream.propose(Budget(1))
    assert kept == [(2, 3)]


def test_the_thread_ends_with_the_stream() -> None:
    before = threading.active_count()
    stream = Overlapped(ToyDraftModel(MODEL)).open(PROMPT)
    assert threading.active_count() == before + 1
    stream.close()
    assert threading.active_count() == before


def test_a_model_that_fails_costs_its_drafts_only(caplog: pytest.LogCaptureFixture) -> None:
    def broken(prefix: tuple[int, ...]) -> object:
        if len(prefix) > 12:
            raise RuntimeError("out of memory")
        return MODEL(prefix)

    text, stats = generate(Overlapped(ToyDraftModel(broken)))  # type: ignore[arg-type]
    assert text == greedy_text(MODEL, PROMPT.tolist(), 60)
    assert stats.accepted > 0
    assert "out of memory" in caplog.text


def test_a_full_context_ends_drafting_and_not_the_text() -> None:
    class Short(ToyDraftSeat):
        @property
        def room(self) -> int:  # type: ignore[override]
            return 10 - len(self.context)

    class Model(ToyDraftModel):
        def open(self, prompt: TokenIds) -> ToyDraftSeat:
            return Short(self.row, tuple(prompt.tolist()))

    text, stats = generate(Overlapped(Model(MODEL)), 30)
    assert text == greedy_text(MODEL, PROMPT.tolist(), 30)
    assert 0 < stats.accepted < 8


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_fork_neither_hangs_nor_drafts_from_its_parents_thread() -> None:
    drafter = Overlapped(ToyDraftModel(MODEL), ahead=4, least=4)
    truth = greedy_text(MODEL, PROMPT.tolist(), 9)
    with closing(drafter.open(PROMPT)) as stream:
        draft = stream.propose(Budget(4))
        with stream._turn:  # as if its thread held the lock at the fork
            child = os.fork()
        if child == 0:
            signal.alarm(30)  # ends a child that hangs
            empty = not len(stream.propose(Budget(4)))
            stream.observe(Feedback.of(draft, ids(truth[:2])))
            stream.close()
            with closing(drafter.open(PROMPT)) as new:
                os._exit(0 if empty and new.propose(Budget(4)).tokens.tolist() == truth[:4] else 1)
        assert os.waitpid(child, 0)[1] == 0
        stream.observe(Feedback.of(draft, ids(truth[:5])))
        assert stream.propose(Budget(4)).tokens.tolist() == truth[5:9]  # the parent drafts on


@pytest.mark.parametrize(("ahead", "least"), [(0, 0), (2, 3), (4, 0)])
def test_limits(ahead: int, least: int) -> None:
    with pytest.raises(InvalidOption, match="need 1 <= least <= ahead"):
        Overlapped(ToyDraftModel(MODEL), ahead=ahead, least=least)


def ids(tokens: list[int]) -> TokenIds:
    return np.array(tokens, dtype=np.int32)
