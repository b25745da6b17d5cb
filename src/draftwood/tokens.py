"""Token ids: int32 arrays, checked where they enter the package."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draftwood.errors import InvalidTokens

TokenIds: TypeAlias = NDArray[np.int32]
MAX_TOKEN = int(np.iinfo(np.int32).max)
NO_TOKENS: TokenIds = np.empty(0, dtype=np.int32)
NO_TOKENS.flags.writeable = False


def as_tokens(values: ArrayLike, *, vocab_size: int | None = None) -> TokenIds:
    """Token ids as a contiguous int32 array; all ids that enter the package are checked here.

    Returns the argument itself (not a copy) where it already is such an array.

    Raises:
        InvalidTokens: for anything but a flat sequence of integers in [0, 2**31) or, where
            `vocab_size` is given, in [0, vocab_size). Ids are never truncated or rounded to fit.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise InvalidTokens(f"token ids have shape {array.shape}; pass a flat sequence of integers")
    if array.size == 0:
        return NO_TOKENS if array.dtype != np.int32 else np.ascontiguousarray(array)
    if array.dtype.kind not in "iu":
        raise InvalidTokens(f"token ids have type {array.dtype}; pass integers")
    limit = MAX_TOKEN if vocab_size is None else vocab_size - 1
    low = int(array.min())
    # int32 cannot exceed the limit of int32: one look less at what comes from our own arrays
    high = low if vocab_size is None and array.dtype == np.int32 else int(array.max())
    if low < 0 or high > limit:
        worst = low if low < 0 else high
        raise InvalidTokens(
            f"token id {worst} is outside [0, {limit}]; use the tokenizer that belongs to the model"
        )
    return np.ascontiguousarray(array, dtype=np.int32)
