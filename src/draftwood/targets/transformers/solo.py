"""One sequence in a batch of its own, as a cursor: for passes that know batches only."""

from __future__ import annotations

from draftwood.draft import Draft, TokenIds
from draftwood.protocols import Verdict
from draftwood.targets.transformers.batch import TransformersBatch
from draftwood.targets.transformers.network import Network
from draftwood.targets.transformers.rows import TransformersRows


class SoloCursor:
    """A `TransformersBatch` of one sequence. Used by one thread at a time."""

    def __init__(self, network: Network, prompt: TokenIds) -> None:
        self._batch = TransformersBatch(network, 1)
        self._seat = self._batch.open(prompt)

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the committed ones; None: no limit."""
        return self._seat.room

    @property
    def context(self) -> TokenIds:
        """The committed tokens; a view that is valid until the next commit."""
        return self._seat.context

    def score(self, draft: Draft) -> TransformersRows:
        """One pass over the whole draft (before it, at first: over the prompt)."""
        return self._batch.score([self._seat], [draft])[0]

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path and the next token; forget the rest of the scored draft."""
        self._seat.commit(draft, verdict)

    def close(self) -> None:
        """Give the cache back; the cursor is not used again."""
        self._batch.close()
