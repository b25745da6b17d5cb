r"""Shapes of the trees that a small model grows, as values: how many candidates, which nodes next.

   Shape.expansion((2, 2, 1))  context       2 candidates after the context, 2 after each of them,
                               /     \       1 after each of these: <2,2,1> as SpecInfer writes it
                              a       b
                             / \     / \
                            c   d   e   f
                            |   |   |   |
                            g   h   i   j
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, prod

from draftwood.drafters.small.graph import TokenGraph
from draftwood.errors import InvalidOption, InvalidSpec
from draftwood.protocols import Top


@dataclass(frozen=True, slots=True)
class ConfidenceWidths:
    """CaPE's rule: the less sure the small model is, the more candidates are drafted.

    bounds: rising, in (0, 1). widths: one more than bounds. Where the likeliest candidate has a
    probability up to bounds[i] (and above the bound before), widths[i] candidates are drafted, the
    likeliest among them; above all bounds, the last. Bounds and widths are those of the code that
    was released with *GliDe with a CaPE* (arXiv 2402.02082, "confidence-aware proposal expansion").

    Raises:
        InvalidOption: bounds that do not rise within (0, 1), or widths that are not positive, grow
            with confidence, or are not one more than the bounds.
    """

    bounds: tuple[float, ...] = (0.3, 0.6, 0.8)
    widths: tuple[int, ...] = (8, 6, 4, 2)

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

    def width(self, confidence: float) -> int:
        """Candidates to draft where the likeliest has this probability."""
        return self.widths[bisect_left(self.bounds, confidence)]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a small model's tree grows: pass by pass, the first one over the context.

    widths: candidates after each node, by pass; as many passes are made at most. nodes: the largest
    draft. rows: nodes that go through the model in one pass at most, the likeliest; None: all.
    revisit: whether a pass may take up nodes that an earlier one left out. floor: paths less likely
    are not drafted. probability: paths less likely do not go through the model; they end there.
    siblings: a candidate less likely than this share of its likeliest sibling is dropped. overlap:
    see `TokenGraph`; None: nothing is merged, which makes a tree. confidence: draft fewer than
    `widths` candidates where the model is sure.

    Raises:
        InvalidOption: a value outside its range.
    """

    widths: tuple[int, ...]
    nodes: int
    rows: int | None = None
    revisit: bool = False
    floor: float = 0.0
    probability: float = 0.0
    siblings: float = 0.0
    overlap: int | None = None
    confidence: ConfidenceWidths | None = None

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise InvalidOption(
                f"widths are {self.widths}; give 1 candidate or more for each level, as in 4x2x1"
            )
        _at_least_one(nodes=self.nodes)
        if not 0.0 <= self.floor <= 1.0:
            raise InvalidOption(f"floor is {self.floor}; use a probability of 0 to 1")
        self.graph(())  # checks the rest

    @classmethod
    def chain(cls, gamma: int = 16) -> Shape:
        """The likeliest token, then the likeliest after it, and so on; `gamma` at most.

        Leviathan et al. 2023 (arXiv 2211.17192); Chen et al. 2023 (arXiv 2302.01318).
        """
        if gamma < 1:
            raise InvalidOption(f"gamma is {gamma}; draft 1 token or more")
        return cls((1,) * gamma, gamma)

    @classmethod
    def expansion(cls, widths: Sequence[int] = (4, 2, 1, 1)) -> Shape:
        """An expansion configuration <k_1 ... k_m>: k_i candidates after each node of level i - 1.

        Miao et al. 2024, *SpecInfer* (arXiv 2305.09781), section 3.1.
        """
        most = sum(prod(widths[: level + 1]) for level in range(len(widths)))
        return cls(tuple(widths), max(1, most))

    @classmethod
    def best_first(
        cls,
        *,
        nodes: int = 32,
        top_k: int = 4,
        width: int = 8,
        passes: int = 16,
        floor: float = 0.05,
    ) -> Shape:
        """Each pass extends the likeliest paths found so far, wherever they end.

        top_k: candidates after a node. width: nodes a pass. The tree follows the model's
        confidence: a chain where it is sure, bushes where it is not (the dynamic trees of EAGLE-2,
        arXiv 2406.16858, without its training).
        """
        _at_least_one(top_k=top_k, width=width, passes=passes)
        return cls((top_k,) * passes, nodes, width, revisit=True, floor=floor)

    @classmethod
    def gsd(
        cls,
        *,
        top_k: int = 4,
        siblings: float = 0.3,
        probability: float = 0.1,
        overlap: int | None = 1,
        width: int = 16,
        levels: int = 16,
        nodes: int = 32,
    ) -> Shape:
        """Graph-structured speculative decoding: runs that repeat are drafted once (`TokenGraph`).

        GSD, arXiv 2407.16207, section 3 (docs/graphs.md). top_k: candidates after a node. width:
        nodes a pass. levels: passes.
        """
        _at_least_one(top_k=top_k, width=width, levels=levels)
        return cls(
            (top_k,) * levels,
            nodes,
            width,
            probability=probability,
            siblings=siblings,
            overlap=overlap,
        )

    @classmethod
    def cape(
        cls,
        confidence: ConfidenceWidths = ConfidenceWidths(),
        *,
        levels: int = 16,
        nodes: int = 32,
    ) -> Shape:
        """A chain that has siblings where the model is less sure, as in *GliDe with a CaPE*.

        One node a pass, the likeliest; its siblings are leaves for the target to choose from.
        """
        _at_least_one(levels=levels)
        return cls((confidence.widths[0],) * levels, nodes, 1, confidence=confidence)

    def graph(self, context: Sequence[int], floor: float = 0.0) -> TokenGraph:
        """An empty graph with these options, below a context."""
        return TokenGraph(
            context,
            overlap=self.overlap,
            siblings=self.siblings,
            probability=max(self.probability, self.floor, floor),
        )

    def candidates(self, top: Top) -> tuple[list[list[int]], list[list[float]]]:
        """What may follow each row, and q of it, likeliest first."""
        tokens: list[list[int]] = top.tokens.tolist()
        shares = [[min(1.0, exp(log)) for log in row] for row in top.logprobs.tolist()]
        if self.confidence is not None:
            counts = [self.confidence.width(row[0]) for row in shares]
            tokens = [row[:k] for row, k in zip(tokens, counts, strict=True)]
            shares = [row[:k] for row, k in zip(shares, counts, strict=True)]
        return tokens, shares


def read_widths(text: str) -> tuple[int, ...]:
    """The widths that a spec writes as `4x2x1`.

    Raises:
        InvalidSpec: for anything but numbers with `x` between them.
    """
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise InvalidSpec(
            f"widths={text} cannot be read; write the candidates of each level as 4x2x1"
        ) from None


def _at_least_one(**options: int) -> None:
    for name, value in options.items():
        if value < 1:
            raise InvalidOption(f"{name} is {value}; use 1 or more")
