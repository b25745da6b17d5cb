"""The cost of a running target's passes, learned from their times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike

from draftwood.budget.cost import Times
from draftwood.budget.pass_curve import PassCurve, PassPlane, size_class
from draftwood.budget.timed_passes import TimedPasses
from draftwood.draft import Draft, as_tokens
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.protocols import Target

_SETTLED = 3
"""Times of a class from which on its next ones tell how fast the machine is now."""
_TURN, _FARTHEST = 0.1, 0.3
"""How quickly the speed of the machine is followed, and what one pass counts for at most.

Times have a long upper tail. Were all of it counted, the speed would rise for ever above medians
that sink below it, and times taken before could no longer be compared with those taken now.
"""
_LEAK = 1.0 / 256.0
"""What of the speed passes on to the curves with every time taken, so that it stays near 0."""


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
        self._plane = PassPlane()
        self._curves: dict[tuple[int, int], PassCurve] = {}
        self._lock = fork_lock()
        self._timed = 0

    def __repr__(self) -> str:
        return f"MeasuredCost({self._timed} passes timed)"

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
            self._timed += 1
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
            with TimedPasses.open(target, tokens, batch) as passes:
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

    def _curve(self, batch: int, context: int) -> PassCurve:
        # contexts up to 255 tokens are one class; from there on, each four times the one before
        key = (size_class(batch), max(0, context.bit_length() - 7) // 2)
        curve = self._curves.get(key)
        if curve is None:
            shorter = [self._curves.get((key[0], size)) for size in range(key[1])]
            known = [each for each in shorter if each is not None]
            curve = self._curves[key] = PassCurve(self._plane, known[-1] if known else None)
        return curve
