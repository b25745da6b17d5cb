r"""Merges several drafters' trees into one, and keeps the most probable nodes.

    recall      a - b - c             blend      a - b - c        `a b` is one node: two drafters
    recycled    a - b - d                       /     \            agree, and how much that is
                e                              e       d          worth is learned

Drafts are merged where their paths have equal tokens. A node's value is the product of confidences
down its path, so what one drafter leaves free (a small model's pruning, history that knows no
match) is filled by the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from heapq import heappop, heappush
from typing import Final, TypeAlias

import numpy as np

from draftwood.budget.calibration import Calibrated
from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.guarded import GuardedStream, GuardedStreams
from draftwood.protocols import Drafter, Feedback, PairsWithTarget, Resizable, TargetInfo

Opinion: TypeAlias = int
"""What all drafters say of a node: a digit to the base `OPINIONS` each, the first one's lowest."""

_SILENT: Final = 0
"""It has nothing under the parent."""
_AGAINST: Final = 1
"""It has other children there."""
_LEVELS: Final = 8
_FOR: Final = 2
"""It has the node: from here on, `_LEVELS` classes of confidence."""

OPINIONS: Final = _FOR + _LEVELS

_TRUSTED: Final = 8.0
"""Outcomes that the most confident drafter's word counts for."""
_FADE: Final = 1000.0
"""Outcomes of a class at which they fade to half."""


class Blend:
    """Several drafters' drafts in one tree, best first.

    drafters: two or more, kept as `parts`; a node's source is that of the drafter with the highest
    confidence in it (of equal ones: the first). nodes: the largest draft. Each drafter's confidence
    is calibrated online; what their agreement on a node is worth is learned, too.

    A drafter that raises loses only its own nodes, and so does one that samples: choosing among
    sampled tokens would change the distribution of the text. Safe to use from several threads where
    all of the drafters are.

    Raises:
        InvalidOption: fewer than two drafters, more than 256, or a negative number of nodes.
    """

    def __init__(self, drafters: Sequence[Drafter], *, nodes: int = 32) -> None:
        if not 2 <= len(drafters) <= 256:
            raise InvalidOption(f"a blend of {len(drafters)} drafters; give it 2 to 256")
        if nodes < 0:
            raise InvalidOption(f"nodes is {nodes}; use 0 or more, such as 32")
        self.parts = list(drafters)
        self.drafters = [Calibrated(drafter) for drafter in drafters]
        self._guards = [GuardedStreams(drafter, sampled=False) for drafter in self.drafters]
        self.nodes = nodes
        self.agreement = Agreement()

    def __repr__(self) -> str:
        return f"Blend({self.parts!r}, nodes={self.nodes})"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> BlendStream:
        """A stream of each, after the same prompt."""
        opened = [each.open(prompt, namespace, prediction) for each in self._guards]
        return BlendStream(self, opened)

    def propose_all(self, streams: Sequence[BlendStream], budgets: Sequence[Budget]) -> list[Draft]:
        """What `propose` gives for each stream; one call to each drafter that supports batches."""
        limits = [Budget(min(b.nodes, self.nodes), b.depth, b.floor) for b in budgets]
        drafts = [
            guards.propose([stream.streams[part] for stream in streams], limits)
            for part, guards in enumerate(self._guards)
        ]
        return [
            stream.merge([some[at] for some in drafts], limit)
            for at, (stream, limit) in enumerate(zip(streams, limits, strict=True))
        ]

    def observe_all(self, streams: Sequence[BlendStream], feedback: Sequence[Feedback]) -> None:
        """Each drafter is told how its own drafts went, whether or not they were verified."""
        told = [stream.learn(each) for stream, each in zip(streams, feedback, strict=True)]
        for part, guards in enumerate(self._guards):
            guards.observe(
                [stream.streams[part] for stream in streams], [each[part] for each in told]
            )

    def with_nodes(self, nodes: int) -> Blend:
        """The same drafters, and what they know, with drafts of up to so many nodes."""
        wide = [
            each.with_nodes(nodes) if isinstance(each, Resizable) else each for each in self.parts
        ]
        made = Blend(wide, nodes=nodes)
        made.agreement = self.agreement
        return made

    def pair(self, target_info: TargetInfo) -> None:
        """Raise PairMismatch where one of the drafters does not suit the target."""
        for drafter in self.parts:
            if isinstance(drafter, PairsWithTarget):
                drafter.pair(target_info)

    def close(self) -> None:
        """Close all drafters."""
        with ExitStack() as closing_all:
            for drafter in self.drafters:
                closing_all.callback(drafter.close)


class Agreement:
    """P(accepted | parent accepted) of a node from all drafters' confidence in it, learned online.

    An estimate begins at the highest of their confidences, which counts as 8 outcomes. Safe to use
    from several threads.
    """

    def __init__(self) -> None:
        self._counts: dict[Opinion, tuple[float, float]] = {}
        self._lock = fork_lock()

    def confidence(self, opinion: Opinion, highest: float) -> float:
        """The estimate for a node; `highest`: the highest of the drafters' confidences."""
        right, tried = self._counts.get(opinion, (0.0, 0.0))
        return (right + _TRUSTED * highest) / (tried + _TRUSTED)

    def learn(self, outcomes: Sequence[tuple[Opinion, bool]]) -> None:
        """Count nodes whose parent the text went through."""
        with self._lock:
            for opinion, accepted in outcomes:
                right, tried = self._counts.get(opinion, (0.0, 0.0))
                fade = 0.5 if tried >= _FADE else 1.0
                self._counts[opinion] = right * fade + accepted, tried * fade + 1


