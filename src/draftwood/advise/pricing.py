"""The cost that advice is for, and how much it is to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from draftwood.budget.cost import VerifyCost

_SHOWN = (0, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class PricedBy:
    """A cost with its origin. kind: measured, curve, linear or preset.

    assumed: nobody chose it, so the verdict holds for such hardware only.
    """

    cost: VerifyCost
    kind: str
    name: str
    assumed: bool = False

    @property
    def estimate(self) -> bool:
        """Whether it was computed, not measured."""
        return self.kind == "preset"

    def __str__(self) -> str:
        what = {
            "preset": f"{self.name}, a roofline estimate",
            "linear": f"{self.name} of a step for each drafted token",
        }.get(self.kind, f"the {self.kind} {self.name}")
        return f"{what}, assumed as no cost was given" if self.assumed else what

    def as_dict(self, batch: int) -> dict[str, Any]:
        """For JSON. steps: drafted tokens of a sequence and the time of a pass, in plain steps."""
        plain = self.cost.seconds(0, batch=batch)
        steps = [[n, self.cost.seconds(n * batch, batch=batch) / plain] for n in _SHOWN]
        return {
            "kind": self.kind,
            "name": self.name,
            "estimate": self.estimate,
            "assumed": self.assumed,
            "batch": batch,
            "steps": steps,
        }
