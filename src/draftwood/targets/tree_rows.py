"""Position ids and attention masks for a token tree in a pass of a model.

rows       0    1    2    3    4      0, 1: pending tokens    2, 3: nodes 0, 1 after them
position   p   p+1  p+2  p+2  p+3     4: node 2, below node 0
sees       0   01   012  013  0124    and the whole cached context, of p tokens

`row_positions` and `tree_mask` lay out a draft that is passed at once, `GrowingTree` one whose
nodes are passed a few at a time, as a small model adds them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, Draft
from draftwood.errors import InvalidDraft

FIRST_NODES = 64
"""Nodes that a growing tree has room for at first; it doubles from there."""


def row_positions(draft: Draft, past: int, pending: int) -> NDArray[np.int64]:
    """int64 [pending + n]: the position of every row of a pass after `past` cached tokens."""
    positions = np.arange(past, past + pending + len(draft))
    positions[pending:] = past + pending - 1 + draft.depths
    return positions


def tree_mask(draft: Draft, past: int, pending: int) -> NDArray[np.bool_]:
    """bool [pending + n, past + pending + n]: what each row sees of all tokens and nodes."""
    rows, context = pending + len(draft), past + pending
    visible = np.ones((rows, past + rows), dtype=np.bool_)
    visible[:pending, past:] = np.arange(rows) <= np.arange(pending)[:, None]
    visible[pending:, context:] = draft.mask()
    return visible


def within_window(
    visible: NDArray[np.bool_], positions: NDArray[np.int64], window: int | None
) -> NDArray[np.bool_]:
    """A mask bool [m, keys] without what lies outside a row's window.

    positions: int64 [k], k >= m, of the last k keys, the mask's own rows being the last m of them;
    the keys before are the first tokens, in order. window: positions that a row sees at most, its
    own included; None: all.
    """
    rows, keys = visible.shape
    if window is None or keys <= window:
        return visible
    at = np.concatenate((np.arange(keys - len(positions)), positions))
    within: NDArray[np.bool_] = visible & (positions[-rows:, None] - at < window)
    return within


class GrowingTree:
    """Nodes below a context, added a few at a time: who stands below whom, and what each sees.

    nodes    0   1   2   3      2: below 0      a node sees what its parent sees, and itself
    2 sees   0       2

    depths: of every node; 1 for those right below the context.
    """

    __slots__ = ("_parents", "_tokens", "_visible", "depths")

    def __init__(self) -> None:
        self.depths: list[int] = []
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._visible = np.zeros((FIRST_NODES, FIRST_NODES), dtype=np.bool_)

    def depth_below(self, parents: list[int]) -> int:
        """The depth of the deepest node that would stand below one of `parents`.

        Raises:
            InvalidDraft: for a parent that is not there.
        """
        known = len(self._tokens)
        if not parents or not ROOT <= min(parents) <= max(parents) < known:
            raise InvalidDraft(
                f"parents {parents} of new nodes; give at least one, each {ROOT} or one of the "
                f"{known} nodes that were added in earlier calls"
            )
        return max(1 if parent == ROOT else self.depths[parent] + 1 for parent in parents)

    def add(self, tokens: list[int], parents: list[int]) -> NDArray[np.bool_]:
        """Add m nodes to n; bool [m, n + m]: which of all nodes each new one sees."""
        first, end = len(self._tokens), len(self._tokens) + len(tokens)
        while end > len(self._visible):
            self._grow()
        for node, parent in enumerate(parents, first):
            if parent == ROOT:
                self.depths.append(1)
            else:
                self.depths.append(self.depths[parent] + 1)
                self._visible[node, :first] = self._visible[parent, :first]
            self._visible[node, node] = True
        self._tokens += tokens
        self._parents += parents
        return self._visible[first:end, :end]

    def require(self, path: list[int], tokens: list[int]) -> None:
        """Raise InvalidDraft unless `path` leads down from the context by way of `tokens`."""
        above = ROOT
        for node, token in zip(path, tokens, strict=True):
            there = 0 <= node < len(self._tokens) and self._parents[node] == above
            if not there or self._tokens[node] != token:
                raise InvalidDraft(
                    f"node {node} is not the child of {above} that holds token {token}; keep a "
                    "path of expanded nodes that hold the first of the tokens"
                )
            above = node

    def _grow(self) -> None:
        old = self._visible
        size = 2 * len(old)
        self._visible = np.zeros((size, size), dtype=np.bool_)
        self._visible[: len(old), : len(old)] = old
