r"""The speculation tree: what a drafter proposes, as a token tree in flat arrays.

  context          tokens   a  b  c  d
   /   \           parents -1 -1  0  0        parents stand before children,
  a     b                                     best first, so that every prefix of the
 / \                                          arrays is a valid draft by itself
c   d
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draftwood import _native
from draftwood.draft_budget import Budget
from draftwood.draft_checks import ROOT, require_arrays, require_fit
from draftwood.errors import InvalidDraft
from draftwood.markup import tree_html
from draftwood.tokens import MAX_TOKEN, NO_TOKENS, TokenIds, as_tokens

__all__ = ["MAX_TOKEN", "NO_TOKENS", "ROOT", "Budget", "Draft", "TokenIds", "as_tokens"]

_SURE = 1.001
"""Highest confidence, with what rounding may add to a probability of 1."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Draft:
    """A token tree below the committed context; n nodes in flat arrays, best first.

    tokens: int32 [n]. parents: int32 [n], ROOT or an earlier node. confidence: float32 [n],
    P(accepted | parent accepted); it decides how drafts are cut, never what is accepted. source:
    uint8 [n], which drafter proposed the node (`source_of`). proposal: [n, V] rows q that the
    tokens were *sampled* from, or None where the drafter chose them. evidence: uint8 [n], how well
    founded the confidence is, in classes of the drafter's own such as match lengths; calibration
    keeps the classes apart.

    Raises:
        InvalidDraft: arrays of another type, shape or length; a parent that does not stand before
            its child; negative token ids.
    """

    tokens: TokenIds
    parents: NDArray[np.int32]
    confidence: NDArray[np.float32]
    source: NDArray[np.uint8]
    proposal: NDArray[Any] | None = None
    evidence: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if not self.is_sound(None):
            require_arrays(self)

    def is_sound(self, vocab_size: int | None = None) -> bool:
        """Whether `check` finds nothing wrong; one look in native code.

        False, too, for a draft with proposal rows or evidence, and for arrays in an unusual
        layout: `check` looks longer.
        """
        return (
            self.proposal is None
            and self.evidence is None
            and _native.is_sound(
                self.tokens,
                self.parents,
                self.confidence,
                self.source,
                MAX_TOKEN + 1 if vocab_size is None else vocab_size,
                _SURE,
            )
        )

    def check(self, vocab_size: int | None = None) -> None:
        """Check everything that verification and budgets rely on; for drafts from other code.

        vocab_size: entries of the target's rows; None: not known.

        Raises:
            InvalidDraft: what the constructor refuses (an array may have changed since); an id that
                is not below `vocab_size`; a confidence outside [0, 1]; proposal rows of another
                size, with NaN, infinite or negative weights, or weight 0 for their own token.
        """
        if self.is_sound(vocab_size):
            return
        require_fit(self, vocab_size, sure=_SURE)

    @classmethod
    def trusted(
        cls,
        tokens: TokenIds,
        parents: NDArray[np.int32],
        confidence: NDArray[np.float32],
        source: NDArray[np.uint8],
    ) -> Draft:
        """A draft from arrays that are known to be valid; nothing is checked here.

        For this library's own history drafters. Whoever serves drafts checks these like all others
        (`check`), so that a drafter that passes broken arrays here loses its drafts.
        """
        draft = object.__new__(cls)
        put = object.__setattr__
        put(draft, "tokens", tokens)
        put(draft, "parents", parents)
        put(draft, "confidence", confidence)
        put(draft, "source", source)
        put(draft, "proposal", None)
        put(draft, "evidence", None)
        return draft

    def with_confidence(self, confidence: NDArray[np.float32]) -> Draft:
        """The same nodes with another confidence, float32 [n]."""
        return Draft(
            self.tokens, self.parents, confidence, self.source, self.proposal, self.evidence
        )

    @classmethod
    def empty(cls) -> Draft:
        """The draft without nodes: a plain decoding step."""
        return _EMPTY

    @classmethod
    def tree(
        cls,
        tokens: ArrayLike,
        parents: ArrayLike,
        *,
        confidence: ArrayLike | float = 1.0,
        source: int = 0,
        proposal: NDArray[Any] | None = None,
    ) -> Draft:
        """A draft from lists or arrays; a scalar `confidence` holds for every node."""
        ids = as_tokens(tokens)
        n = len(ids)
        return cls(
            ids,
            np.asarray(parents, dtype=np.int32).reshape(-1),
            np.array(np.broadcast_to(np.asarray(confidence, dtype=np.float32), (n,))),
            np.full(n, source, dtype=np.uint8),
            proposal,
        )

    @classmethod
    def chain(
        cls,
        tokens: ArrayLike,
        *,
        confidence: ArrayLike | float = 1.0,
        source: int = 0,
        proposal: NDArray[Any] | None = None,
    ) -> Draft:
        """A draft without branches: each token continues the one before it."""
        ids = as_tokens(tokens)
        parents = np.arange(-1, len(ids) - 1, dtype=np.int32)
        return cls.tree(ids, parents, confidence=confidence, source=source, proposal=proposal)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        if not len(self):
            return "Draft(0 nodes)"
        best = " ".join(map(str, self.to_chain(8).tokens.tolist()))
        nodes = f"{len(self)} node{'s' if len(self) > 1 else ''}"
        return f"Draft({nodes}, {self.height} deep, begins {best})"

    def _repr_html_(self) -> str:
        """The tree as nested lists of token ids, for notebooks."""
        return self.html(str)

    def html(self, label: Callable[[int], str]) -> str:
        """The tree as nested lists. label: the text of a token id, such as `llm.decode([id])`."""
        labels = [label(token) for token in self.tokens.tolist()]
        return tree_html(labels, self.parents.tolist(), self.confidence.tolist())

    @property
    def depths(self) -> NDArray[np.int32]:
        """int32 [n]: tokens on the path to each node, itself included; 1 below the context."""
        return np.array(self._depths(), dtype=np.int32)

    @property
    def height(self) -> int:
        """Tokens on the longest path; 0 for the empty draft."""
        if not len(self):
            return 0
        return len(self) if self.is_chain else max(self._depths())

    @property
    def expected(self) -> float:
        """Expected accepted tokens: over all nodes, the product of confidences on the path.

        SCORE(T) of SuffixDecoding (arXiv 2411.04975, section 4.2).
        """
        reached = np.empty(len(self))
        for node, parent in enumerate(self.parents.tolist()):
            above = 1.0 if parent == ROOT else reached[parent]
            reached[node] = above * self.confidence[node]
        return float(reached.sum())

    @property
    def is_chain(self) -> bool:
        """Whether every node continues the one before it."""
        n = len(self)
        if n and int(self.parents[-1]) != n - 2:  # tells most trees at once
            return False
        return bool(self.parents.tolist() == list(range(-1, n - 1)))

    def mask(self) -> NDArray[np.bool_]:
        """bool [n, n]: row i sees column j where j is i or an ancestor of i."""
        n = len(self)
        if self.is_chain:
            return np.tri(n, dtype=np.bool_)
        mask = np.eye(n, dtype=np.bool_)
        for node, parent in enumerate(self.parents.tolist()):
            if parent != ROOT:
                mask[node] |= mask[parent]
        return mask

    def path(self, node: int) -> NDArray[np.int32]:
        """int32 [depth]: the nodes from the first token to `node`; empty for ROOT."""
        if not ROOT <= node < len(self):
            raise InvalidDraft(f"node {node} is not in a draft of {len(self)} nodes")
        reverse = []
        while node != ROOT:
            reverse.append(node)
            node = int(self.parents[node])
        return np.array(reverse[::-1], dtype=np.int32)

    def children(self, node: int) -> NDArray[np.intp]:
        """The nodes whose parent is `node` (ROOT: the first tokens), best first."""
        return np.flatnonzero(self.parents == node)

    def cut(self, *, nodes: int | None = None, leaves: int | None = None) -> Draft:
        """The first nodes, as many as stay within `nodes` nodes and `leaves` leaves."""
        keep = len(self) if nodes is None else max(0, min(nodes, len(self)))
        if leaves is not None:
            keep = min(keep, self._prefix_with_leaves(leaves))
        return self if keep == len(self) else self._select(slice(keep), self.parents[:keep])

    def to_depth(self, depth: int) -> Draft:
        """The nodes at most `depth` tokens below the context."""
        kept = np.flatnonzero(self.depths <= depth)
        place = np.full(len(self) + 1, ROOT, dtype=np.int32)  # entry -1 stands for ROOT
        place[kept] = np.arange(len(kept), dtype=np.int32)
        return self._select(kept, place[self.parents[kept]])

    def select(self, nodes: Sequence[int]) -> Draft:
        """Some of the nodes, given in rising order, with the parent of each."""
        place = {ROOT: ROOT} | {node: at for at, node in enumerate(nodes)}
        kept = np.array(nodes, dtype=np.intp)
        try:
            parents = [place[parent] for parent in self.parents[kept].tolist()]
        except KeyError as missing:
            raise InvalidDraft(f"node {missing} is left out but not its children") from None
        return self._select(kept, np.array(parents, dtype=np.int32))

    def to_chain(self, k: int | None = None) -> Draft:
        """The most confident child at every level, at most `k` tokens; ties: the earlier node.

        Where tokens were sampled (`proposal` is set) it is the first child at every level instead:
        choosing among samples by their tokens would change the distribution they were drawn from.
        """
        nodes: list[int] = []
        at = ROOT
        limit = len(self) if k is None else k
        while len(nodes) < limit:
            below = self.children(at)
            if not len(below):
                break
            best = 0 if self.proposal is not None else int(np.argmax(self.confidence[below]))
            at = int(below[best])
            nodes.append(at)
        parents = np.arange(-1, len(nodes) - 1, dtype=np.int32)
        return self._select(np.array(nodes, dtype=np.intp), parents)

    def first_child_next_sibling(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Two int32 [n + 1] arrays over rows (row 0 is the context, row i + 1 is node i).

        Entry r of the first is the row of r's first child, of the second that of its next sibling;
        -1 where there is none. The form in which SGLang's kernels take a tree.
        """
        first = np.full(len(self) + 1, -1, dtype=np.int32)
        sibling = np.full(len(self) + 1, -1, dtype=np.int32)
        last: dict[int, int] = {}
        for node, parent in enumerate(self.parents.tolist()):
            if parent in last:
                sibling[last[parent]] = node + 1
            else:
                first[parent + 1] = node + 1
            last[parent] = node + 1
        return first, sibling

    def _depths(self) -> list[int]:
        depths: list[int] = []
        for parent in self.parents.tolist():
            depths.append(1 if parent == ROOT else depths[parent] + 1)
        return depths

    def _select(self, nodes: NDArray[np.intp] | slice, parents: NDArray[np.int32]) -> Draft:
        return Draft(
            self.tokens[nodes],
            parents,
            self.confidence[nodes],
            self.source[nodes],
            None if self.proposal is None else self.proposal[nodes],
            None if self.evidence is None else self.evidence[nodes],
        )

    def _prefix_with_leaves(self, leaves: int) -> int:
        """How many nodes stand before the one that would open leaf number `leaves` + 1."""
        has_child: set[int] = set()
        count = 0
        for node, parent in enumerate(self.parents.tolist()):
            count += parent == ROOT or parent in has_child
            has_child.add(parent)
            if count > leaves:
                return node
        return len(self)


_EMPTY = Draft.trusted(
    NO_TOKENS,
    np.empty(0, dtype=np.int32),
    np.empty(0, dtype=np.float32),
    np.empty(0, dtype=np.uint8),
)
