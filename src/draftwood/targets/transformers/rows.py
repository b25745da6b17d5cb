"""The logits of a pass, on the model's device until they are asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from draftwood import _native
from draftwood.draft import TokenIds
from draftwood.protocols import NOT_A_NUMBER, Top

_FEW = 64
"""Up to so many tokens of a row, those found so far are kept in order one by one."""


class PassLogits:
    """The logits [rows, V] of one pass over one or more sequences, each with its own rows."""

    __slots__ = ("_best", "logits")

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self._best: TokenIds | None = None

    def argmax(self) -> TokenIds:
        """int32 [rows]: the most likely tokens, in one call on the device."""
        if self._best is None:
            self._best = most_likely(self.logits)
        return self._best


class TransformersRows:
    """One sequence's rows of a pass: those after its context and after each of its draft's nodes.

    first: which of the pass's rows is the sequence's first. nodes: of its draft.
    """

    __slots__ = ("_context", "_first", "_nodes", "_scored")

    def __init__(self, scored: PassLogits, first: int, nodes: int, context: TokenIds) -> None:
        self._scored = scored
        self._first = first
        self._nodes = nodes
        self._context = context

    @property
    def context(self) -> TokenIds:
        """The committed tokens, which row 0 follows. Borrowed: valid until the next commit."""
        return self._context

    def argmax(self) -> TokenIds:
        """int32 [n + 1]: the most likely next token of every row; ties go to the lowest id."""
        return self._scored.argmax()[self._first : self._first + self._nodes + 1]

    def logits(self, row: int) -> NDArray[np.float32]:
        """float32 [V]: the logits after `row`; read-only in effect (it may share memory)."""
        if not 0 <= row <= self._nodes:
            raise IndexError(f"row {row} of a draft of {self._nodes} nodes")
        logits = self._scored.logits[self._first + row]
        numbers: NDArray[np.float32] = logits.to("cpu", torch.float32).numpy()
        return numbers

    def tensor(self, row: int) -> torch.Tensor:
        """float32 [V]: a copy of the logits after `row`, on the model's device."""
        if not 0 <= row <= self._nodes:
            raise IndexError(f"row {row} of a draft of {self._nodes} nodes")
        return self._scored.logits[self._first + row].to(torch.float32, copy=True)

    def top(self, k: int) -> Top:
        """The k likeliest tokens of every row, in one call on the device."""
        return top_of(self._scored.logits[self._first : self._first + self._nodes + 1], k)


def most_likely(logits: torch.Tensor) -> TokenIds:
    """int32, one for each row of logits [rows, V]: the lowest of the ids with the largest logit.

    `NOT_A_NUMBER` for a row that holds NaN. On a CPU by NumPy, which is ten times as fast at this
    as torch: 0.3 against 3 ms for 17 rows of 152 k logits.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        rows = logits.numpy()
        ids = rows.argmax(-1).astype(np.int32)  # of NaN the first
        unknown = np.isnan(rows[np.arange(len(ids)), ids])
        return np.where(unknown, np.int32(NOT_A_NUMBER), ids) if unknown.any() else ids
    at = logits.argmax(-1, keepdim=True)
    best = at.masked_fill_(logits.gather(-1, at).isnan(), NOT_A_NUMBER).squeeze(-1)
    found: TokenIds = best.to("cpu", torch.int32).numpy()
    return found


def top_of(logits: torch.Tensor, k: int) -> Top:
    """The k likeliest tokens of logits [rows, V], found where the logits are.

    On a CPU by native code, in one reading of the logits for the tokens and one for their sum. Of a
    row that holds NaN all log-probabilities are NaN.
    """
    k = min(k, logits.shape[-1])
    if _ready(logits) and k <= _FEW:
        tokens = np.empty((len(logits), k), dtype=np.int32)
        logprobs = np.empty((len(logits), k), dtype=np.float32)
        _native.likeliest(logits.detach().numpy(), tokens, logprobs)
        return Top(tokens, logprobs)
    logits = logits.float()
    best = logits.topk(k)
    found = best.values - logits.logsumexp(-1, keepdim=True)
    return Top(best.indices.to("cpu", torch.int32).numpy(), found.cpu().numpy())


def _ready(logits: torch.Tensor) -> bool:
    """Whether native code can read them as they lie."""
    known = logits.device.type == "cpu" and logits.dtype == torch.float32
    return known and logits.is_contiguous()
