"""The cut: which nodes of a step's drafts are worth verifying.

A node's value D is the probability that it is accepted, the product of confidences down its path,
discounted by its depth (`discounts_of`), and so never above its parent's: the n nodes of largest D,
over all drafts together, form a valid draft for every sequence, and no other n nodes are worth
more. What is left to choose is n. The pass takes t(n); at a pace in tokens a second that time is
worth pace * t(n) tokens, and the best n maximizes

    gain(n) = (sum of the n largest D) - pace * (t(n) - t(0))

Where t is a straight line this is the marginal rule, D > pace * slope. Measured passes have steps
(a GPU's tiles), so all n are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, Draft

_FORESEEN = 2 / 3
"""How far the pace where tokens were accepted is taken for what it was there."""
_FEW = 512
"""Nodes up to which lists beat numpy."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The nodes of one draft in the order in which they may be kept.

    keys: never rising. gains: by how many expected tokens the node adds to the draft. Where tokens
    were sampled both are those of whole levels: all nodes of a level have the same key, and the
    last one has the gain. order: the nodes; None: the draft's own order.
    """

    keys: Sequence[float]
    gains: Sequence[float]
    order: Sequence[int] | None
    levels: bool = False


def rank(draft: Draft, reach: Sequence[float] = (), discounts: Sequence[float] = ()) -> Ranked:
    """Order a draft's nodes by value.

    discounts: factors on the probability of nodes of depth 1, 2, .. (`discounts_of`); deeper ones
    take the last, and an empty array stands for 1. reach: for a draft of sampled tokens, P(level d
    is accepted), d from 0, never rising; levels beyond are worth nothing. Such a draft is ordered
    by level alone: choosing tokens by their value would change the distribution they were drawn
    from.
    """
    if draft.proposal is not None:
        return _rank_levels(draft, reach)
    paths: list[float] = []
    values: list[float] = []
    depths: list[int] = []
    deepest = len(discounts) - 1
    last, falling = 1.0, True
    for parent, sure in zip(draft.parents.tolist(), draft.confidence.tolist(), strict=True):
        value = sure if 0.0 <= sure <= 1.0 else float(sure > 1.0)  # what is no number is worth 0
        depth = 0
        if parent != ROOT:
            value *= paths[parent]
            depth = depths[parent] + 1
        paths.append(value)
        depths.append(depth)
        if discounts:
            value *= discounts[depth if depth < deepest else deepest]
        falling = falling and value <= last
        last = value
        values.append(value)
    if falling:
        return Ranked(values, values, None)
    order = sorted(range(len(values)), key=values.__getitem__, reverse=True)  # stable
    ordered = [values[node] for node in order]
    return Ranked(ordered, ordered, order)


def discounts_of(pace: float, times: NDArray[np.float64], drafting: float = 0.0) -> list[float]:
    """The worth of a token accepted at depth 1, 2, .., in tokens at the mean pace.

    pace: tokens in the time of a plain step. drafting: what it takes to draft a token, in plain
    steps. Where d drafted tokens were accepted the text is
    predictable, so decoding is faster there than on average, and an accepted token saves less time.
    How much faster is estimated as the geometric mean of the pace of steps that accept all d tokens
    (weight 2/3) and the mean pace. Never rising, at most 1.
    """
    steps = np.arange(1.0, len(times))
    taken = times[1:] / times[0] + drafting * steps
    fast = np.maximum.accumulate((steps + 1.0) / taken)
    found: list[float] = np.minimum(1.0, (pace / fast) ** _FORESEEN).tolist()
    return found


def keep(draft: Draft, ranked: Ranked, count: int) -> Draft:
    """The draft's `count` best nodes by rank; of sampled tokens, the levels that fit completely."""
    count = min(count, len(draft))
    if ranked.levels and 0 < count < len(draft):
        sizes = np.cumsum(np.bincount(draft.depths)[1:])
        return draft.to_depth(int(np.searchsorted(sizes, count, side="right")))
    if ranked.order is None or count == len(draft) or not count:
        return draft.cut(nodes=count) if count else Draft.empty()
    return draft.select(sorted(ranked.order[:count]))


def best_prefix(ranked: Sequence[Ranked], pace: float, times: NDArray[np.float64]) -> list[int]:
    """How many nodes of each draft to keep where a pass costs by the total of drafted tokens.

    times: t(0), .. t(N), N at least the number of nodes of all drafts.
    """
    if len(ranked) == 1:
        return [_best_of_few(ranked[0].gains, pace, times)]
    sizes = [len(each.keys) for each in ranked]
    if sum(sizes) <= _FEW:
        return _best_prefix_of_few(ranked, pace, times)
    owners = np.repeat(np.arange(len(ranked)), sizes)
    keys = np.concatenate([np.asarray(each.keys, dtype=np.float64) for each in ranked])
    gains = np.concatenate([np.asarray(each.gains, dtype=np.float64) for each in ranked])
    order = np.argsort(-keys, kind="stable")
    count = _best(np.cumsum(gains[order]), pace, times)
    counts: list[int] = np.bincount(owners[order[:count]], minlength=len(ranked)).tolist()
    return counts


def best_length(ranked: Sequence[Ranked], pace: float, times: NDArray[np.float64]) -> list[int]:
    """As `best_prefix` for a padded pass, with as many rows for every sequence: one draft length.

    times: t(0), t(B), t(2 B), .. of a pass of B sequences, up to the longest draft.
    """
    together = zip_longest(*(each.gains for each in ranked), fillvalue=0.0)
    length = _best_of_few(list(map(sum, together)), pace, times)
    return [min(length, len(each.gains)) for each in ranked]


def _best(gains: NDArray[np.float64], pace: float, times: NDArray[np.float64]) -> int:
    """n of the largest gains(n) - pace * (t(n) - t(0)); the smallest of equals, 0 among them."""
    if not len(gains):
        return 0
    worth = gains - pace * times[1 : len(gains) + 1]
    best = int(worth.argmax())
    return best + 1 if worth[best] > -pace * times[0] else 0


def _best_prefix_of_few(
    ranked: Sequence[Ranked], pace: float, times: NDArray[np.float64]
) -> list[int]:
    """`best_prefix` in lists."""
    keys = [key for each in ranked for key in each.keys]
    gains = [gain for each in ranked for gain in each.gains]
    owners = [owner for owner, each in enumerate(ranked) for _ in each.keys]
    order = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)  # stable
    counts = [0] * len(ranked)
    for node in order[: _best_of_few([gains[node] for node in order], pace, times)]:
        counts[owners[node]] += 1
    return counts


def _best_of_few(gains: Sequence[float], pace: float, times: NDArray[np.float64]) -> int:
    """`_best` for gains that are not yet summed, in lists."""
    costs = times[: len(gains) + 1].tolist()
    most, count, worth = -pace * costs[0], 0, 0.0
    for at, gain in enumerate(gains, 1):
        worth += gain
        value = worth - pace * costs[at]
        if value > most:
            most, count = value, at
    return count


def _rank_levels(draft: Draft, reach: Sequence[float]) -> Ranked:
    depths = draft.depths.tolist()
    order = sorted(range(len(depths)), key=depths.__getitem__)  # stable
    keys: list[float] = []
    gains: list[float] = []
    key = 1.0
    for depth in range(1, max(depths, default=0) + 1):
        width = depths.count(depth)
        value = reach[depth - 1] if depth <= len(reach) else 0.0
        key = min(key, value / width)
        keys += [key] * width
        gains += [0.0] * (width - 1) + [value]
    return Ranked(keys, gains, order, levels=True)
