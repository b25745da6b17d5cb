"""How much of finished requests a suffix history keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from draftwood.errors import InvalidOption

Evict = Literal["fifo", "lru"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept; None: no limit.

    requests, tokens: finished ones. bytes: of all trees, in which finished requests make room for
    running ones too; kept whenever a request has ended. Running ones alone may need more.

    evict: which requests are evicted first. "fifo": those that ended first. "lru": those least
    recently drafted from; a draft counts for a request whose text holds it (of several, most often
    the last), and a request's end counts as a draft.

    Raises:
        InvalidOption: a value outside its range.
    """

    requests: int | None = None
    tokens: int | None = None
    bytes: int | None = None
    evict: Evict = "fifo"

    def __post_init__(self) -> None:
        limits = {"requests": self.requests, "tokens": self.tokens, "bytes": self.bytes}
        for name, limit in limits.items():
            if limit is not None and limit < 0:
                raise InvalidOption(f"max_{name} is {limit}; use 0 or more, or None for no limit")
        if self.evict not in ("fifo", "lru"):
            raise InvalidOption(f"evict is {self.evict!r}; use 'fifo' or 'lru'")

    @property
    def any(self) -> bool:
        """Whether anything is limited at all."""
        return any(each is not None for each in (self.requests, self.tokens, self.bytes))
