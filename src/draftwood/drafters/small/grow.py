r"""The loop in which a small model grows a tree of its likeliest tokens, and the drafter around it.

    pass 1        context           the row after the context names the first tokens
                  /     \
    pass 2     the .6   a .3        the nodes that are worth it go through the model together, and
               /   \     |          their rows name what may follow them
            cat .4 dog .1 cat .2    value of a node: the product of probabilities down its path

Tokens are chosen, not sampled: their drafts are for `Greedy`, `SampleAndMatch` and `SharedGumbel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from time import perf_counter

import numpy as np

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.drafters.small.gain import Gain, Promises
from draftwood.drafters.small.graph import TokenGraph, merge_graphs
from draftwood.drafters.small.seat import DraftModel, pair_models
from draftwood.drafters.small.shapes import Shape
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.protocols import Feedback, TargetInfo, Top
from draftwood.sources import SMALL_MODEL, small_model_source

_NO_GRAPH = TokenGraph()


@dataclass(slots=True)
class DraftCounts:
    """What drafting took: sums over the drafts of all streams.

    drafts: how many. nodes: tokens that were found, in the final draft or not. merged: edges to an
    existing node, each of which saved a node and what follows it. passes: of the small model,
    prompts included. rows: nodes that went through it. seconds: wall clock of drafting;
    model_seconds: of these, in the model's passes.
    """

    drafts: int = 0
    nodes: int = 0
    merged: int = 0
    passes: int = 0
    rows: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0

    def add(self, other: DraftCounts) -> None:
        """Add another's counts to these."""
        self.drafts += other.drafts
        self.nodes += other.nodes
        self.merged += other.merged
        self.passes += other.passes
        self.rows += other.rows
        self.seconds += other.seconds
        self.model_seconds += other.model_seconds


class ModelDrafter:
    """A small model that drafts a tree, or a graph unrolled to one, of its likeliest tokens.

    shape: how it grows, such as `Shape.chain()` or `Shape.best_first(nodes=16)`. gain: accepted
    tokens that one more pass must promise (0: passes are made up to the shape's own limits); "auto"
    weighs a pass's time against the pace of the text, see `Gain`. A draft larger than its budget
    keeps the likeliest paths. Nothing is drafted after the model's end tokens. counts: what
    drafting took so far. Shared by any number of streams; safe to use from several threads where
    the model is.

    Raises:
        InvalidOption: a gain that is neither "auto" nor a number >= 0.
    """

    def __init__(self, model: DraftModel, shape: Shape, *, gain: float | str = "auto") -> None:
        self.model, self.shape = model, shape
        self.gain = Gain(gain)
        self.counts = DraftCounts()
        self._lock = fork_lock()

    def __repr__(self) -> str:
        return f"ModelDrafter({self.shape!r})"

    def count(self, counts: DraftCounts) -> None:
        """Add what one draft took. Safe from several threads."""
        with self._lock:
            self.counts.add(counts)

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> ModelStream:
        """A stream with a seat of its own; nothing is shared, so `namespace` does not matter."""
        return ModelStream(self, prompt)

    def pair(self, target_info: TargetInfo) -> None:
        """Raise PairMismatch where the model does not suit the target."""
        pair_models([self.model], target_info)

    def close(self) -> None:
        """Nothing to release: whoever made the model closes it."""


