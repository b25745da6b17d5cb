"""Statistics of generation, counted step by step: acceptance, tokens per step, time.

"Accepted" excludes the target's own token; "tokens per step" includes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any

from draftwood.markup import figures_html
from draftwood.sources import PREDICTED
from draftwood.step import Step


@dataclass(slots=True, repr=False)
class Stats:
    """Counts over the steps of one sequence or many. Not thread-safe: one writer.

    accepted_by_position[d] / drafted_by_position[d]: steps whose accepted path / draft is deeper
    than d tokens. accepted_prediction_tokens, rejected_prediction_tokens: tokens drafted from a
    prediction (source `PREDICTED`) that the target took, and those that it refused. The other
    fields leave out the first step of each sequence, since it computes the prompt.
    later_tokens, later_seconds: sums over all later steps. plain_steps, plain_seconds: later steps
    without a draft. priced_tokens, priced_seconds: tokens for which `add` was given the
    time of a plain step, and the sum of those times.
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
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    later_tokens: int = 0
    later_seconds: float = 0.0
    plain_steps: int = 0
    plain_seconds: float = 0.0
    priced_tokens: int = 0
    priced_seconds: float = 0.0

    @classmethod
    def of(cls, steps: Iterable[Step]) -> Stats:
        """The figures of one sequence's steps."""
        stats = cls()
        for number, step in enumerate(steps):
            stats.add(step, first=not number)
        return stats

    @classmethod
    def together(cls, several: Iterable[Stats]) -> Stats:
        """The figures of several runs as those of one."""
        total = cls()
        for stats in several:
            for each in fields(cls):
                ours, theirs = getattr(total, each.name), getattr(stats, each.name)
                if isinstance(ours, list):
                    summed = [sum(pair) for pair in zip_longest(ours, theirs, fillvalue=0)]
                    setattr(total, each.name, summed)
                else:
                    setattr(total, each.name, ours + theirs)
        return total

    def add(self, step: Step, *, first: bool = False, plain: float | None = None) -> None:
        """Count one step.

        first: whether it is its sequence's first step, which computes the prompt. plain: seconds
        that a plain step would have taken here, from a cost curve; None: not known.
        """
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
        predicted = step.draft.source == PREDICTED
        right = int(predicted[step.verdict.path].sum())
        self.accepted_prediction_tokens += right
        self.rejected_prediction_tokens += int(predicted.sum()) - right
        if first:
            return
        self.later_tokens += len(step.tokens)
        self.later_seconds += step.seconds.total
        if plain is not None:
            self.priced_tokens += len(step.tokens)
            self.priced_seconds += len(step.tokens) * plain
        if not len(step.draft):
            self.plain_steps += 1
            self.plain_seconds += step.seconds.score + step.seconds.verify

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
    def seconds_saved(self) -> float | None:
        """Seconds saved against plain decoding; None where the time of a plain step is not known.

        The time of a plain step for each token, minus the time of the steps, drafting included; the
        first step of each sequence is left out. The time of a plain step is the one given to `add`,
        else the mean of the steps that had no draft. Negative where drafting cost more than it
        saved.
        """
        unpriced = self.later_tokens - self.priced_tokens
        if unpriced and not self.plain_steps:
            return None
        mean = self.plain_seconds / self.plain_steps if unpriced else 0.0
        return self.priced_seconds + unpriced * mean - self.later_seconds

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
            "accepted_prediction_tokens": self.accepted_prediction_tokens,
            "rejected_prediction_tokens": self.rejected_prediction_tokens,
            "seconds": self.seconds,
            "seconds_saved": self.seconds_saved,
        }

    def __str__(self) -> str:
        text = (
            f"{self.tokens} tokens in {self.steps} steps, {self.tokens_per_step:.2f} a step; "
            f"{self.acceptance_rate:.0%} of {self.drafted} drafted tokens accepted"
        )
        saved = self.seconds_saved
        if saved is None:
            return text
        return f"{text}, about {abs(saved):.1f} s {'lost' if saved < -0.05 else 'saved'}"

    def __repr__(self) -> str:
        return f"Stats({self})"

    def _repr_html_(self) -> str:
        """The figures as a table, for notebooks."""
        rows = {
            "tokens": f"{self.tokens:,} in {self.steps:,} steps",
            "tokens per step": f"{self.tokens_per_step:.2f}",
            "accepted": f"{self.acceptance_rate:.0%} of {self.drafted:,} drafted tokens",
            "tokens per second": f"{self.tokens_per_second:,.0f}",
        }
        if self.seconds_saved is not None:
            rows["seconds saved"] = f"{self.seconds_saved:.1f}"
        shares = [accepted / max(self.steps, 1) for accepted in self.accepted_by_position]
        return figures_html(rows, shares, "steps that accepted more than so many tokens")


def _count_below(counts: list[int], depth: int) -> None:
    counts.extend([0] * (depth - len(counts)))
    for position in range(depth):
        counts[position] += 1
