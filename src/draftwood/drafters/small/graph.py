r"""Token graphs: many drafts that share their repeated runs, and the tree that is verified.

  context --- the --- cat ----- sees        `dog sees` was reached where `cat sees` stood already:
      \                        /            an edge was added, not a node, and what follows `sees`
       `----- a ----- dog ----'             is drafted once for both

Graph-structured speculative decoding (GSD, arXiv 2407.16207). A graph saves work of the drafter
only: a node's keys and values in the *target* depend on all its ancestors, so that what is verified
is the tree that `TokenGraph.unroll` makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from draftwood.draft import ROOT, Budget, Draft
from draftwood.errors import InvalidDraft, InvalidOption

_NO_TOKEN = -1  # stands before the first token of a context shorter than the overlap


@dataclass(frozen=True, slots=True, eq=False)
class Unrolled:
    """A tree of paths through a graph: node i of `draft` is node `nodes[i]` of the graph."""

    draft: Draft
    nodes: list[int]


class TokenGraph:
    """A directed acyclic graph of tokens below the committed context; ROOT stands for the context.

    context: the committed tokens, or at least the last `overlap` of them. overlap: two runs meet
    where a token and the `overlap` tokens before it are equal (R of the paper, 0 or 1 there); None:
    never, which makes a tree. siblings: a token less likely than `siblings` times its likeliest
    sibling is dropped by `extend`. probability: a node whose best path is less likely is a leaf.

    An edge u -> v holds q(v's token | u). All edges into a node are kept, and an edge is added only
    where v cannot reach u, so that no order of additions closes a cycle. Not thread-safe.

    Raises:
        InvalidOption: an overlap below 0, or a threshold outside [0, 1].
    """

    def __init__(
        self,
        context: Sequence[int] = (),
        *,
        overlap: int | None = 1,
        siblings: float = 0.0,
        probability: float = 0.0,
    ) -> None:
        if overlap is not None and overlap < 0:
            raise InvalidOption(f"overlap is {overlap}; use 0 or more, or None never to merge")
        for name, share in (("siblings", siblings), ("probability", probability)):
            if not 0.0 <= share <= 1.0:
                raise InvalidOption(f"{name} is {share}; use a share of 0 to 1")
        self.tokens: list[int] = []
        """The token of each node, in order of addition."""
        self.values: list[float] = []
        """Probability of each node's likeliest path from the context."""
        self.parents: list[int] = []
        """The parent on the path under which a node was, or would be, passed through the model."""
        self.depths: list[int] = []
        """Tokens on that path, the node's own included."""
        self.merged = 0
        """Edges that led to a node that stood already."""
        self._overlap = overlap
        self._siblings, self._probability = siblings, probability
        # entry 0 of these is ROOT's, entry v + 1 node v's
        self._out: list[dict[int, tuple[int, float]]] = [{}]
        self._above = [0]  # bit w: node w reaches this one
        self._extended = [True]
        self._tails = [self._tail(context)]
        self._places: dict[tuple[int, ...], list[int]] = {}

    def __len__(self) -> int:
        """Nodes, ROOT not counted."""
        return len(self.tokens)

    def children(self, node: int) -> dict[int, tuple[int, float]]:
        """Token -> (node, q) for every edge out of `node`, in order of addition. Borrowed."""
        return self._out[node + 1]

    def extend(
        self,
        level: Sequence[int],
        tokens: Sequence[Sequence[int]],
        probabilities: Sequence[Sequence[float]],
    ) -> list[int]:
        """What a pass over the nodes of `level` (each extended once at most) found after them.

        tokens, probabilities: for each node its candidates and q of each, likeliest first.

        Returns:
            The nodes that this made worth extending, likeliest first: not extended yet, and on a
            path at least as likely as `probability`.
        """
        for node in level:
            self._extended[node + 1] = True
        ready: dict[int, None] = {}
        for node, ids, shares in zip(level, tokens, probabilities, strict=True):
            if not shares:
                continue
            least = self._siblings * shares[0]
            for token, q in zip(ids, shares, strict=True):
                if q >= least:
                    self._add(node, token, q, ready)
        bar = self._probability
        values = self.values
        worthy = [node for node in ready if values[node] >= bar]
        worthy.sort(key=values.__getitem__, reverse=True)
        return worthy

    def add(self, node: int, token: int, q: float) -> int:
        """The node that `token` after `node` leads to, new or merged; an edge stays as it is.

        q: P(token | path to `node`), in [0, 1].

        Raises:
            InvalidDraft: a node that is not in the graph.
        """
        if not ROOT <= node < len(self.tokens):
            raise InvalidDraft(f"node {node} is not in a graph of {len(self.tokens)} nodes")
        return self._add(node, token, q, {})

    def _add(self, node: int, token: int, q: float, ready: dict[int, None]) -> int:
        out = self._out[node + 1]
        if token in out:
            return out[token][0]
        value = q if node == ROOT else self.values[node] * q
        if self._overlap is not None:
            key = (*self._tails[node + 1], token)
            places = self._places.setdefault(key, [])
            above = self._above[node + 1]
            for place in places:
                if place != node and not above >> place & 1:
                    out[token] = (place, q)
                    self.merged += 1
                    self._merge(node, place, value, ready)
                    return place
            places.append(len(self.tokens))
            self._tails.append(key[1:])
            self._above.append(0 if node == ROOT else above | 1 << node)
        new = len(self.tokens)
        out[token] = (new, q)
        self.tokens.append(token)
        self.values.append(value)
        self.parents.append(node)
        self.depths.append(1 if node == ROOT else self.depths[node] + 1)
        self._out.append({})
        self._extended.append(False)
        ready[new] = None
        return new

    def _merge(self, node: int, place: int, value: float, ready: dict[int, None]) -> None:
        """Pass new ancestors, and a better path, on to all that is below a new edge."""
        above = 0 if node == ROOT else self._above[node + 1] | 1 << node
        self._improve(node, place, value, ready)
        stack = [place]
        while stack:
            at = stack.pop() + 1
            if self._above[at] | above != self._above[at]:
                self._above[at] |= above
                stack += [child for child, _ in self._out[at].values()]

    def _improve(self, node: int, place: int, value: float, ready: dict[int, None]) -> None:
        """Relax values along the edges below `place`; a node not extended yet changes its path."""
        stack = [(node, place, value)]
        while stack:
            node, place, value = stack.pop()
            if value <= self.values[place]:
                continue
            self.values[place] = value
            if not self._extended[place + 1]:
                self.parents[place] = node
                self.depths[place] = 1 if node == ROOT else self.depths[node] + 1
                ready[place] = None
            stack += [(place, child, value * q) for child, q in self._out[place + 1].values()]

    def unroll(self, budget: Budget, *, source: int = 0) -> Unrolled:
        """The likeliest paths from the context, as a tree, likeliest first.

        Its nodes are the `budget.nodes` likeliest paths that are at most `budget.depth` long and no
        less likely than `budget.floor`, so that every prefix is the best draft of its size; ties go
        to the path found first. Confidence is q on the last edge of the path.
        """
        nodes: list[int] = []
        tokens: list[int] = []
        parents: list[int] = []
        confidence: list[float] = []
        found = 0
        heap: list[tuple[float, int, int, int, int, float]] = []

        def push(above: int, node: int, value: float, depth: int) -> None:
            nonlocal found
            for child, q in self._out[node + 1].values():
                if value * q >= budget.floor:
                    heappush(heap, (-value * q, found, above, child, depth, q))
                    found += 1

        if budget.reach:
            push(ROOT, ROOT, 1.0, 1)
        while heap and len(nodes) < budget.nodes:
            loss, _, above, node, depth, q = heappop(heap)
            if depth < budget.reach:
                push(len(nodes), node, -loss, depth + 1)
            nodes.append(node)
            tokens.append(self.tokens[node])
            parents.append(above)
            confidence.append(q)
        if not nodes:
            return Unrolled(Draft.empty(), nodes)
        draft = Draft(
            np.array(tokens, dtype=np.int32),
            np.array(parents, dtype=np.int32),
            np.array(confidence, dtype=np.float32),
            np.full(len(nodes), source, dtype=np.uint8),
        )
        return Unrolled(draft, nodes)

    def follow(self, tokens: Sequence[int]) -> list[int]:
        """The nodes along the first of `tokens`, as far as the graph holds them."""
        path: list[int] = []
        at = ROOT
        for token in tokens:
            if token not in self._out[at + 1]:
                break
            at, _ = self._out[at + 1][token]
            path.append(at)
        return path

    def own_path(self, tokens: Sequence[int]) -> list[int]:
        """As `follow`, as far as each node is on the path that it was passed under.

        After an edge to a merged node the model's keys and values belong to another path, and the
        walk ends there.
        """
        path = self.follow(tokens)
        for at, node in enumerate(path):
            if self.parents[node] != (path[at - 1] if at else ROOT):
                return path[:at]
        return path

    def _tail(self, context: Sequence[int]) -> tuple[int, ...]:
        if not self._overlap:
            return ()
        last = [int(token) for token in context[-self._overlap :]]
        return (*[_NO_TOKEN] * (self._overlap - len(last)), *last)


def merge_graphs(graphs: Sequence[TokenGraph]) -> tuple[TokenGraph, list[int]]:
    """One tree of all paths of several graphs for the same context; the larger q of a path counts.

    Returns:
        The tree, and for each of its nodes the place in `graphs` of the first that has it.
    """
    merged, sources = TokenGraph(overlap=None), list[int]()
    level = [(ROOT, [(graph, ROOT, source) for source, graph in enumerate(graphs)])]
    for above, alike in level:
        below: dict[int, tuple[float, list[tuple[TokenGraph, int, int]]]] = {}
        for graph, node, source in alike:
            for token, (child, q) in graph.children(node).items():
                most, found = below.get(token, (0.0, []))
                below[token] = max(most, q), [*found, (graph, child, source)]
        for token, (q, found) in below.items():
            level.append((merged.add(above, token, q), found))
            sources.append(found[0][2])
    return merged, sources
