"""What one drafter did on one trace."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from draftwood.logs.call import Record
from draftwood.replay.cost import Clock
from draftwood.stats import Stats
from draftwood.step import Step

Watch: TypeAlias = Callable[[Step, Record, Clock | None], None]


@dataclass(slots=True)
class Figures:
    """Counts and times of one drafter on one trace.

    stats: the fold over all steps. draft_us: wall-clock microseconds to draft, a value a step.
    open_seconds: wall clock to open the requests, which indexes their prompts; prompt_tokens: the
    tokens of these prompts. Both stay 0 where requests share passes. clock: simulated time, where
    a cost was given. plain_seconds: the simulated time of as many tokens without drafts.
    """

    stats: Stats = field(default_factory=Stats)
    draft_us: array[float] = field(default_factory=lambda: array("f"))
    open_seconds: float = 0.0
    prompt_tokens: int = 0
    clock: Clock | None = None
    watch: Watch | None = None
    plain_seconds: float = 0.0

    def add(self, step: Step, record: Record) -> None:
        """Count one step of a record. The clock must have been told of its pass."""
        self.stats.add(step)
        self.draft_us.append(step.seconds.draft * 1e6)
        if self.clock is not None:
            self.plain_seconds += len(step.tokens) * self.clock.plain_token
        if self.watch is not None:
            self.watch(step, record, self.clock)

    @property
    def predicted_speedup(self) -> float | None:
        """Simulated time without drafts over that with them; None where no cost was given."""
        if self.clock is None:
            return None
        return self.plain_seconds / self.clock.seconds if self.clock.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The row of `replay --json`, without the names of trace and drafter.

        accepted_by_position[d], drafted_by_position[d]: steps that accepted, or drafted, more
        than d tokens on one path. Times are microseconds of wall clock and include what the loop
        itself takes. predicted_speedup is there where a cost was given.
        """
        stats = self.stats
        p50, p99 = np.percentile(self.draft_us, (50, 99)).tolist() if self.draft_us else (0.0, 0.0)
        priced = {} if self.clock is None else {"predicted_speedup": self.predicted_speedup}
        return {
            "records": stats.sequences,
            **stats.as_dict(),
            **priced,
            "draft_us_p50": p50,
            "draft_us_p99": p99,
            "observe_us_per_token": 1e6 * stats.observe_seconds / max(stats.tokens, 1),
            "open_us_per_token": 1e6 * self.open_seconds / max(self.prompt_tokens, 1),
        }
