"""GGUF models in llama.cpp as targets: whole trees, and many sequences, in one decode."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from time import perf_counter

import numpy as np

from draftwood.draft import Draft, TokenIds
from draftwood.errors import InvalidDraft, InvalidOption
from draftwood.protocols import Verdict
from draftwood.targets.committed import Committed, admitted
from draftwood.targets.engine_model import EngineModel
from draftwood.targets.host_rows import HostRows
from draftwood.targets.llama_cpp.context import BATCH_ROWS, LlamaContext
from draftwood.targets.llama_cpp.library import GgufModel, library
from draftwood.targets.llama_cpp.seat import LlamaSeat, groups, leaves_of

_LONGEST = 4096
"""Tokens of a sequence, where nothing else is said: its keys and values are allocated at once."""


class LlamaCppTarget:
    """A `.gguf` file in llama.cpp, its weights as they are stored.

    path: the file. context: tokens of a sequence, prompt included; None: the model's, at most 4096.
    threads: of a decode; None: as OMP_NUM_THREADS says, else one for each core. A sequence that is
    opened by itself takes a context of llama.cpp with cells for `context` tokens, which is used
    again once the sequence is closed; a batch takes one for all its sequences.

    model: what is known beside the weights. vocab_size, context_limit: of a sequence.

    Raises:
        MissingExtra, UnsupportedEngine: as `library`.
        BrokenModel, UnsupportedModel: as `GgufModel`.
        InvalidOption: for a context or a number of threads out of range.
    """

    trees = True
    batches = True

    def __init__(
        self, path: str | Path, *, context: int | None = None, threads: int | None = None
    ) -> None:
        self._llama = library()
        if threads is not None and threads < 1:
            raise InvalidOption(f"threads is {threads}; use 1 or more")
        self._threads = threads or _threads()
        self._gguf = GgufModel(self._llama, Path(path))
        limit = self._gguf.trained_context
        if context is not None and not 2 <= context <= limit:
            raise InvalidOption(f"context is {context}; use 2 to {limit}, the model's own limit")
        self.vocab_size = self._gguf.vocab_size
        self.context_limit = context or min(limit, _LONGEST)
        self.model = EngineModel(self._gguf.end_tokens, self.vocab_size)
        self._idle: list[LlamaContext] = []
        self._lock = Lock()

    def admit(self, prompt: TokenIds) -> Committed:
        """A sequence of the tokens of `prompt`, once it is sure that one more fits.

        Raises:
            ContextTooLong: for a prompt that leaves no room for a generated token.
            InvalidTokens: for an empty prompt, or ids beyond the model's vocabulary.
        """
        return admitted(prompt, vocab_size=self.vocab_size, limit=self.context_limit)

    def open(self, prompt: TokenIds) -> LlamaCursor:
        """A cursor after `prompt`; its first `score` computes the prompt. Raises as `admit`."""
        committed = self.admit(prompt)
        with self._lock:
            context = self._idle.pop() if self._idle else None
        if context is None:
            context = self._context(1)
        return LlamaCursor(LlamaSeat(context, committed), context, self)

    def open_batch(self, size: int) -> LlamaBatch:
        """A batch of at most `size` sequences, with cells for the longest text of each."""
        return LlamaBatch(self, self._context(size))

    def give_back(self, context: LlamaContext) -> None:
        """Keep the context of a cursor that was closed, for the next one."""
        with self._lock:
            self._idle.append(context)

    def close(self) -> None:
        """Free the model; cursors and batches are closed before, and not used again."""
        with self._lock:
            for context in self._idle:
                context.close()
            self._idle.clear()
        self._gguf.close()

    def _context(self, sequences: int) -> LlamaContext:
        cells = sequences * (self.context_limit + BATCH_ROWS)
        return LlamaContext(self._llama, self._gguf, cells=cells, threads=self._threads)


class LlamaCursor:
    """A sequence by itself. Used by one thread at a time."""

    def __init__(self, seat: LlamaSeat, context: LlamaContext, target: LlamaCppTarget) -> None:
        self._seat = seat
        self._context = context
        self._target = target
        self._open = True

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the committed ones."""
        return self._seat.room

    def score(self, draft: Draft) -> HostRows:
        """One decode over the whole draft (before it, at first: over the prompt)."""
        (rows,) = score_all(self._context, [self._seat], [draft], self._target.vocab_size)
        return rows

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path and the next token; forget the rest. Raises as `LlamaSeat`."""
        self._seat.commit(draft, verdict)

    def close(self) -> None:
        """Give the context back; the cursor is not used again."""
        if self._open:
            self._open = False
            self._seat.close()
            self._target.give_back(self._context)


class LlamaBatch:
    """Sequences that share decodes; a prompt that begins as another text shares its cells.

    prompt_seconds: of the last `score`, for prompts.
    """

    padded = False

    def __init__(self, target: LlamaCppTarget, context: LlamaContext) -> None:
        self.prompt_seconds: float | None = 0.0
        self._target = target
        self._context = context
        self._seats: list[LlamaSeat] = []

    def open(self, prompt: TokenIds) -> LlamaSeat:
        """A seat for a sequence that begins with `prompt`. Raises as the target's `admit`."""
        seat = LlamaSeat(self._context, self._target.admit(prompt))
        self._seats.append(seat)
        return seat

    def score(self, seats: Sequence[LlamaSeat], drafts: Sequence[Draft]) -> list[HostRows]:
        """A decode over a draft for every open seat; rows come in the order of `seats`."""
        self._seats = list(seats)
        start = perf_counter()
        for at, seat in enumerate(seats):
            if not seat.held:
                for other in (*seats[:at], *seats[at + 1 :]):
                    seat.share_from(other)
                prefill(self._context, seat)
        self.prompt_seconds = perf_counter() - start
        return score_all(self._context, seats, drafts, self._target.vocab_size)

    def close(self) -> None:
        """Free all cells; the batch is not used again."""
        self._context.close()


def prefill(context: LlamaContext, seat: LlamaSeat) -> None:
    """Compute all tokens of a seat but the last."""
    rows = seat.prompt_rows(1)
    for first in range(0, len(rows), BATCH_ROWS):
        context.decode(rows[first : first + BATCH_ROWS])


def score_all(
    context: LlamaContext, seats: Sequence[LlamaSeat], drafts: Sequence[Draft], vocab_size: int
) -> list[HostRows]:
    """Rows of a draft for each seat, in as few decodes as rows and sequence ids allow.

    Raises:
        InvalidDraft: for a draft with more nodes or leaves than one decode takes.
    """
    for seat in seats:
        seat.forget_draft()
        prefill(context, seat)
    for draft in drafts:
        if len(draft) >= BATCH_ROWS or leaves_of(draft) > context.free_ids:
            raise InvalidDraft(
                f"a draft of {len(draft)} nodes and {leaves_of(draft)} leaves does not fit into "
                f"one decode of {BATCH_ROWS} rows; use nodes=64"
            )
    sizes = [(1 + len(draft), max(0, leaves_of(draft) - 1)) for draft in drafts]
    found: list[HostRows] = []
    before: list[int] = []
    for group in groups(sizes, BATCH_ROWS, context.free_ids):
        for at in before:
            seats[at].release()
        before = group
        parts = [seats[at].draft_rows(drafts[at], vocab_size) for at in group]
        logits = context.decode([row for part in parts for row in part])
        ends = np.cumsum([1 + len(drafts[at]) for at in group])
        for at, rows in zip(group, np.split(logits, ends[:-1]), strict=True):
            found.append(HostRows(rows, seats[at].tokens))
    return found


def _threads() -> int:
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else len(os.sched_getaffinity(0))
