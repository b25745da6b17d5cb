"""A chain of a small model's likeliest tokens.

Leviathan et al. 2023 (arXiv 2211.17192); Chen et al. 2023 (arXiv 2302.01318). How long it is
follows from what was accepted so far and what a pass costs (`Gain`). A chain of *sampled* tokens
is `MultiCandidate` with one candidate a level.
"""

from __future__ import annotations

from dataclasses import dataclass

from draftwood.drafters.small.growing import GrowingDrafter
from draftwood.drafters.small.growth import Growth
from draftwood.errors import InvalidOption
from draftwood.protocols import DraftModel


@dataclass(frozen=True, slots=True)
class Chain:
    """One token after the other, `gamma` at most."""

    gamma: int

    @property
    def passes(self) -> int:
        """One a token: the first token's is the context's."""
        return self.gamma

    @property
    def nodes(self) -> int:
        """As many."""
        return self.gamma

    def branch(self, turn: int) -> int:
        """One candidate."""
        return 1

    def level(self, growth: Growth, added: list[int]) -> list[int]:
        """The last token."""
        return added


class ModelChain(GrowingDrafter):
    """The likeliest token of a small model, then the likeliest behind it, and so on.

    gamma: tokens at most. gain: accepted tokens that one more pass must promise (0: the chain is
    always `gamma` long); "auto" weighs a pass's time against the pace of the text, see `Gain`.

    Raises:
        InvalidOption: gamma below 1, or a gain that is none.
    """

    def __init__(self, model: DraftModel, *, gamma: int = 16, gain: float | str = "auto") -> None:
        if gamma < 1:
            raise InvalidOption(f"gamma is {gamma}; draft 1 token or more")
        super().__init__(model, Chain(gamma), gain=gain)
