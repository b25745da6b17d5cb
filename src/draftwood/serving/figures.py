"""What an engine's drafting brought, counted beside the engine's own counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from draftwood.budget.spending import Spending
from draftwood.serving.options import RequestOptions
from draftwood.sources import source_of

MOST_NAMESPACES = 10_000
"""Namespaces that are counted apart."""


@dataclass(slots=True)
class _Passes:
    """Timed passes. batch: the last size. steps: plain ones that would have brought as much."""

    batch: int = 0
    steps: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True)
class EngineFigures:
    """Sums since the engine started.

    drafted, accepted: tokens by number of their source. steps, rows, tokens: passes, the requests
    in them, and what they generated. draft_seconds: spent in drafting. errors: by kind.
    batches: by class of batch size (powers of two) what its timed passes brought.
    """

    drafted: Counter[int] = field(default_factory=Counter)
    accepted: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    namespaces: set[str] = field(default_factory=set)
    steps: int = 0
    rows: int = 0
    tokens: int = 0
    requests: int = 0
    private_requests: int = 0
    draft_seconds: float = 0.0
    batches: dict[int, _Passes] = field(default_factory=dict)

    def opened(self, options: RequestOptions) -> None:
        """A request begins."""
        self.requests += 1
        self.private_requests += options.private
        if not options.private and len(self.namespaces) < MOST_NAMESPACES:
            self.namespaces.add(options.namespace)

    def count(self, drafted: bytes, accepted: bytes) -> None:
        """Of tokens drafted for a request, some came true; both by the numbers of their sources."""
        for number in set(drafted):
            self.drafted[number] += drafted.count(number)
        for number in set(accepted):
            self.accepted[number] += accepted.count(number)

    def step(
        self,
        asked: Sequence[object],
        came: int,
        took: float,
        drafting: float,
    ) -> None:
        """A step ends. came: tokens of all rows. took: seconds of the pass; 0: not known."""
        rows = len(asked)
        if not rows:
            return
        self.steps += 1
        self.rows += rows
        self.tokens += came
        self.draft_seconds += drafting
        passes = self.batches.setdefault(rows.bit_length(), _Passes())
        passes.batch = rows
        if took:
            passes.steps += came / rows
            passes.seconds += took + drafting

    def seconds_saved(self, spending: Spending | None) -> float:
        """By what was accepted, against passes without drafts, as those are timed by now."""
        saved = 0.0
        for passes in list(self.batches.values()):
            plain = None if spending is None else spending.plain_seconds(passes.batch)
            if plain is not None:
                saved += plain * passes.steps - passes.seconds
        return saved

    def report(self, spending: Spending | None, **state: Any) -> dict[str, Any]:
        """All of it as plain values for JSON. state: what the caller adds."""
        return {
            "requests": self.requests,
            "private_requests": self.private_requests,
            "namespaces": len(self.namespaces),
            "steps": self.steps,
            "rows": self.rows,
            "tokens": self.tokens,
            "drafted": _by_name(self.drafted),
            "accepted": _by_name(self.accepted),
            "draft_seconds": self.draft_seconds,
            "seconds_saved": self.seconds_saved(spending),
            "budget": {
                str(passes.batch): {
                    "drafting": spending.drafting(passes.batch),
                    "speedup": spending.speedup(passes.batch),
                }
                for passes in list(self.batches.values())
            }
            if spending is not None
            else {},
            **state,
        }


def _by_name(counts: Counter[int]) -> dict[str, int]:
    return {str(source_of(number)): count for number, count in list(counts.items())}
