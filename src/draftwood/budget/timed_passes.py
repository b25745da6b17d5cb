"""Passes of a target that are timed, and nothing else: nothing is generated."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from draftwood.draft import Draft, TokenIds
from draftwood.errors import ContextTooLong
from draftwood.protocols import Batch, BatchTarget, Target


class TimedPasses:
    """Sequences that stand after one prompt and are scored again and again."""

    def __init__(self, target: Target, prompt: TokenIds, batch: int) -> None:
        self.prompt = prompt
        self._batch: Batch[Any] | None = None
        self._seats: list[Any] = []
        try:
            if batch > 1 and isinstance(target, BatchTarget) and target.batches:
                self._batch = target.open_batch(batch)
            for _ in range(batch):
                self._seats.append((self._batch or target).open(prompt))
        except BaseException:
            self.__exit__()
            raise

    @classmethod
    def open(cls, target: Target, prompt: TokenIds, batch: int) -> TimedPasses:
        """With as much of the prompt, halved again and again, as the model's context holds."""
        while True:
            try:
                return cls(target, prompt, batch)
            except ContextTooLong:
                if len(prompt) < 2:
                    raise
                prompt = prompt[: len(prompt) // 2]

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the prompt; None: no limit."""
        rooms = [seat.room for seat in self._seats]
        return None if None in rooms else min(rooms)

    def time(self, draft: Draft) -> float:
        """Seconds of one pass in which every sequence has this draft."""
        start = perf_counter()
        if self._batch is not None:
            rows = self._batch.score(self._seats, [draft] * len(self._seats))
        else:
            rows = [seat.score(draft) for seat in self._seats]
        for row in rows:
            row.argmax()  # what runs on a device has to be waited for
        return perf_counter() - start

    def __enter__(self) -> TimedPasses:
        return self

    def __exit__(self, *_: object) -> None:
        for seat in self._seats:
            seat.close()
        if self._batch is not None:
            self._batch.close()
