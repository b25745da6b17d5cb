"""The cost of a running target's passes, learned from their times."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from math import exp, log
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from draftwood.budget.cost import Times
from draftwood.budget.isotonic import isotonic
from draftwood.draft import Draft, TokenIds, as_tokens
from draftwood.errors import ContextTooLong, InvalidOption
from draftwood.fork import fork_lock
from draftwood.protocols import Batch, BatchTarget, Target

_BOUNDS = (0, 1, 2, 3, 4, *(b for k in range(2, 20) for b in (3 << (k - 1), 2 << k)))
"""Where classes of drafted tokens, and of batch sizes, begin: 0 1 2 3 4 6 8 12 16 24 32 ..."""
_KEPT = 63
"""Times of a class that are kept; their median counts."""
_OLD = 1000
"""Passes of a curve after which a time is out of date."""
_SETTLED = 3
"""Times of a class from which on its next ones tell how fast the machine is now."""
_TURN, _FARTHEST = 0.1, 0.3
"""How quickly the speed of the machine is followed, and what one pass counts for at most.

Times have a long upper tail. Were all of it counted, the speed would rise for ever above medians
that sink below it, and times taken before could no longer be compared with those taken now.
"""
_LEAK = 1.0 / 256.0
"""What of the speed passes on to the curves with every time taken, so that it stays near 0."""
_FIRST = (0.9, 0.1, 0.03)
"""What is believed before anything is timed: a, b, c of a + b * batch + c * drafted."""


class MeasuredCost:
    """t(n) of a target in wall-clock seconds, learned from its passes; needs no prior measurement.

    Numbers of drafted tokens, batch sizes and context lengths are binned geometrically. Each bin
    keeps its last 63 times, none older than 1000 passes, and uses their median, so that an
    occasional slow pass does not matter. What makes all passes slower or faster, such as other work
    on the machine, is tracked separately and divided out, since only ratios matter. Along drafted
    tokens the curve never falls (isotonic regression, weighted by counts), and beyond the largest
    draft timed it goes on no flatter than along the upper half of those timed. Where few passes of
    a context were timed it leans on the curve of the next shorter context that is known, without
    one on a plane through all passes: t = a + b * batch + c * drafted. Until that is known, a
    drafted token is assumed to add 3 % to a plain step of one sequence. A curve is refitted after a
    quarter more passes, at the latest after 32. Thread-safe.
    """

    def __init__(self) -> None:
        self._speed = 0.0  # log of how much longer passes take now than the curves say
        self._plane = _Plane()
        self._curves: dict[tuple[int, int], _Curve] = {}
        self._lock = fork_lock()

    def seconds(self, drafted: int, *, batch: int = 1, context: int = 0) -> float:
        """A pass over `batch` sequences with `drafted` tokens in all."""
        with self._lock:
            return exp(self._speed) * float(
                self._curve(batch, context).upto(drafted, batch)[drafted]
            )

    def times(self, most: int, *, batch: int = 1, context: int = 0) -> Times:
        """The same for 0 to `most` drafted tokens."""
        with self._lock:
            return exp(self._speed) * self._curve(batch, context).upto(most, batch)

    def observe(self, drafted: int, seconds: float, *, batch: int = 1, context: int = 0) -> None:
        """Learn from a pass that took `seconds`; values that are no time are ignored."""
        if not 0.0 < seconds < float("inf"):
            return
        with self._lock:
            curve = self._curve(batch, context)
            if curve.count(drafted) >= _SETTLED:
                expected = float(curve.upto(drafted, batch)[drafted])
                off = log(seconds / expected) - self._speed
                self._speed += _TURN * max(-_FARTHEST, min(_FARTHEST, off)) - _LEAK * self._speed
            seconds /= exp(self._speed)
            self._plane.add(drafted, seconds, batch)
            curve.add(drafted, seconds, batch)

    def sweep(
        self,
        target: Target,
        prompt: ArrayLike,
        *,
        sizes: Sequence[int] = (0, 1, 2, 4, 8, 16, 32),
        batches: Iterable[int] = (1,),
        rounds: int = 5,
        seconds: float = float("inf"),
    ) -> None:
        """Time passes of several draft sizes (a sequence) in turn, for each batch size.

        prompt: the context, at least one token; drafts are made of its tokens. The passes are the
        ones that decoding runs: a cursor's for one sequence, a batch's for several where the target
        has batches. Nothing is generated. A first pass of each size is a warm-up and is not
        counted. A prompt that leaves the model's context no room is shortened, and sizes beyond the
        context are left out. seconds: no pass begins later than this.

        Raises:
            InvalidOption: no rounds or sizes.
        """
        if rounds < 1 or not sizes or min(sizes) < 0:
            raise InvalidOption(f"{rounds} rounds of sizes {list(sizes)}; use 1 or more of each")
        tokens = as_tokens(prompt)
        end = perf_counter() + seconds
        for batch in batches:
            with _Passes.open(target, tokens, batch) as passes:
                tokens = passes.prompt
                fitting = [size for size in sizes if passes.room is None or size < passes.room]
                drafts = {size: Draft.chain(np.resize(tokens, size)) for size in fitting}
                for turn in range(rounds + 1):
                    for size, draft in drafts.items():
                        if perf_counter() > end:
                            return
                        taken = passes.time(draft)
                        if turn:
                            self.observe(size * batch, taken, batch=batch, context=len(tokens))

    def _curve(self, batch: int, context: int) -> _Curve:
        # contexts up to 255 tokens are one class; from there on, each four times the one before
        key = (_class(batch), max(0, context.bit_length() - 7) // 2)
        curve = self._curves.get(key)
        if curve is None:
            shorter = [self._curves.get((key[0], size)) for size in range(key[1])]
            known = [each for each in shorter if each is not None]
            curve = self._curves[key] = _Curve(self._plane, known[-1] if known else None)
        return curve


class _Plane:
    """t = a + b * batch + c * drafted, in least squares of relative errors; old times fade.

    Relative to what was timed, so that a pass that stalled counts for little.
    """

    def __init__(self) -> None:
        self.slopes = _FIRST
        self._moments = np.zeros((3, 4))  # of 1, batch, drafted with themselves and the time
        self._mass = 0.0
        self._count = 0
        self._new: list[tuple[float, float, float, float]] = []

    def at(self, drafted: float, batch: float) -> float:
        a, b, c = self.slopes
        return a + b * batch + c * drafted

    def add(self, drafted: int, seconds: float, batch: int) -> None:
        self._new.append((1.0, batch, drafted, seconds))
        self._count += 1
        if self._count <= 32 or len(self._new) >= 32:
            self._take_in()
            self.slopes = self._fit()

    def _take_in(self) -> None:
        rows = np.array(self._new)
        fades = (1.0 - 1.0 / _OLD) ** np.arange(len(rows), -1.0, -1.0)
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
        (a, b, c), hold_b, hold_c = _FIRST, 1.0, 50.0
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


class _Curve:
    """t(n) at one class of batch sizes and contexts."""

    def __init__(self, plane: _Plane, shorter: _Curve | None) -> None:
        self._plane = plane
        self._shorter = shorter
        self._bins: dict[int, _Bin] = {}
        self._passes = self._draw_at = 0
        self._drawn: dict[int, Times] = {}

    def add(self, drafted: int, seconds: float, batch: int) -> None:
        self._passes += 1
        key = _class(drafted)
        kept = self._bins.get(key)
        if kept is None:
            kept = self._bins[key] = _Bin()
            self._draw_at = self._passes
        kept.add(self._passes, drafted, seconds, batch)
        if self._passes >= self._draw_at:
            self._draw_at = self._passes + 1 + min(31, self._passes // 4)
            self._drawn.clear()

    def count(self, drafted: int) -> int:
        kept = self._bins.get(_class(drafted))
        return 0 if kept is None else kept.count

    def upto(self, most: int, batch: int) -> Times:
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
        a, b, c = _FIRST
        plain = self._plane.at(0.0, batch)
        slope = min(self._plane.slopes[2] / plain, 2.0 * c / (a + b * batch)) * heights[0]
        half = places[-1] / 2.0
        if not half:
            return slope
        upper = (heights[-1] - float(np.interp(half, places, heights))) / half
        return max(slope / 4.0, upper)

    def _forget(self) -> None:
        for key, kept in list(self._bins.items()):
            if kept.newest < self._passes - _OLD:
                del self._bins[key]
            else:
                kept.settle(self._passes)


class _Bin:
    """The last times of a class of drafted tokens: their median, and where they were taken."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, float, int, int]] = deque(maxlen=_KEPT)
        self._settled = 0
        self.newest = 0
        self.seconds = self.drafted = self.batch = 0.0

    @property
    def count(self) -> int:
        return len(self._kept)

    def add(self, at: int, drafted: int, seconds: float, batch: int) -> None:
        self._kept.append((at, seconds, drafted, batch))
        self.newest = at

    def settle(self, now: int) -> None:
        """Draw the median and the means of what is not out of date."""
        kept = self._kept
        old = kept[0][0] < now - _OLD
        if self._settled == self.newest and not old:
            return
        while kept[0][0] < now - _OLD:
            kept.popleft()
        self._settled = self.newest
        _, times, drafts, batches = zip(*kept, strict=True)
        self.seconds = median(times)
        self.drafted = sum(drafts) / len(kept)
        self.batch = sum(batches) / len(kept)


