"""Logits processors: functions that change the logits of the next token before it is chosen.

A processor is any callable `(ids, logits) -> logits`. It is called once for each row that a
verifier visits, with all tokens before that row: the prompt, the generated text and the drafted
tokens on the path to the row. It must therefore compute its result from `ids` alone, or keep its
own state for each prefix that it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import Draft, TokenIds
from draftwood.errors import InvalidOption

LogitsProcessor: TypeAlias = Callable[[TokenIds, NDArray[np.float32]], Any]
"""`(ids, logits) -> logits`: ids int32 [n], not to be changed; logits float32 [V], a private copy.

It returns an array of the same shape, or None where it changed `logits` in place.
"""


@runtime_checkable
class Foreseeing(Protocol):
    """Optional for a processor: says beforehand which drafted tokens it will forbid."""

    def keeps(self, ids: TokenIds, draft: Draft) -> list[int]:
        """The nodes of a draft after `ids` that it does not forbid, rising, each with its parent.

        ids: int32 [n], prompt and text so far.
        """


def process(
    processors: Iterable[LogitsProcessor], ids: TokenIds, logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """float32 [V]: the logits after all processors, one after the other.

    ids: int32 [n], the tokens before the row. logits: float32 [V]; may be changed in place.

    Raises:
        InvalidOption: for a processor that returns an array of another shape.
    """
    for processor in processors:
        changed = processor(ids, logits)
        if changed is None:
            continue
        after = np.asarray(changed, dtype=np.float32)
        if after.shape != logits.shape:
            raise InvalidOption(
                f"the logits processor {processor!r} returned shape {list(after.shape)} for logits "
                f"of shape {list(logits.shape)}; return one number for each token"
            )
        logits = after if after.flags.writeable else after.copy()
    return logits


class LogitBias:
    """A processor that adds a number to the logits of some tokens.

    bias: token id -> number; -inf forbids a token. Ids beyond the logits have no effect.

    Raises:
        InvalidOption: for ids that are not integers >= 0, or a bias that is NaN or no number.
    """

    def __init__(self, bias: Mapping[int, float]) -> None:
        if not isinstance(bias, Mapping):
            raise InvalidOption(f"logit_bias is {bias!r}; give a dict of token id -> number")
        token: Any
        value: Any
        for token, value in bias.items():
            if isinstance(token, bool) or not isinstance(token, Integral) or int(token) < 0:
                raise InvalidOption(f"logit_bias names token {token!r}; use ids from 0 up")
            if not isinstance(value, Real) or value != value or value == float("inf"):
                raise InvalidOption(
                    f"logit_bias of token {token} is {value!r}; use a number, or -inf to forbid it"
                )
        self._tokens = np.array(list(bias), dtype=np.int64)
        self._values = np.array(list(bias.values()), dtype=np.float32)

    def __repr__(self) -> str:
        return f"LogitBias({len(self._tokens)} tokens)"

    def __call__(self, ids: TokenIds, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits, changed in place."""
        there = self._tokens < len(logits)
        logits[self._tokens[there]] += self._values[there]
        return logits
