"""Recorded responses, forced: passes cost what they cost, and acceptance is the recorded one.

    recorded   S E L E C T ...       the model's own pass is made and waited for; the next token
    model      x y z ...             is then the recorded one, before any sampler

A random model says nothing that a drafter could foresee. Its passes take the time of a trained
one's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.clock import Clock
from benchmarks.vllm.traffic import Request as Recorded
from benchmarks.vllm.traffic import Traffic
from draftwood.batch import Request, decode_batch
from draftwood.budget.measured import MeasuredCost
from draftwood.decode import decode
from draftwood.draft import Draft, TokenIds, as_tokens
from draftwood.language_model.drafting import Drafters, Drafting
from draftwood.protocols import Rows, Top, Verdict
from draftwood.step import Step
from draftwood.targets.replay import ReplayCursor, ReplayTarget
from draftwood.targets.transformers.target import TransformersTarget
from draftwood.verify.greedy import Greedy

SIDES = {
    "plain": "none",
    "suffix": "suffix",
    "recall": "recall:cost=none",
    "cost=auto": "recall:cost=auto",
}
REQUESTS = {1: 4, 16: 24, 64: 64}
"""Requests that are served, by batch size."""
HISTORY = 96
"""Answers that every drafter has seen before, at most."""


class ForcedTarget:
    """A model's passes with recorded next tokens.

    answers: what is forced, for the sequences in the order in which they are opened.
    """

    def __init__(self, target: TransformersTarget) -> None:
        self.target = target
        self.trees, self.batches, self.vocab_size = target.trees, target.batches, target.vocab_size
        self.answers: deque[TokenIds] = deque()
        self.prompt_seconds = 0.0

    def open(self, prompt: TokenIds) -> ForcedSeat:
        """A cursor that says the oldest of the answers."""
        return self.forced(self.target.open(prompt), prompt)

    def open_batch(self, size: int) -> ForcedBatch:
        """A batch of such sequences."""
        return ForcedBatch(self, self.target.open_batch(size))

    def forced(self, seat: Any, prompt: TokenIds) -> ForcedSeat:
        """A seat that says the oldest of the answers."""
        return ForcedSeat(seat, ReplayTarget(self.answers.popleft()).open(prompt))

    def close(self) -> None:
        """Nothing to give back."""


class ForcedSeat:
    """One sequence of a model beside its record; the cursor of one, or a seat of a batch."""

    def __init__(self, seat: Any, record: ReplayCursor) -> None:
        self.seat, self.record = seat, record

    @property
    def room(self) -> int | None:
        """Tokens that still fit."""
        room: int | None = self.seat.room
        return room

    def score(self, draft: Draft) -> ForcedRows:
        """The model's pass, and what is recorded."""
        return ForcedRows(self.seat.score(draft), self.record.score(draft))

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the recorded tokens."""
        self.record.commit(draft, verdict)
        self.seat.commit(draft, verdict)

    def close(self) -> None:
        """Give the model's cache back."""
        self.seat.close()


class ForcedBatch:
    """Several such sequences in one pass."""

    def __init__(self, owner: ForcedTarget, batch: Any) -> None:
        self._owner, self._batch = owner, batch

    @property
    def padded(self) -> bool:
        """As the model's batch."""
        return bool(self._batch.padded)

    @property
    def prompt_seconds(self) -> float | None:
        """As the model's batch."""
        seconds: float | None = self._batch.prompt_seconds
        return seconds

    def open(self, prompt: TokenIds) -> ForcedSeat:
        """A seat that says the oldest of the answers."""
        return self._owner.forced(self._batch.open(prompt), prompt)

    def score(self, seats: Sequence[ForcedSeat], drafts: Sequence[Draft]) -> list[ForcedRows]:
        """One pass of the model, and what is recorded for each."""
        rows = self._batch.score([each.seat for each in seats], drafts)
        self._owner.prompt_seconds += self._batch.prompt_seconds or 0.0
        return [
            ForcedRows(own, each.record.score(draft))
            for own, each, draft in zip(rows, seats, drafts, strict=True)
        ]

    def close(self) -> None:
        """Give the caches back."""
        self._batch.close()


class ForcedRows:
    """A model's rows, whose likeliest tokens are the recorded ones."""

    def __init__(self, rows: Rows, record: Rows) -> None:
        self._rows, self._record = rows, record

    @property
    def context(self) -> TokenIds:
        """The committed tokens."""
        return self._rows.context

    def argmax(self) -> TokenIds:
        """The recorded tokens, once the model's own are there: that is what takes time."""
        self._rows.argmax()
        return self._record.argmax()

    def logits(self, row: int) -> NDArray[np.floating[Any]]:
        """The model's own."""
        return self._rows.logits(row)

    def top(self, k: int) -> Top:
        """The model's own."""
        rows: Any = self._rows
        top: Top = rows.top(k)
        return top


