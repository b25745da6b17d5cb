"""The nodes of a seat in a small model: who stands below whom, and what each sees.

nodes    0   1   2   3      2: below 0      a node sees what its parent sees, and itself
2 sees   0       2
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from draftwood.draft import ROOT
from draftwood.errors import InvalidDraft

FIRST_NODES = 64
"""Nodes that a mask holds at first; it doubles from there."""


class SeatNodes:
    """The nodes of one seat since the last `keep`: who stands below whom, and what each sees."""

    __slots__ = ("_blocked", "_parents", "_tokens", "depths", "logits")

    def __init__(self) -> None:
        self.depths: list[int] = []
        self.logits: list[torch.Tensor] = []
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._blocked = np.full((FIRST_NODES, FIRST_NODES), -np.inf, dtype=np.float32)

    def depth_below(self, parents: list[int]) -> int:
        """The depth of the deepest node that would hang below one of `parents`.

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

    def add(self, tokens: list[int], parents: list[int]) -> NDArray[np.float32]:
        """Add m nodes to n; [m, n + m], -inf where a new node does not see another, else 0."""
        first, end = len(self._tokens), len(self._tokens) + len(tokens)
        while end > len(self._blocked):
            self._grow()
        for node, parent in enumerate(parents, first):
            if parent == ROOT:
                self.depths.append(1)
            else:
                self.depths.append(self.depths[parent] + 1)
                self._blocked[node, :first] = self._blocked[parent, :first]
            self._blocked[node, node] = 0
        self._tokens += tokens
        self._parents += parents
        return self._blocked[first:end, :end]

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

    def after(self, node: int) -> torch.Tensor:
        """The logits [1, V] after a node."""
        for logits in self.logits:
            if node < len(logits):
                return logits[node : node + 1]
            node -= len(logits)
        raise InvalidDraft(f"node {node} is beyond those that were expanded")

    def _grow(self) -> None:
        old = self._blocked
        size = 2 * len(old)
        self._blocked = np.full((size, size), -np.inf, dtype=np.float32)
        self._blocked[: len(old), : len(old)] = old
