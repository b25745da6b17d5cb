"""A guard before drafters that rank tokens: what was sampled must not be chosen among."""

from __future__ import annotations

from collections.abc import Sequence

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.errors import InvalidDraft
from draftwood.guarded import open_stream
from draftwood.protocols import Drafter, Stream


class Chosen:
    """A drafter whose drafts must be of chosen tokens."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> ChosenStream:
        """A stream of the drafter."""
        return ChosenStream(open_stream(self._drafter, prompt, namespace, prediction))

    def close(self) -> None:
        """Close the drafter."""
        self._drafter.close()


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