@dataclass
class Served:
    """What serving took. seconds: without prompts, and without opening streams at batch 1."""

    tokens: int = 0
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    seconds: float = 0.0
    draft_seconds: float = 0.0

    def add(self, step: Step) -> None:
        """Count a step's tokens."""
        self.tokens += len(step.tokens)
        self.steps += 1
        self.drafted += len(step.draft)
        self.accepted += len(step.verdict.path)
        self.draft_seconds += step.seconds.draft + step.seconds.observe


def forced(
    name: str, target: TransformersTarget, traffic: Traffic, batch: int, clock: Clock, requests: int
) -> Iterator[dict[str, Any]]:
    """A row for each way to draft; each begins with the same history."""
    served = traffic.requests[:requests]
    plain = None
    for context in (len(served[0].prompt), len(served[0].prompt) + 100):
        if clock.left > 0:  # the first passes of a shape are slow ones
            _sweep(MeasuredCost(), target, served[0], batch, context=context)
    for label, (side, spec) in clock.each(
        (f"{name} {traffic.name} batch {batch} {side}", item)
        for side, item in zip(SIDES, SIDES.items(), strict=True)
    ):
        drafters = Drafters(spec)
        try:
            drafting, model = drafters.choose(), ForcedTarget(target)
            for each in traffic.history[:HISTORY]:
                _replay(drafting, each)
            if drafters.default_cost == "auto":
                _sweep(drafters.measured, target, served[0], batch)
            found = _serve(model, drafting, served, batch)
        finally:
            drafters.close()
        speed = found.tokens / found.seconds
        plain = plain or speed
        row = {
            "model": name,
            "traffic": traffic.name,
            "batch": batch,
            "side": side,
            "tokens_per_second": round(speed, 1),
            "over_plain": round(speed / plain, 3),
            "tokens_per_step": round(found.tokens / found.steps, 3),
            "drafted_per_step": round(found.drafted / found.steps, 2),
            "acceptance": round(found.accepted / found.drafted, 3) if found.drafted else None,
            "pass_ms": round(1e3 * found.seconds / found.steps * batch, 3),
            "drafting_share": round(found.draft_seconds / found.seconds, 4),
            "tokens": found.tokens,
            "seconds": round(found.seconds, 3),
        }
        print(f"forced {label}: {row}", flush=True)
        yield row


def _sweep(
    cost: MeasuredCost,
    target: TransformersTarget,
    asked: Recorded,
    batch: int,
    *,
    context: int | None = None,
) -> None:
    """Time passes of a few sizes, as `load` does. context: tokens, the prompt's over and over."""
    prompt = np.resize(as_tokens(asked.prompt), context or len(asked.prompt))
    sizes = (0, 1, 3, 7, 11, 15, 23, 31)
    cost.sweep(target, prompt, sizes=sizes, batches=(batch,), rounds=3, seconds=3.0)


def _replay(drafting: Drafting, recorded: Recorded) -> None:
    """Let the drafter see an answer as if it had been served."""
    record = ReplayTarget(recorded.answer)
    for _ in decode(record, drafting.drafter, Greedy(), recorded.prompt, stop=record.stop()):
        pass


def _serve(
    model: ForcedTarget, drafting: Drafting, requests: Sequence[Recorded], batch: int
) -> Served:
    found = Served()
    if batch == 1:
        for each in requests:
            model.answers.append(as_tokens(each.answer))
            steps = decode(
                model,
                drafting.drafter,
                Greedy(),
                each.prompt,
                budget=drafting.budget,
                stop=ReplayTarget(each.answer).stop(),
            )
            next(steps, None)  # computes the prompt
            start = perf_counter()
            for step in steps:
                found.add(step)
            found.seconds += perf_counter() - start
        return found
    asked = []
    for each in requests:
        model.answers.append(as_tokens(each.answer))
        stop = ReplayTarget(each.answer).stop()
        asked.append(Request(as_tokens(each.prompt), Greedy(), stop))
    model.prompt_seconds = 0.0
    start = perf_counter()
    for _, step in decode_batch(
        model, drafting.drafter, asked, max_batch=batch, budget=drafting.budget
    ):
        found.add(step)
    found.seconds = perf_counter() - start - model.prompt_seconds
    return found
