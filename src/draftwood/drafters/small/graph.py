"""Graph-structured speculative decoding (GSD, arXiv 2407.16207, section 3).

A small model drafts several hypotheses at once, one pass a level. They soon repeat each other's
runs, so they are kept in a `TokenGraph`: a run that occurs again is an edge to the run that stands
there already, and is not drafted again (docs/graphs.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from time import perf_counter

import numpy as np

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.drafters.small.seat import ends_of, pair_models, ranked_seat
from draftwood.drafters.small.token_graph import TokenGraph
from draftwood.drafters.small.widen import Widening
from draftwood.drafters.small.worth import Gain
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.protocols import DraftModel, Feedback, Partner, Top

_NO_GRAPH = TokenGraph()


@dataclass(slots=True)
class GraphCounts:
    """What drafting cost; sums over drafts.

    drafts: how many. nodes: tokens that the graphs held. merged: edges to a node that stood
    already, each a node that a tree would have added, and what follows it. passes: of the small
    model, a sequence's first included. rows: nodes that went through it. seconds: wall clock of
    drafting; model_seconds: of these, in the model's passes.
    """

    drafts: int = 0
    nodes: int = 0
    merged: int = 0
    passes: int = 0
    rows: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0

    def add(self, other: GraphCounts) -> None:
        """Add another's counts to these."""
        self.drafts += other.drafts
        self.nodes += other.nodes
        self.merged += other.merged
        self.passes += other.passes
        self.rows += other.rows
        self.seconds += other.seconds
        self.model_seconds += other.model_seconds


class GraphDrafter:
    """GSD: a token graph from one small model, unrolled likeliest path first.

    top_k: candidates a node, or a `Widening` that says how many by the likeliest one's probability.
    siblings: candidates less likely than this share of the likeliest are dropped. probability: a
    node goes through the model where its path is at least so likely. overlap: R, equal tokens
    before an equal token that make two runs one; None never merges, which drafts a tree. width:
    nodes a pass at most, the likeliest. levels: passes a draft at most. gain: what a pass must
    promise, see `Gain`. nodes: the largest draft. Nothing is drafted behind the model's end tokens.

    Candidates are chosen, not sampled: for `Greedy`, `SampleAndMatch` and `SharedGumbel`. counts:
    what all drafts cost so far. Safe to use from several threads where the model is.

    Raises:
        InvalidOption: a value outside its range.
    """

    def __init__(
        self,
        model: DraftModel,
        *,
        top_k: int | Widening = 4,
        siblings: float = 0.3,
        probability: float = 0.1,
        overlap: int | None = 1,
        width: int = 16,
        levels: int = 16,
        gain: float | str = "auto",
        nodes: int = 32,
    ) -> None:
        most = top_k.most if isinstance(top_k, Widening) else top_k
        limits = (("top_k", most), ("width", width), ("levels", levels), ("nodes", nodes))
        for name, value in limits:
            if value < 1:
                raise InvalidOption(f"{name} is {value}; use 1 or more")
        TokenGraph(overlap=overlap, siblings=siblings, probability=probability)  # checks the rest
        self.model = model
        self.top_k, self.siblings, self.probability = top_k, siblings, probability
        self.overlap, self.width, self.levels, self.nodes = overlap, width, levels, nodes
        self.gain = Gain(gain)
        self.ends = ends_of(model)
        self.counts = GraphCounts()
        self._lock = fork_lock()

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> GraphStream:
        """A stream with a seat of its own; nothing is shared, so `namespace` is moot."""
        return GraphStream(self, prompt)

    def close(self) -> None:
        """Nothing to give back: the model is its maker's."""

    def pair(self, partner: Partner) -> None:
        """Raise PairMismatch where the model does not suit the target."""
        pair_models([self.model], partner)

    def count(self, counts: GraphCounts) -> None:
        """Add the counts of one draft."""
        with self._lock:
            self.counts.add(counts)

    def graph(self, context: list[int], floor: float) -> TokenGraph:
        """An empty graph with these options, behind a context."""
        return TokenGraph(
            context,
            overlap=self.overlap,
            siblings=self.siblings,
            probability=max(self.probability, floor),
        )

    def candidates(self, top: Top) -> tuple[list[list[int]], list[list[float]]]:
        """What may follow each row, and q of it, likeliest first."""
        tokens = top.tokens.tolist()
        shares = [[min(1.0, exp(log)) for log in row] for row in top.logprobs.tolist()]
        if isinstance(self.top_k, Widening):
            widths = [self.top_k.width(row[0]) for row in shares]
            tokens = [row[:k] for row, k in zip(tokens, widths, strict=True)]
            shares = [row[:k] for row, k in zip(shares, widths, strict=True)]
        return tokens, shares


