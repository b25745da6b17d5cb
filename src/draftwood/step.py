"""What one turn of the loop did, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass

from draftwood.draft import Draft, TokenIds
from draftwood.protocols import Verdict


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall-clock seconds of one step, by part."""

    draft: float = 0.0
    score: float = 0.0
    verify: float = 0.0
    observe: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of the whole step."""
        return self.draft + self.score + self.verify + self.observe


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One turn of the loop: the draft, the verdict, what was generated and how long it took.

    tokens: int32, what this step generated. finish: None while generation goes on, else "stop"
    (an end token or stop string), "length" (max_tokens) or "context" (the model's limit).
    """

    draft: Draft
    verdict: Verdict
    tokens: TokenIds
    seconds: Seconds
    finish: str | None = None
