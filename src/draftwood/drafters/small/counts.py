"""What small models did for their drafter: the figures beside tokens per step."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock


@dataclass(slots=True)
class DraftCounts:
    """Sums over the drafts of all streams. Safe to add to from several threads.

    drafts: how many were made. nodes: drafted tokens. passes: of the small models, prompts
    included. seconds: wall clock of drafting.
    """

    drafts: int = 0
    nodes: int = 0
    passes: int = 0
    seconds: float = 0.0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, nodes: int, passes: int, seconds: float) -> None:
        """Count one draft."""
        with self._lock:
            self.drafts += 1
            self.nodes += nodes
            self.passes += passes
            self.seconds += seconds
