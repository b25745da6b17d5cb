"""How large a draft may be."""

from __future__ import annotations

from dataclasses import dataclass

from draftwood.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Budget:
    """What a draft may cost at most.

    nodes: drafted tokens in all. depth: tokens on one path (None: as `nodes`). floor: in [0, 1],
    the least probability of acceptance of a node (the product of confidences down its path) that is
    worth drafting. Only a hint: a draft may hold less likely nodes.
    """

    nodes: int = 32
    depth: int | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.nodes < 0:
            raise InvalidOption(f"budget of {self.nodes} nodes is negative; use 0 for no draft")
        if self.depth is not None and self.depth < 0:
            raise InvalidOption(f"budget depth {self.depth} is negative; use 0 for no draft")
        if not 0.0 <= self.floor <= 1.0:
            raise InvalidOption(f"budget floor {self.floor} is no probability; use 0 to 1")

    def within(self, depth: int) -> Budget:
        """The same budget, at most `depth` (>= 0) tokens deep."""
        depth = depth if self.depth is None else min(self.depth, depth)
        return Budget(self.nodes, depth, self.floor)

    @property
    def reach(self) -> int:
        """Tokens on the longest path that fits this budget."""
        return self.nodes if self.depth is None else min(self.nodes, self.depth)
