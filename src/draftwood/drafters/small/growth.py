r"""A token tree that a small model grows, pass by pass.

    pass 0        context           the row behind the context names the first tokens
                  /     \
    pass 1     the .6   a .3        the nodes that were chosen go through the model together,
               /   \     |          and their rows name what may follow them
            cat .4 dog .1 cat .2    value of a node: the product of probabilities down its path
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import numpy as np

from draftwood.draft import ROOT, Draft, TokenIds
from draftwood.protocols import DraftSeat, RankedSeat, Top


class Growth:
    """The nodes of one draft while it grows, parents before children.

    tokens, parents: as in a `Draft`. shares: q of each node given its parent. values: q of its
    path. depths: tokens on it. places: the seat's number for a node that went through the model,
    else -1.
    """

    __slots__ = ("depths", "parents", "places", "seated", "shares", "tokens", "values")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.shares: list[float] = []
        self.values: list[float] = []
        self.depths: list[int] = []
        self.places: list[int] = []
        self.seated = 0

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, parents: Sequence[int], top: Top) -> list[int]:
        """The new nodes: below each parent the tokens of its row, likeliest first."""
        first = len(self.tokens)
        rows = zip(parents, top.tokens.tolist(), top.logprobs.tolist(), strict=True)
        for parent, tokens, logs in rows:
            value, depth = (1.0, 1) if parent == ROOT else self._below(parent)
            self.tokens += tokens
            for log in logs:
                share = min(1.0, exp(log))
                self.shares.append(share)
                self.values.append(value * share)
            self.parents += [parent] * len(tokens)
            self.depths += [depth] * len(tokens)
        self.places += [-1] * (len(self.tokens) - first)
        return list(range(first, len(self.tokens)))

    def expand(self, seat: RankedSeat, nodes: Sequence[int], k: int) -> list[int]:
        """One pass over nodes whose parents went before; the new nodes, k below each."""
        places = self.places
        parents = [self.parents[node] for node in nodes]
        top = seat.expand_top(
            np.array([self.tokens[node] for node in nodes], dtype=np.int32),
            np.array([ROOT if up == ROOT else places[up] for up in parents], dtype=np.int32),
            k,
        )
        for node in nodes:
            places[node] = self.seated
            self.seated += 1
        return self.add(nodes, top)

    def follow(self, tokens: Sequence[int]) -> list[int]:
        """The nodes that hold the first of these tokens, as far down as there are any."""
        children = self._children()
        path: list[int] = []
        at = ROOT
        for token in tokens:
            below = children.get((at, token))
            if below is None:
                break
            path.append(below)
            at = below
        return path

    def keep(self, seat: DraftSeat, tokens: TokenIds) -> int:
        """Move the seat behind committed tokens; how many of them were nodes."""
        path = self.follow(tokens.tolist())
        places = [self.places[node] for node in path]
        if -1 in places:
            places = places[: places.index(-1)]
        seat.keep(np.array(places, dtype=np.int32), tokens)
        return len(path)

    def draft(self, nodes: int, floor: float = 0.0, *, sources: Sequence[int] = ()) -> Draft:
        """The `nodes` likeliest paths, best first, none less likely than `floor`.

        sources: of each node; none: 0.
        """
        values = self.values
        order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:nodes]
        order = [node for node in order if values[node] >= floor]
        if not order:
            return Draft.empty()
        place = {ROOT: ROOT, **{node: at for at, node in enumerate(order)}}
        return Draft(
            np.array([self.tokens[node] for node in order], dtype=np.int32),
            np.array([place[self.parents[node]] for node in order], dtype=np.int32),
            np.array([self.shares[node] for node in order], dtype=np.float32),
            np.array([sources[node] if sources else 0 for node in order], dtype=np.uint8),
        )

    def join(self, other: Growth, sources: list[int], source: int) -> None:
        """Add the paths of another growth; where both have one, its larger share counts.

        sources: of the nodes; `source` is appended for each that is new. Values of nodes below one
        whose share grew are brought up to date.
        """
        children = self._children()
        place = {ROOT: ROOT}
        for node, step in enumerate(zip(other.parents, other.tokens, strict=True)):
            parent, token = place[step[0]], step[1]
            share = other.shares[node]
            mine = children.get((parent, token))
            if mine is None:
                mine = children[parent, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(parent)
                self.shares.append(share)
                self.depths.append(other.depths[node])
                self.places.append(-1)
                sources.append(source)
            place[node] = mine
            self.shares[mine] = max(self.shares[mine], share)
        self.values = []
        for parent, share in zip(self.parents, self.shares, strict=True):
            self.values.append(share * (1.0 if parent == ROOT else self.values[parent]))

    def _children(self) -> dict[tuple[int, int], int]:
        steps = zip(self.parents, self.tokens, strict=True)
        return {step: node for node, step in enumerate(steps)}

    def _below(self, parent: int) -> tuple[float, int]:
        return self.values[parent], self.depths[parent] + 1
