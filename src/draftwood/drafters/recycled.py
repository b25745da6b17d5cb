"""Token recycling: drafts from the target's own likely tokens, rejected branches included.

Each pass of the target says what is likely after every token that it checked, rejected ones
included. Most of that is thrown away; Token Recycling (Luo et al. 2024, arXiv 2408.08696) keeps
it as an adjacency from a token to its k likeliest next ones and drafts a tree along it, as RACER
does beside retrieval. Here entries also stand under the last two tokens, are averaged over rows,
and the tree is the best one by calibrated confidence, not a fixed shape (docs/recycled-logits.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from heapq import heappop, heappush

import numpy as np

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.errors import InvalidOption
from draftwood.index.recall import namespace_key
from draftwood.index.recycled import ALONE, RecycledTable
from draftwood.protocols import Feedback, Rows
from draftwood.sampling.ranking import likely_tokens
from draftwood.sources import RECYCLED

_CLASSES = 33
"""Classes of a share by its log-odds, in halves from -8 to 8."""
_TRUSTED = 8.0
"""Outcomes that a share itself counts for."""
_FADE = 400.0
"""Outcomes of a class at which they fade to half."""


class RecycledDrafter:
    """Drafts from what the target found likely after the same one or two tokens.

    nodes: the largest draft. k: next tokens kept of each row. slots: entries, a power of two, at
    16 + 8 k bytes each; taken at once. floor: no node less likely to be accepted than this is
    drafted. kept: weight of an entry's old value when a row for the same tokens comes; 0 overwrites
    it, as Token Recycling does. Learns nothing from targets without logits, such as recorded
    traces.

    Thread-safe: streams may be used from several threads, each by one at a time. What is learned
    in a namespace is drafted only there; the reliability of shares is learned over all of them.

    Raises:
        InvalidOption: a value outside its range.
    """

    def __init__(
        self,
        *,
        nodes: int = 32,
        k: int = 8,
        slots: int = 2**17,
        floor: float = 0.005,
        kept: float = 0.5,
    ) -> None:
        if nodes < 0:
            raise InvalidOption(f"nodes is {nodes}; use 0 or more, such as 32")
        if not 0.0 <= floor <= 1.0:
            raise InvalidOption(f"floor is {floor}; use a probability from 0 to 1")
        self.table = RecycledTable(slots, k, kept=kept)
        self.nodes, self.floor = nodes, floor
        self.reliability = Reliability()

    def __repr__(self) -> str:
        return f"RecycledDrafter(nodes={self.nodes}, floor={self.floor})"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> RecycledStream:
        """A stream that stands after `prompt`."""
        return RecycledStream(self, prompt, namespace_key(namespace))

    def close(self) -> None:
        """Nothing to give back."""

    def with_nodes(self, nodes: int) -> RecycledDrafter:
        """A drafter on the same table, with drafts of up to so many nodes."""
        wide = copy(self)
        wide.nodes, wide.floor = nodes, min(self.floor, 0.02 / max(nodes, 1))
        return wide

    @property
    def nbytes(self) -> int:
        """Bytes of the table, fixed at creation."""
        return self.table.nbytes


class Reliability:
    """P(accepted | parent accepted) from an entry's share, by how many tokens it stands under.

    Learned online along the text, drafted or not; some outcomes of the share itself are the prior.
    Safe to use from several threads: a race costs a count.
    """

    def __init__(self) -> None:
        middle = [1 / (1 + math.exp(-at / 2)) for at in range(-16, 17)]
        self._right = [[_TRUSTED * share for share in middle] for _ in range(2)]
        self._tried = [[_TRUSTED] * _CLASSES for _ in range(2)]
        self.values = [middle.copy(), middle.copy()]
        """By order (0: last token, 1: last two) and class: the estimate."""

    def learn(self, order: int, place: int, right: bool) -> None:
        """Count one outcome."""
        tried, hits = self._tried[order], self._right[order]
        tried[place] += 1
        hits[place] += right
        self.values[order][place] = hits[place] / tried[place]
        if tried[place] > _FADE:
            tried[place] /= 2
            hits[place] /= 2


class RecycledStream:
    """One sequence: its last two tokens. Used by one thread at a time."""

    def __init__(self, drafter: RecycledDrafter, prompt: TokenIds, space: int) -> None:
        self._drafter, self._space = drafter, space
        self._tail = [ALONE, ALONE, *prompt[-2:].tolist()][-2:]

    def propose(self, budget: Budget) -> Draft:
        """The nodes most likely to be accepted, best first; the stream itself does not move."""
        drafter = self._drafter
        values = drafter.reliability.values
        limit, reach = min(budget.nodes, drafter.nodes), budget.reach
        floor = max(drafter.floor, budget.floor)
        tokens: list[int] = []
        parents: list[int] = []
        confidence: list[float] = []
        orders: list[int] = []
        waiting: list[tuple[float, int, int, int, int, float, _Entry]] = []
        pushed = 0

        def offer(value: float, node: int, depth: int, entry: _Entry, at: int) -> None:
            """Put child number `at` of a node into the heap; the next one follows it."""
            nonlocal pushed
            order, found, shares = entry
            while at < len(found) and shares[at]:
                place = share_class(shares[at])
                sure = values[order][place]
                if value * sure >= floor:
                    pushed += 1
                    item = (-value * sure, pushed, node, depth, at, value, (order, found, shares))
                    heappush(waiting, item)
                    return
                at += 1

        def expand(node: int, value: float, depth: int, before: int, last: int) -> None:
            entry = self._entry(before, last) if depth < reach else None
            if entry is not None:
                offer(value, node, depth + 1, entry, 0)

        if limit > 0:
            expand(ROOT, 1.0, 0, *self._tail)
        while waiting and len(tokens) < limit:
            worth, _, parent, depth, at, above, entry = heappop(waiting)
            order, found, shares = entry
            node, token = len(tokens), found[at]
            tokens.append(token)
            parents.append(parent)
            confidence.append(values[order][share_class(shares[at])])
            orders.append(order)
            offer(above, parent, depth, entry, at + 1)
            last = self._tail[1] if parent == ROOT else tokens[parent]
            expand(node, -worth, depth, last, token)
        if not tokens:
            return Draft.empty()
        return Draft(
            np.array(tokens, dtype=np.int32),
            np.array(parents, dtype=np.int32),
            np.array(confidence, dtype=np.float32),
            np.full(len(tokens), RECYCLED, dtype=np.uint8),
            evidence=np.array(orders, dtype=np.uint8),
        )

    def observe(self, feedback: Feedback) -> None:
        """Learn how the draft went, keep the rows of the whole draft, and move."""
        self._judge(feedback.tokens.tolist())
        told = feedback.verified or feedback
        if told.rows is not None:
            self._keep(told.draft, told.rows)
        self._tail = [*self._tail, *feedback.tokens[-2:].tolist()][-2:]

    def close(self) -> None:
        """Nothing to give back."""

    def _judge(self, came: Sequence[int]) -> None:
        """Count, along the text that came, which entries were right; drafted or not."""
        before, last = self._tail
        for token in came:
            entry = self._entry(before, last)
            if entry is not None:
                order, found, shares = entry
                for own, share in zip(found, shares, strict=True):
                    if share:
                        self._drafter.reliability.learn(order, share_class(share), own == token)
            before, last = last, token

    def _entry(self, before: int, last: int) -> _Entry | None:
        """What is known after two tokens, else after the last of them."""
        find = self._drafter.table.find
        if before != ALONE and (both := find(self._space, before, last)) is not None:
            return 1, *both
        alone = find(self._space, ALONE, last)
        return None if alone is None else (0, *alone)

    def _keep(self, draft: Draft, rows: Rows) -> None:
        """Add every row of a draft to the table."""
        table = self._drafter.table
        top = likely_tokens(rows, len(draft) + 1, table.k)
        if top is None:
            return
        last = np.concatenate((np.array(self._tail[1:], dtype=np.int32), draft.tokens))
        before = last[draft.parents + 1]
        before = np.concatenate((np.array(self._tail[:1], dtype=np.int32), before))
        table.add(self._space, before, last, top.tokens, np.exp(top.logprobs))


_Entry = tuple[int, list[int], list[float]]
"""Order, next tokens, their shares."""


def share_class(share: float) -> int:
    """The class of a share in (0, 1] by its log-odds, from 0 (rare) to 32 (sure)."""
    if share >= 0.9997:
        return _CLASSES - 1
    return max(0, round(2 * math.log(share / (1 - share))) + 16)
