"""When to stop: end tokens, a token limit, the context's end, stop strings."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from draftwood.draft import Draft, TokenIds
from draftwood.errors import InvalidOption
from draftwood.protocols import Verdict

Ends = Callable[[TokenIds], int | None]
"""Told each step's tokens in order; how many of them to keep if generation ends here, else None."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Limits of one generation.

    max_tokens: generated tokens in all; None: until the model ends. end_tokens: ids that end the
    text (they are generated, and nothing after them). ends: further rules, as stop strings.
    """

    max_tokens: int | None = None
    end_tokens: Collection[int] = ()
    ends: tuple[Ends, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidOption(f"max_tokens is {self.max_tokens}; ask for at least 1 token")

    def clip(
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
            if token in self.end_tokens:
                keep, finish = at + 1, "stop"
                break
        for rule in self.ends:
            kept = rule(tokens[:keep])
            if kept is not None:
                keep, finish = kept, "stop"
        if keep == len(tokens):
            return verdict, finish
        return Verdict(verdict.path[:keep], None), finish
