"""The drafter that proposes nothing: plain decoding, and what speed-ups are measured against."""

from __future__ import annotations

from collections.abc import Sequence

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.protocols import Feedback


class NoDraft:
    """No drafts: plain decoding. A drafter and its own stream; safe to share between threads."""

    def __repr__(self) -> str:
        return "NoDraft()"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> NoDraft:
        """The stream: this object, since it holds no state."""
        return self

    def propose(self, budget: Budget) -> Draft:
        """The empty draft."""
        return Draft.empty()

    def observe(self, feedback: Feedback) -> None:
        """Nothing to learn."""

    def close(self) -> None:
        """Nothing to release."""