class ModelStream:
    """One sequence of a `ModelDrafter`. Used by one thread at a time."""

    def __init__(self, drafter: ModelDrafter, prompt: TokenIds) -> None:
        self._drafter = drafter
        self._seat = drafter.model.open(prompt)
        self._promises = Promises(drafter.gain)
        self._reach = drafter.shape.overlap or 0
        self._tail: list[int] = prompt[len(prompt) - self._reach :].tolist() if self._reach else []
        self._graph = _NO_GRAPH
        self._places = {ROOT: ROOT}  # node -> its number in the seat

    def propose(self, budget: Budget) -> Draft:
        """The likeliest paths found by the passes; the stream itself does not move."""
        graph, shape = self.grow(budget), self._drafter.shape
        start = perf_counter()
        floor = max(budget.floor, shape.floor)
        limit = Budget(min(budget.nodes, shape.nodes), budget.depth, floor)
        draft = graph.unroll(limit, source=SMALL_MODEL).draft
        self._drafter.count(DraftCounts(seconds=perf_counter() - start))
        return draft

    def grow(self, budget: Budget) -> TokenGraph:
        """All that the passes of one draft find, before it is cut to the budget."""
        start, before, room = perf_counter(), self._seat.passes, self._seat.room
        self._forget()
        if not budget.reach or room == 0:
            return self._graph
        graph = self._graph = self._drafter.shape.graph(self._tail, budget.floor)
        # the deepest token that can follow the cached ones needs no room: it is not passed
        reach = budget.reach if room is None else min(budget.reach, room + 1)
        model_seconds = self._grow(graph, budget.nodes, reach)
        passes, seconds = self._seat.passes - before, perf_counter() - start
        self._promises.took(passes, seconds)
        rows = len(self._places) - 1
        self._drafter.count(
            DraftCounts(1, len(graph), graph.merged, passes, rows, seconds, model_seconds)
        )
        return graph

    def observe(self, feedback: Feedback) -> None:
        """Append the committed tokens, keeping the cached rows of accepted nodes."""
        tokens = feedback.tokens.tolist()
        accepted = len(self._graph.follow(tokens[: len(feedback.verdict.path)]))
        self._promises.record(accepted, len(tokens))
        places = self._places
        passed = takewhile(places.__contains__, self._graph.own_path(tokens))
        kept = np.array([places[node] for node in passed], dtype=np.int32)
        self._seat.keep(kept, feedback.tokens)
        self._forget()
        if self._reach:
            self._tail = (self._tail + tokens)[-self._reach :]

    def close(self) -> None:
        """Release the seat and its cache."""
        self._seat.close()

    def _forget(self) -> None:
        self._graph = _NO_GRAPH
        self._places = {ROOT: ROOT}
        self._promises.forget()

    def _grow(self, graph: TokenGraph, most: int, reach: int) -> float:
        """Grow by passes while they are worth it; the seconds that the passes took."""
        shape, ends = self._drafter.shape, self._drafter.model.end_tokens
        most = min(most, shape.nodes)
        values, depths, tokens = graph.values, graph.depths, graph.tokens
        level, waiting, seconds = [ROOT], list[int](), 0.0
        for turn, width in enumerate(shape.widths, 1):
            start = perf_counter()
            top = self._pass(graph, level, width)
            seconds += perf_counter() - start
            found = graph.extend(level, *shape.candidates(top))
            if turn == len(shape.widths):
                break
            if shape.revisit:
                found = sorted([*waiting, *found], key=values.__getitem__, reverse=True)
            # a child is no likelier than its parent: what could not join the draft is not passed
            bar = sorted(values, reverse=True)[most - 1] if len(graph) >= most else -1.0
            open_nodes = [
                node
                for node in found
                if values[node] > bar and depths[node] < reach and tokens[node] not in ends
            ]
            level = open_nodes[: shape.rows]
            if not self._promises.pays(sum(values[node] for node in level)):
                break
            waiting = open_nodes[len(level) :]
        return seconds

    def _pass(self, graph: TokenGraph, level: list[int], width: int) -> Top:
        """What may follow the nodes of a level; notes where the seat has them."""
        if level == [ROOT]:
            return self._seat.root_top(width)
        places = self._places
        tokens = np.array([graph.tokens[node] for node in level], dtype=np.int32)
        parents = np.array([places[graph.parents[node]] for node in level], dtype=np.int32)
        top = self._seat.expand_top(tokens, parents, width)
        for node in level:
            places[node] = len(places) - 1
        return top


class MergedDrafter:
    """Several small models whose trees are merged: equal paths are one, the larger q counts.

    drafters: one for each model; `Draft.source` tells the first one that found the node.

    Miao et al. 2024, *SpecInfer* (arXiv 2305.09781), section 3.2.

    Raises:
        InvalidOption: no drafter.
    """

    def __init__(self, drafters: Sequence[ModelDrafter]) -> None:
        if not drafters:
            raise InvalidOption("no small model is given; give one or more")
        self.drafters = list(drafters)

    def __repr__(self) -> str:
        return f"MergedDrafter({self.drafters!r})"

    @property
    def counts(self) -> DraftCounts:
        """What drafting took so far, over all models."""
        total = DraftCounts()
        for drafter in self.drafters:
            total.add(drafter.counts)
        total.drafts = self.drafters[0].counts.drafts  # all had a part in each
        return total

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> MergedStream:
        """A stream with a seat in each model."""
        with ExitStack() as opened:
            streams = []
            for drafter in self.drafters:
                streams.append(drafter.open(prompt))
                opened.callback(streams[-1].close)
            opened.pop_all()
        return MergedStream(streams)

    def pair(self, target_info: TargetInfo) -> None:
        """Raise PairMismatch where a model does not suit the target."""
        pair_models((drafter.model for drafter in self.drafters), target_info)

    def close(self) -> None:
        """Close all drafters."""
        for drafter in self.drafters:
            drafter.close()


class MergedStream:
    """One sequence in several small models."""

    def __init__(self, streams: Sequence[ModelStream]) -> None:
        self._streams = streams

    def propose(self, budget: Budget) -> Draft:
        """All paths of all trees, the likeliest first."""
        graph, sources = merge_graphs([stream.grow(budget) for stream in self._streams])
        unrolled = graph.unroll(budget)
        unrolled.draft.source[:] = [small_model_source(sources[node]) for node in unrolled.nodes]
        return unrolled.draft

    def observe(self, feedback: Feedback) -> None:
        """Move all seats."""
        for stream in self._streams:
            stream.observe(feedback)

    def close(self) -> None:
        """Give the seats back."""
        with ExitStack() as closing:
            for stream in self._streams:
                closing.callback(stream.close)
