"""Figures of a generation: a fold over its steps.

"Accepted" excludes the target's own token; "tokens per step" includes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from draftwood.protocols import Step


@dataclass(slots=True)
class Stats:
    """Counts over steps, of one sequence or many. Not thread-safe: one writer.

    accepted_by_position[d] / drafted_by_position[d]: steps whose accepted path / draft is deeper
    than d tokens.
    """

    sequences: int = 0
    steps: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    drafting_steps: int = 0
    draft_seconds: float = 0.0
    score_seconds: float = 0.0
    verify_seconds: float = 0.0
    observe_seconds: float = 0.0
    accepted_by_position: list[int] = field(default_factory=list)
    drafted_by_position: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, steps: Iterable[Step]) -> Stats:
        """The figures of one sequence's steps."""
        stats = cls()
        for step in steps:
            stats.add(step)
        return stats

    def add(self, step: Step) -> None:
        """Count one step."""
        accepted = len(step.verdict.path)
        self.steps += 1
        self.tokens += len(step.tokens)
        self.drafted += len(step.draft)
        self.accepted += accepted
        self.drafting_steps += len(step.draft) > 0
        self.draft_seconds += step.seconds.draft
        self.score_seconds += step.seconds.score
        self.verify_seconds += step.seconds.verify
        self.observe_seconds += step.seconds.observe
        self.sequences += step.finish is not None
        _count_below(self.accepted_by_position, accepted)
        _count_below(self.drafted_by_position, step.draft.height)

    @property
    def tokens_per_step(self) -> float:
        """Generated tokens a target pass; 1.0 is plain decoding, 0.0 before the first step."""
        return self.tokens / self.steps if self.steps else 0.0

    @property
    def drafted_per_step(self) -> float:
        """Drafted tokens a target pass."""
        return self.drafted / self.steps if self.steps else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Accepted share of the drafted tokens; 0.0 where nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all steps."""
        return self.draft_seconds + self.score_seconds + self.verify_seconds + self.observe_seconds

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens a second of step time; 0.0 before the first step."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def seconds_saved(self) -> float:
        """Estimate: what one-token steps at this run's mean target pass would have added."""
        return (self.tokens - self.steps) * self.score_seconds / max(self.steps, 1) - (
            self.draft_seconds + self.observe_seconds
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, ready for JSON."""
        return {
            "tokens": self.tokens,
            "steps": self.steps,
            "tokens_per_step": self.tokens_per_step,
            "drafted_per_step": self.drafted_per_step,
            "acceptance_rate": self.acceptance_rate,
            "accepted_by_position": list(self.accepted_by_position),
            "drafted_by_position": list(self.drafted_by_position),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        return (
            f"{self.tokens} tokens in {self.steps} steps, {self.tokens_per_step:.2f} a step; "
            f"{self.acceptance_rate:.0%} of {self.drafted} drafted tokens accepted, "
            f"about {self.seconds_saved:.1f} s saved"
        )


def _count_below(counts: list[int], depth: int) -> None:
    counts.extend([0] * (depth - len(counts)))
    for position in range(depth):
        counts[position] += 1
