"""Targets that take one sequence in a pass, used as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from draftwood.draft import Draft, TokenIds
from draftwood.protocols import Batch, BatchTarget, Cursor, Rows, Target


class OneByOne:
    """Any target as a batch: a pass for each sequence.

    prompt_seconds: None after a pass in which a prompt was computed as well.
    """

    padded = False

    def __init__(self, target: Target) -> None:
        self.prompt_seconds: float | None = 0.0
        self._target = target
        self._joined = False

    def open(self, prompt: TokenIds) -> Cursor:
        """The target's own cursor."""
        self._joined = True
        return self._target.open(prompt)

    def score(self, seats: Sequence[Cursor], drafts: Sequence[Draft]) -> list[Rows]:
        """A pass for each sequence."""
        self.prompt_seconds = None if self._joined else 0.0
        self._joined = False
        return [cursor.score(draft) for cursor, draft in zip(seats, drafts, strict=True)]

    def close(self) -> None:
        """Cursors are closed one by one."""


def open_batch(target: Target, size: int) -> Batch[Any]:
    """A batch of the target's own where it takes several sequences in a pass, else `OneByOne`."""
    if isinstance(target, BatchTarget) and target.batches:
        return target.open_batch(size)
    return OneByOne(target)
