r"""One sequence in a context of llama.cpp, and how its draft is laid out in sequence ids.

A tree is verified in one decode: a node belongs to the sequence of every leaf below it.

    context ............ 0 - 1 - 2        leaf 2: the seat's own id; leaves 3, 4: ids on loan, which
                           \- 3   4 <- 0   share the context's cells. Node 0 is in all three.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from draftwood.draft import ROOT, Draft, TokenIds
from draftwood.errors import InvalidDraft
from draftwood.protocols import Verdict
from draftwood.targets.committed import Committed
from draftwood.targets.llama_cpp.context import DecodeRow, LlamaContext


class LlamaSeat:
    """A sequence of a context. Used by one thread at a time.

    committed: the prompt. held: tokens of it whose keys and values are there, under `own`.
    """

    def __init__(self, context: LlamaContext, committed: Committed) -> None:
        self.own = context.take_id()
        self.held = 0
        self._context = context
        self._committed = committed
        self._draft: Draft | None = None
        self._loaned: list[int] = []
        self._ids: list[list[int]] = []
        self._open = True

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the committed ones."""
        return self._committed.room

    @property
    def tokens(self) -> TokenIds:
        """The committed tokens; a view that is valid until the next commit."""
        return self._committed.tokens

    def share_from(self, other: LlamaSeat) -> None:
        """Take over the keys and values of the tokens that this text begins with, as another."""
        most = min(other.held, self._committed.count - 1)
        if most <= self.held:
            return
        apart = np.flatnonzero(self.tokens[:most] != other.tokens[:most])
        common = int(apart[0]) if len(apart) else most
        if common > self.held:
            self._context.share(other.own, self.own, self.held, common)
            self.held = common

    def forget_draft(self) -> None:
        """Forget a draft that was scored and not committed; another one can be scored."""
        self.release()
        self._draft = None
        keep = min(self.held, self._committed.count - 1)
        self._context.forget(self.own, keep)
        self.held = keep

    def prompt_rows(self, most: int) -> list[DecodeRow]:
        """Rows of the tokens that are not held, but for the last `most`; counted as held."""
        end = self._committed.count - most
        rows = [
            DecodeRow(token, self.held + at, (self.own,), False)
            for at, token in enumerate(self.tokens[self.held : max(end, self.held)].tolist())
        ]
        self.held += len(rows)
        return rows

    def draft_rows(self, draft: Draft, vocab_size: int) -> list[DecodeRow]:
        """Rows of what is not held, then of the draft's nodes; leaves but one get ids on loan."""
        leaves = sorted(set(range(len(draft))) - set(draft.parents.tolist()))
        self._loaned = [self._context.take_id() for _ in leaves[1:]]
        for sequence in self._loaned:
            self._context.share(self.own, sequence, 0, self.held)
        every = [self.own, *self._loaned]
        self._ids = [[] for _ in range(len(draft))]
        for leaf, sequence in zip(leaves, every, strict=False):
            for node in draft.path(leaf).tolist():
                self._ids[node].append(sequence)
        count = self._committed.count
        pending = self.tokens[self.held :].tolist()
        rows = [
            DecodeRow(token, self.held + at, every, self.held + at == count - 1)
            for at, token in enumerate(pending)
        ]
        known = np.minimum(draft.tokens, vocab_size - 1)  # those beyond are never accepted
        rows += [
            DecodeRow(token, count - 1 + depth, ids, True)
            for token, depth, ids in zip(
                known.tolist(), draft.depths.tolist(), self._ids, strict=True
            )
        ]
        self._draft, self.held = draft, count
        return rows

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path and the next token; forget the rest of the scored draft.

        Raises:
            InvalidDraft: for another draft than the one scored last.
        """
        if draft is not self._draft:
            raise InvalidDraft("the draft to commit is not the one scored last; score it first")
        holders = [self._ids[node] for node in verdict.path.tolist()]
        end = self.held + len(holders)
        if holders and self.own not in holders[-1]:
            if self._loaned:
                self._context.forget(self.own, self.held)
                self._context.share(holders[-1][0], self.own, self.held, end)
            else:  # released: what other ids held is computed again
                end = self.held + sum(self.own in ids for ids in holders)
        self._context.forget(self.own, end)
        self.held = end
        self.release()
        self._draft = None
        self._committed.append(verdict.tokens(draft))

    def close(self) -> None:
        """Give the sequence's ids and cells back; the seat is not used again."""
        if self._open:
            self._open = False
            self.release()
            self._context.give_id(self.own)

    def release(self) -> None:
        """Return the ids on loan; of the scored draft, only the path under `own` is still held."""
        for sequence in self._loaned:
            self._context.give_id(sequence)
        self._loaned = []


def leaves_of(draft: Draft) -> int:
    """Leaves of a draft: paths that end in it."""
    return len(draft) - len(set(draft.parents.tolist()) - {ROOT})


def groups(sizes: Sequence[tuple[int, int]], rows: int, ids: int) -> list[list[int]]:
    """Numbers 0, 1, .. in groups whose sums of rows and ids are within these limits.

    sizes: (rows, ids) of each. One that is beyond a limit by itself is alone.
    """
    found: list[list[int]] = []
    used = (0, 0)
    for at, (own_rows, own_ids) in enumerate(sizes):
        if not found or used[0] + own_rows > rows or used[1] + own_ids > ids:
            found.append([])
            used = (0, 0)
        found[-1].append(at)
        used = (used[0] + own_rows, used[1] + own_ids)
    return found
