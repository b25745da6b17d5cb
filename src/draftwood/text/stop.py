"""When to stop: end tokens, stop tokens, a limit of tokens or time, the context's end, strings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from numbers import Integral
from time import monotonic
from typing import Any

from draftwood.draft import Draft, TokenIds
from draftwood.errors import InvalidOption
from draftwood.protocols import Verdict

Ends = Callable[[TokenIds], int | None]
"""Told each step's tokens in order; how many of them to keep if generation ends here, else None."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Limits of one generation.

    max_tokens: generated tokens in all; None: until the model ends. end_tokens: the model's ids
    that end the text (they are generated, and nothing after them). ends: further rules, such as
    stop strings. stop_token_ids: the caller's ids that end the text as end tokens do. until: a time
    of `time.monotonic`; the first step that is verified after it is the last.

    Raises:
        InvalidOption: for a limit that is no integer >= 1, or ids that are no integers >= 0.
    """

    max_tokens: int | None = None
    end_tokens: Collection[int] = ()
    ends: tuple[Ends, ...] = ()
    stop_token_ids: Collection[int] = ()
    until: float | None = None

    def __post_init__(self) -> None:
        limit: Any = self.max_tokens
        if limit is not None and (not _is_integer(limit) or limit < 1):
            raise InvalidOption(f"max_tokens is {limit!r}; ask for 1 token or more, or None")
        ids: Any = self.stop_token_ids
        if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
            raise InvalidOption(f"stop_token_ids is {ids!r}; give a list of token ids")
        for token in ids:
            if not _is_integer(token) or token < 0:
                raise InvalidOption(f"stop_token_ids holds {token!r}; use token ids from 0 up")

    def apply(
        self, draft: Draft, verdict: Verdict, *, generated: int, room: int | None = None
    ) -> tuple[Verdict, str | None]:
        """The verdict cut where generation ends, and why it ends (None: it does not).

        generated: tokens before this step. room: tokens that still fit into the context.
        """
        tokens = verdict.tokens(draft)
        keep, finish = len(tokens), None
        if room is not None and keep >= room:
            keep, finish = room, "context"
        if self.max_tokens is not None and generated + keep >= self.max_tokens:
            keep, finish = self.max_tokens - generated, "length"
        for at, token in enumerate(tokens[:keep].tolist()):
            if token in self.end_tokens or token in self.stop_token_ids:
                keep, finish = at + 1, "stop"
                break
        for rule in self.ends:
            kept = rule(tokens[:keep])
            if kept is not None:
                keep, finish = kept, "stop"
        if finish is None and self.until is not None and monotonic() >= self.until:
            finish = "time"
        if keep == len(tokens):
            return verdict, finish
        return Verdict(verdict.path[:keep], None), finish


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
