"""A context of llama.cpp: cells for keys and values, sequence ids, and decodes of given rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from draftwood.errors import ContextTooLong, InvalidOption, UnsupportedEngine
from draftwood.targets.llama_cpp.library import GgufModel

BATCH_ROWS: Final = 512
"""Rows of one decode, at most."""


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """One token of a decode.

    position: in its text. sequences: the ids whose text it is part of. scored: whether its logits
    are wanted.
    """

    token: int
    position: int
    sequences: Sequence[int]
    scored: bool


class LlamaContext:
    """Keys and values of several sequences, in cells that sequences may share.

    cells: tokens of all sequences together. threads: of a decode. Used by one thread at a time.

    Raises:
        InvalidOption: where there is no memory for so many cells.
    """

    def __init__(self, llama: Any, model: GgufModel, *, cells: int, threads: int) -> None:
        self._llama = llama
        self._vocab_size = model.vocab_size
        self._ids = int(llama.llama_max_parallel_sequences())
        params = llama.llama_context_default_params()
        params.n_ctx = cells
        params.n_batch = params.n_ubatch = BATCH_ROWS
        params.n_seq_max = self._ids
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True  # a cell may belong to many sequences
        params.swa_full = True  # windows keep what a refused draft must not have pushed out
        self._pointer = llama.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise InvalidOption(f"no memory for {cells} tokens; give a smaller context")
        self._memory = llama.llama_get_memory(self._pointer)
        self._batch = llama.llama_batch_init(BATCH_ROWS, 0, self._ids)
        self._free = list(range(self._ids))[::-1]

    @property
    def free_ids(self) -> int:
        """Sequence ids that nobody holds."""
        return len(self._free)

    def take_id(self) -> int:
        """A sequence id without tokens."""
        return self._free.pop()

    def give_id(self, sequence: int) -> None:
        """Forget a sequence; its cells are free where no other one shares them."""
        self.forget(sequence, 0)
        self._free.append(sequence)

    def share(self, source: int, to: int, begin: int, end: int) -> None:
        """Make the tokens of `source` at positions [begin, end) part of `to`; nothing is copied."""
        self._llama.llama_memory_seq_cp(self._memory, source, to, begin, end)

    def forget(self, sequence: int, begin: int) -> None:
        """Take the tokens from position `begin` on out of a sequence."""
        if not self._llama.llama_memory_seq_rm(self._memory, sequence, begin, -1):
            raise UnsupportedEngine(
                f"llama-cpp-python {self._llama.__version__} cannot take tokens back in this model"
            )

    def decode(self, rows: Sequence[DecodeRow]) -> NDArray[np.float32]:
        """The logits [scored rows, V] of one pass over the rows, at most `BATCH_ROWS`.

        Raises:
            ContextTooLong: where no cells are left.
        """
        batch = self._batch
        for at, row in enumerate(rows):
            batch.token[at] = row.token
            batch.pos[at] = row.position
            batch.n_seq_id[at] = len(row.sequences)
            ids = batch.seq_id[at]
            for place, sequence in enumerate(row.sequences):
                ids[place] = sequence
            batch.logits[at] = row.scored
        batch.n_tokens = len(rows)
        code = self._llama.llama_decode(self._pointer, batch)
        if code == 1:
            raise ContextTooLong("all cells of the context are in use; give a larger context")
        if code:
            raise UnsupportedEngine(
                f"llama_decode of llama-cpp-python {self._llama.__version__} returned {code}"
            )
        scored = sum(row.scored for row in rows)
        if not scored:
            return np.empty((0, self._vocab_size), np.float32)
        logits = self._llama.llama_get_logits(self._pointer)
        return np.ctypeslib.as_array(logits, (scored, self._vocab_size)).copy()

    def close(self) -> None:
        """Free cells and batch; a second call does nothing."""
        if self._pointer:
            self._llama.llama_batch_free(self._batch)
            self._llama.llama_free(self._pointer)
            self._pointer = None
