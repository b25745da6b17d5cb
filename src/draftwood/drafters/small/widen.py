"""CaPE's rule: more candidates where the drafter is less sure.

"GliDe with a CaPE" (arXiv 2402.02082, confidence-aware proposal expansion): a small model drafts a
chain; where its likeliest token has a low probability, the next likeliest ones are proposed beside
it for the target to choose from. The rule needs no training, and serves any drafter that knows its
candidates.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

from draftwood.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Widening:
    """How many candidates to propose, by the probability of the likeliest.

    bounds: rising, in (0, 1); widths: one more. A probability up to bounds[i] (and above the bound
    before) gives widths[i] candidates; above all bounds, the last.

    Raises:
        InvalidOption: bounds that do not rise within (0, 1), or widths that are not positive, grow
            with confidence, or are not one more than the bounds.
    """

    bounds: tuple[float, ...] = (0.3, 0.6, 0.8)
    widths: tuple[int, ...] = (7, 5, 3, 1)

    def __post_init__(self) -> None:
        around = (0.0, *self.bounds, 1.0)
        if not all(low < high for low, high in pairwise(around)):
            raise InvalidOption(f"bounds are {self.bounds}; let them rise within (0, 1)")
        falls = all(wide >= less for wide, less in pairwise(self.widths))
        if len(self.widths) != len(self.bounds) + 1 or min(self.widths, default=0) < 1 or not falls:
            raise InvalidOption(
                f"widths are {self.widths} for {len(self.bounds)} bounds; give one more than "
                "bounds, each at least 1 and none above the one before"
            )

    @property
    def most(self) -> int:
        """The largest width."""
        return self.widths[0]

    def width(self, confidence: float) -> int:
        """Candidates to propose where the likeliest has this probability."""
        return self.widths[bisect_left(self.bounds, confidence)]