class _Passes:
    """Sequences that stand after one prompt and are scored again and again."""

    def __init__(self, target: Target, prompt: TokenIds, batch: int) -> None:
        self.prompt = prompt
        self._batch: Batch[Any] | None = None
        self._seats: list[Any] = []
        try:
            if batch > 1 and isinstance(target, BatchTarget) and target.batches:
                self._batch = target.open_batch(batch)
            for _ in range(batch):
                self._seats.append((self._batch or target).open(prompt))
        except BaseException:
            self.__exit__()
            raise

    @classmethod
    def open(cls, target: Target, prompt: TokenIds, batch: int) -> _Passes:
        """With as much of the prompt, halved again and again, as the model's context holds."""
        while True:
            try:
                return cls(target, prompt, batch)
            except ContextTooLong:
                if len(prompt) < 2:
                    raise
                prompt = prompt[: len(prompt) // 2]

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the prompt; None: no limit."""
        rooms = [seat.room for seat in self._seats]
        return None if None in rooms else min(rooms)

    def time(self, draft: Draft) -> float:
        start = perf_counter()
        if self._batch is not None:
            rows = self._batch.score(self._seats, [draft] * len(self._seats))
        else:
            rows = [seat.score(draft) for seat in self._seats]
        for row in rows:
            row.argmax()  # what runs on a device has to be waited for
        return perf_counter() - start

    def __enter__(self) -> _Passes:
        return self

    def __exit__(self, *_: object) -> None:
        for seat in self._seats:
            seat.close()
        if self._batch is not None:
            self._batch.close()


def _class(number: int) -> int:
    return bisect_right(_BOUNDS, number) - 1