class BlendStream:
    """One sequence of a `Blend`. Used by one thread at a time."""

    def __init__(self, blend: Blend, streams: Sequence[GuardedStream]) -> None:
        self.streams = streams
        """Its streams, one of each drafter."""
        self._blend = blend
        self._drafts = [Draft.empty()] * len(streams)
        self._merged = Merged(self._drafts, blend.agreement)

    def propose(self, budget: Budget) -> Draft:
        """The most valuable nodes of all drafts, best first; the stream itself does not move."""
        return self._blend.propose_all([self], [budget])[0]

    def observe(self, feedback: Feedback) -> None:
        """Each drafter is told how its own draft went, whether or not it was verified."""
        self._blend.observe_all([self], [feedback])

    def merge(self, drafts: Sequence[Draft], budget: Budget) -> Draft:
        """The most valuable nodes of these drafts, one of each drafter."""
        self._drafts = list(drafts)
        self._merged = Merged(self._drafts, self._blend.agreement)
        return self._merged.best(budget)

    def learn(self, feedback: Feedback) -> list[Feedback]:
        """Learn how the drafters' agreement went; returns what each of them is told."""
        self._blend.agreement.learn(self._merged.outcomes(feedback.tokens.tolist()))
        return [feedback.for_draft(draft) for draft in self._drafts]

    def close(self) -> None:
        """Close all."""
        for stream in self.streams:
            stream.close()


class Merged:
    """The union of several drafts for one context.

    Node 0 is the context; a node's number is above its parent's.
    """

    def __init__(self, drafts: Sequence[Draft], agreement: Agreement) -> None:
        self._tokens: list[int] = [-1]
        self._children: list[dict[int, int]] = [{}]
        self._join(drafts, agreement)

    def best(self, budget: Budget) -> Draft:
        """The nodes of the highest value within a budget; all are within its depth already."""
        waiting = [(-1.0, 0)]
        place: dict[int, int] = {0: ROOT}
        parent_of = {0: ROOT}
        chosen: list[int] = []
        while waiting and len(chosen) <= budget.nodes:
            worth, node = heappop(waiting)
            place[node] = len(chosen) - 1  # the context comes first, as ROOT
            chosen.append(node)
            for child in self._children[node].values():
                value = worth * self._confidence[child]
                if -value >= budget.floor:
                    parent_of[child] = node
                    heappush(waiting, (value, child))
        del chosen[0]
        if not chosen:
            return Draft.empty()
        return Draft(
            np.array([self._tokens[node] for node in chosen], dtype=np.int32),
            np.array([place[parent_of[node]] for node in chosen], dtype=np.int32),
            np.array([self._confidence[node] for node in chosen], dtype=np.float32),
            np.array([self._source[node] for node in chosen], dtype=np.uint8),
        )

    def outcomes(self, came: Sequence[int]) -> list[tuple[Opinion, bool]]:
        """What became of the nodes whose parent the text went through."""
        found: list[tuple[Opinion, bool]] = []
        at: int | None = 0
        for token in came:
            if at is None:
                break
            below = self._children[at]
            found += [(self._opinions[child], own == token) for own, child in below.items()]
            at = below.get(token)
        return found

    def _join(self, drafts: Sequence[Draft], agreement: Agreement) -> None:
        words: list[dict[int, tuple[float, int]]] = []  # by drafter: node -> confidence, source
        inner: list[set[int]] = []  # by drafter: nodes below which it has children
        for draft in drafts:
            places: list[int] = []
            word: dict[int, tuple[float, int]] = {}
            opened: set[int] = set()
            nodes = (draft.tokens, draft.parents, draft.confidence, draft.source)
            for token, parent, sure, of in zip(*(each.tolist() for each in nodes), strict=True):
                above = 0 if parent == ROOT else places[parent]
                opened.add(above)
                below = self._children[above]
                node = below.get(token)
                if node is None:
                    node = below[token] = len(self._tokens)
                    self._tokens.append(token)
                    self._children.append({})
                places.append(node)
                word[node] = sure, of
            words.append(word)
            inner.append(opened)
        count = len(self._tokens)
        opinions, highest, source = [0] * count, [-1.0] * count, [0] * count
        digit = 1
        for word, opened in zip(words, inner, strict=True):
            for above in opened:
                for child in self._children[above].values():
                    opinions[child] += digit * _AGAINST
            for node, (sure, of) in word.items():
                level = min(_LEVELS - 1, int(sure * _LEVELS))
                opinions[node] += digit * (_FOR + level - _AGAINST)
                if sure > highest[node]:
                    highest[node], source[node] = sure, of
            digit *= OPINIONS
        self._opinions, self._source = opinions, source
        self._confidence = list(map(agreement.confidence, opinions, highest))
