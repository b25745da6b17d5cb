"""A guard before drafters that rank tokens: what was sampled must not be chosen among."""

from __future__ import annotations

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.errors import InvalidDraft
from draftwood.protocols import Drafter, Stream


class Chosen:
    """A drafter whose drafts must be of chosen tokens."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter

    def open(self, prompt: TokenIds, *, namespace: str = "") -> ChosenStream:
        """A stream of the drafter."""
        return ChosenStream(self._drafter.open(prompt, namespace=namespace))

    def close(self) -> None:
        """End the drafter, where it can be ended."""
        end = getattr(self._drafter, "close", None)
        if end is not None:
            end()


class ChosenStream:
    """One sequence of a `Chosen` drafter."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.observe, self.close = stream.observe, stream.close

    def propose(self, budget: Budget) -> Draft:
        """The stream's draft.

        Raises:
            InvalidDraft: its tokens were sampled.
        """
        draft = self._stream.propose(budget)
        if draft.proposal is not None:
            raise InvalidDraft(
                f"a draft of {len(draft)} sampled tokens cannot be ranked by what they "
                "are, which would change the law of the text; use a drafter that chooses its tokens"
            )
        return draft
