"""Isotonic regression."""

from __future__ import annotations

from collections.abc import Sequence


def isotonic(heights: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence that is nearest in weighted least squares.

    Pools adjacent violators (Barlow et al. 1972): O(n). weights: > 0, as many as heights.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for height, weight in zip(heights, weights, strict=True):
        mean, mass, members = height, weight, 1
        while pools and pools[-1][0] > mean:
            before, more, count = pools.pop()
            mean = (mean * mass + before * more) / (mass + more)
            mass, members = mass + more, members + count
        pools.append((mean, mass, members))
    return [mean for mean, _, members in pools for _ in range(members)]