class GraphStream:
    """One sequence of a `GraphDrafter`. Used by one thread at a time."""

    def __init__(self, drafter: GraphDrafter, prompt: TokenIds) -> None:
        self._drafter = drafter
        self._seat = ranked_seat(drafter.model, prompt)
        self._reach = drafter.overlap or 0
        self._tail: list[int] = prompt[len(prompt) - self._reach :].tolist() if self._reach else []
        self._steps = self._seated = 0
        self._graph = _NO_GRAPH
        self._places = {ROOT: ROOT}
        self._promised = 0.0
        self._counts = GraphCounts()

    def propose(self, budget: Budget) -> Draft:
        """The likeliest paths of the graph that a few passes of the small model draw."""
        start, drafter = perf_counter(), self._drafter
        budget = Budget(min(budget.nodes, drafter.nodes), budget.depth, budget.floor)
        self._forget()
        if not budget.reach or self._seat.room == 0:
            return Draft.empty()
        before, counts = self._seat.passes, self._counts
        graph = self._graph = drafter.graph(self._tail, budget.floor)
        self._grow(graph, budget)
        draft = graph.unroll(budget).draft
        counts.drafts, counts.nodes, counts.merged = 1, len(graph), graph.merged
        counts.passes = self._seat.passes - before
        counts.seconds = perf_counter() - start
        drafter.count(counts)
        return draft

    def observe(self, feedback: Feedback) -> None:
        """Keep the cache along the committed tokens as far as it was computed for them."""
        gain, tokens = self._drafter.gain, feedback.tokens.tolist()
        accepted = len(self._graph.follow(tokens[: len(feedback.verdict.path)]))
        gain.settle(self._promised, max(0, accepted - 1) if self._promised else 0)
        if self._steps:
            gain.time(self._counts.passes, self._counts.seconds, len(tokens))
        else:
            gain.begin()  # the prompt's passes say nothing about those to come
        path: list[int] = []
        for node in self._graph.own_path(tokens):
            if node not in self._places:  # a leaf, which did not go through the model
                break
            path.append(self._places[node])
        self._seat.keep(np.array(path, dtype=np.int32), feedback.tokens)
        self._steps += 1
        self._seated = 0
        self._forget()
        if self._reach:
            self._tail = (self._tail + tokens)[-self._reach :]

    def close(self) -> None:
        """Give the seat back."""
        self._seat.close()

    def _forget(self) -> None:
        self._graph = _NO_GRAPH
        self._places = {ROOT: ROOT}
        self._promised = 0.0
        self._counts = GraphCounts()

    def _grow(self, graph: TokenGraph, budget: Budget) -> None:
        """One pass a level, over the nodes whose children may still join the draft."""
        drafter, room = self._drafter, self._seat.room
        # a node at the last level needs no pass: what would follow it is not drafted
        deepest = budget.reach - 1 if room is None else min(budget.reach - 1, room)
        level: list[int] = []
        for turn in range(drafter.levels):
            top = self._pass(graph, level)
            level = graph.extend(level or [ROOT], *drafter.candidates(top))
            if turn == drafter.levels - 1:
                break
            if len(graph) >= budget.nodes:
                # children are no likelier than their parent
                bar = sorted(graph.values, reverse=True)[budget.nodes - 1]
                level = [node for node in level if graph.values[node] > bar]
            level = [
                node
                for node in level
                if graph.depths[node] <= deepest and graph.tokens[node] not in drafter.ends
            ][: drafter.width]
            promised = sum(graph.values[node] for node in level)
            if not drafter.gain.worth(promised):
                break
            self._promised += promised

    def _pass(self, graph: TokenGraph, level: list[int]) -> Top:
        """What may follow the nodes of a level (none: the context); notes where they sit."""
        start, top_k = perf_counter(), self._drafter.top_k
        k = top_k.most if isinstance(top_k, Widening) else top_k
        if not level:
            top = self._seat.root_top(k)
        else:
            places = self._places
            tokens = np.array([graph.tokens[node] for node in level], dtype=np.int32)
            parents = np.array([places[graph.parents[node]] for node in level], dtype=np.int32)
            top = self._seat.expand_top(tokens, parents, k)
            for node in level:
                places[node] = self._seated
                self._seated += 1
        self._counts.rows += len(level)
        self._counts.model_seconds += perf_counter() - start
        return top
