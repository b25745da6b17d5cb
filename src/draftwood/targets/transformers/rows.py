"""The logits of a pass, on the model's device until they are asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.protocols import Top


class TransformersRows:
    """The logits of one pass, on the model's device until they are asked for."""

    __slots__ = ("_context", "_logits")

    def __init__(self, logits: torch.Tensor, context: TokenIds) -> None:
        self._logits = logits
        self._context = context

    @property
    def context(self) -> TokenIds:
        """The committed tokens, which row 0 follows. Borrowed: valid until the next commit."""
        return self._context

    def argmax(self) -> TokenIds:
        """int32 [n + 1]: the most likely next token of every row, in one call on the device."""
        return most_likely(self._logits)

    def logits(self, row: int) -> NDArray[np.float32]:
        """float32 [V]: the logits after `row`; read-only in effect (it may share memory)."""
        row_logits: NDArray[np.float32] = self._logits[row].to("cpu", torch.float32).numpy()
        return row_logits

    def top(self, k: int) -> Top:
        """The k likeliest tokens of every row, in one call on the device."""
        return likeliest(self._logits, k)


def most_likely(logits: torch.Tensor) -> TokenIds:
    """int32, one for each row: the lowest of the ids with the largest logit in the last dimension.

    On a CPU by NumPy, which is ten times as fast at this as torch: 0.3 against 3 ms for 17 rows
    of 152 k logits.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return np.asarray(logits.numpy().argmax(-1), dtype=np.int32)
    best: TokenIds = logits.argmax(-1).to("cpu", torch.int32).numpy()
    return best


def likeliest(logits: torch.Tensor, k: int) -> Top:
    """The k likeliest tokens of logits [rows, V].

    By torch on a CPU, too, which is ten times as fast at this as NumPy: 7 against 72 ms for 17 rows
    of 152 k logits.
    """
    logits = logits.float()
    best = logits.topk(min(k, logits.shape[-1]))
    logprobs = best.values - logits.logsumexp(-1, keepdim=True)
    return Top(best.indices.to("cpu", torch.int32).numpy(), logprobs.cpu().numpy())
