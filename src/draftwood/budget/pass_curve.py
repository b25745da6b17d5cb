"""What a pass takes by drafted tokens, at one batch size and context: medians joined to a curve."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from statistics import median

import numpy as np

from draftwood.budget.cost import Times
from draftwood.budget.isotonic import isotonic

_BOUNDS = (0, 1, 2, 3, 4, *(b for k in range(2, 20) for b in (3 << (k - 1), 2 << k)))
"""Where classes of drafted tokens, and of batch sizes, begin: 0 1 2 3 4 6 8 12 16 24 32 ..."""
_KEPT = 63
"""Times of a class that are kept; their median counts."""
OLD = 1000
"""Passes of a curve after which a time is out of date."""
FIRST_BELIEF = (0.9, 0.1, 0.03)
"""What is believed before anything is timed: a, b, c of a + b * batch + c * drafted."""


def size_class(number: int) -> int:
    """The number of the class that a count of drafted tokens, or a batch size, falls into."""
    return bisect_right(_BOUNDS, number) - 1


class PassPlane:
    """t = a + b * batch + c * drafted, in least squares of relative errors; old times fade.

    Relative to what was timed, so that a pass that stalled counts for little.
    """

    def __init__(self) -> None:
        self.slopes = FIRST_BELIEF
        self._moments = np.zeros((3, 4))  # of 1, batch, drafted with themselves and the time
        self._mass = 0.0
        self._count = 0
        self._new: list[tuple[float, float, float, float]] = []

    def at(self, drafted: float, batch: float) -> float:
        """Seconds of a pass."""
        a, b, c = self.slopes
        return a + b * batch + c * drafted

    def add(self, drafted: int, seconds: float, batch: int) -> None:
        """Learn from a pass that was timed."""
        self._new.append((1.0, batch, drafted, seconds))
        self._count += 1
        if self._count <= 32 or len(self._new) >= 32:
            self._take_in()
            self.slopes = self._fit()

    def _take_in(self) -> None:
        rows = np.array(self._new)
        fades = (1.0 - 1.0 / OLD) ** np.arange(len(rows), -1.0, -1.0)
        relative = rows / rows[:, 3:]
        self._moments = fades[0] * self._moments + (relative[:, :3].T * fades[1:]) @ relative
        self._mass = float(fades[0] * self._mass + fades[1:].sum())
        self._new.clear()

    def _fit(self) -> tuple[float, float, float]:
        """The best slopes of which none is negative; the last ones where a step took no time.

        Held, with the weight of a few passes, to what b / a and c / a were first believed to be.
        """
        moments = self._moments * (self._mass / self._moments[0, 0])
        (aa, ab, ac), (bb, bc), cc, sums = (
            moments[0, :3].tolist(),
            moments[1, 1:3].tolist(),
            float(moments[2, 2]),
            moments[:, 3],
        )
        (a, b, c), hold_b, hold_c = FIRST_BELIEF, 1.0, 50.0
        aa += hold_b * (b / a) ** 2 + hold_c * (c / a) ** 2
        ab -= hold_b * b / a
        ac -= hold_c * c / a
        matrix = np.array([[aa, ab, ac], [ab, bb + hold_b, bc], [ac, bc, cc + hold_c]])
        free = [0, 1, 2]
        while free:
            found = np.linalg.solve(matrix[np.ix_(free, free)], sums[free])
            if found.min() >= 0.0:
                slopes = dict(zip(free, found.tolist(), strict=True))
                a, b = slopes.get(0, 0.0), slopes.get(1, 0.0)
                return (a, b, slopes.get(2, 0.0)) if a + b > 0.0 else self.slopes
            free.pop(int(found.argmin()))
        return self.slopes


class PassCurve:
    """t(n) at one class of batch sizes and contexts."""

    def __init__(self, plane: PassPlane, shorter: PassCurve | None) -> None:
        self._plane = plane
        self._shorter = shorter
        self._bins: dict[int, PassTimes] = {}
        self._passes = self._draw_at = 0
        self._drawn: dict[int, Times] = {}

    def add(self, drafted: int, seconds: float, batch: int) -> None:
        """Learn from a pass that was timed."""
        self._passes += 1
        key = size_class(drafted)
        kept = self._bins.get(key)
        if kept is None:
            kept = self._bins[key] = PassTimes()
            self._draw_at = self._passes
        kept.add(self._passes, drafted, seconds, batch)
        if self._passes >= self._draw_at:
            self._draw_at = self._passes + 1 + min(31, self._passes // 4)
            self._drawn.clear()

    def count(self, drafted: int) -> int:
        """How many times of the class of `drafted` tokens are kept."""
        kept = self._bins.get(size_class(drafted))
        return 0 if kept is None else kept.count

    def upto(self, most: int, batch: int) -> Times:
        """Seconds of passes with 0 to `most` drafted tokens, [most + 1]."""
        drawn = self._drawn.get(batch)
        if drawn is None or len(drawn) <= most:
            drawn = self._drawn[batch] = self._draw(max(64, 1 << most.bit_length()), batch)
        return drawn[: most + 1]

    def _believed(self, drafted: float, batch: float) -> float:
        """The time of a pass before any was timed here."""
        if self._shorter is not None and self._shorter._bins:
            return float(self._shorter.upto(round(drafted), round(batch))[-1])
        return self._plane.at(drafted, batch)

    def _draw(self, most: int, batch: int) -> Times:
        """What was believed, bent to the medians."""
        self._forget()
        if not self._bins and self._shorter is not None:
            return self._shorter.upto(most, batch)
        places: list[float] = []
        heights: list[float] = []
        weights: list[float] = []
        common = 1.0  # how far off this class is as a whole
        for key in sorted(self._bins):
            kept = self._bins[key]
            known = kept.count / (kept.count + 2.0)
            off = (kept.seconds / self._believed(kept.drafted, kept.batch)) ** known
            if not places:
                common = off
                if kept.drafted:  # no plain step was timed
                    places, heights = [0.0], [off * self._believed(0.0, batch)]
                    weights = [0.5]
            else:
                off *= common ** (1.0 - known)
            places.append(kept.drafted)
            heights.append(off * self._believed(kept.drafted, batch))
            weights.append(float(kept.count))
        if not places:
            places, heights, weights = [0.0], [self._believed(0.0, batch)], [1.0]
        n = np.arange(most + 1, dtype=np.float64)
        heights = isotonic(heights, weights)
        drawn: Times = np.interp(n, places, heights)
        last = places[-1]
        beyond = n > last
        if last < most and self._shorter is not None:
            shape = self._shorter.upto(most, batch)
            drawn[beyond] = heights[-1] * shape[beyond] / float(np.interp(last, n, shape))
        elif last < most:
            drawn[beyond] = heights[-1] + self._slope(places, heights, batch) * (n[beyond] - last)
        drawn.flags.writeable = False
        return drawn

    def _slope(self, places: list[float], heights: list[float], batch: int) -> float:
        """By which the curve goes on beyond the largest draft timed.

        The first tokens may cost a jump that later ones do not, hence the upper half of those
        timed. Of the plane's slope, which holds that jump, a quarter is the least; where nothing
        but plain steps was timed it counts in full, up to a limit: a wrong slope must not keep
        drafts from being tried.
        """
        a, b, c = FIRST_BELIEF
        plain = self._plane.at(0.0, batch)
        slope = min(self._plane.slopes[2] / plain, 2.0 * c / (a + b * batch)) * heights[0]
        half = places[-1] / 2.0
        if not half:
            return slope
        upper = (heights[-1] - float(np.interp(half, places, heights))) / half
        return max(slope / 4.0, upper)

    def _forget(self) -> None:
        for key, kept in list(self._bins.items()):
            if kept.newest < self._passes - OLD:
                del self._bins[key]
            else:
                kept.refresh(self._passes)


class PassTimes:
    """The last times of a class of drafted tokens: their median, and where they were taken."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, float, int, int]] = deque(maxlen=_KEPT)
        self._fresh_at = 0
        self.newest = 0
        self.seconds = self.drafted = self.batch = 0.0

    @property
    def count(self) -> int:
        """How many times are kept."""
        return len(self._kept)

    def add(self, at: int, drafted: int, seconds: float, batch: int) -> None:
        """Keep a time. at: number of its pass, counted from the first of the curve."""
        self._kept.append((at, seconds, drafted, batch))
        self.newest = at

    def refresh(self, now: int) -> None:
        """Draw the median and the means of what is not out of date."""
        kept = self._kept
        old = kept[0][0] < now - OLD
        if self._fresh_at == self.newest and not old:
            return
        while kept[0][0] < now - OLD:
            kept.popleft()
        self._fresh_at = self.newest
        _, times, drafts, batches = zip(*kept, strict=True)
        self.seconds = median(times)
        self.drafted = sum(drafts) / len(kept)
        self.batch = sum(batches) / len(kept)
