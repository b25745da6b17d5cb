"""Whether one more pass of the small model is worth its time.

A pass over nodes whose paths have the probabilities v_1, v_2, ... promises at most their sum of
further accepted tokens: one child each, where the node itself is accepted. It is made where

    rate * (v_1 + v_2 + ...) >= gain

rate: the part of what passes promised that came true, so far. gain: the tokens that the time of a
pass would bring otherwise, its seconds over the seconds of a token at the present pace. Tokens a
second are at their largest where every pass earns at least what the average second does, so the
rule settles there.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock

_FORGET: Final = 0.98
"""Weight of the past: about the last fifty steps count."""

_FIRST_GAIN, _FIRST_RATE = 0.3, 0.8
"""What is taken for granted before anything was measured."""

_FIRST_PROMISED: Final = 20.0
"""Promised tokens that the first rate weighs: a few wrong drafts at first must not end them all."""


class Gain:
    """The least that a pass must promise, for all streams of a drafter. Safe between threads.

    gain: accepted tokens (0: every pass is made, up to the drafter's own limits), or "auto":
    measured by the clock, so that lengths of drafts depend on the machine; the text does not where
    drafts are chosen (`Greedy`, `SharedGumbel`, `SampleAndMatch`).

    Raises:
        InvalidOption: neither "auto" nor a number >= 0.
    """

    def __init__(self, gain: float | str = "auto") -> None:
        self._measured = gain == "auto"
        try:
            self._gain = _FIRST_GAIN if self._measured else float(gain)
        except ValueError:
            self._gain = -1.0
        if not self._gain >= 0.0:
            raise InvalidOption(f"gain is {gain!r}; give accepted tokens >= 0, or 'auto'")
        self._lock = fork_lock()
        self._promised = _FIRST_PROMISED
        self._came = _FIRST_PROMISED * _FIRST_RATE
        self._passes = self._pass_seconds = self._tokens = self._seconds = 0.0
        self._seen = perf_counter()

    @property
    def gain(self) -> float:
        """Accepted tokens that a pass must bring now."""
        return self._gain

    @property
    def rate(self) -> float:
        """Accepted tokens for each that a pass promised."""
        return self._came / self._promised

    def pays(self, values: float) -> bool:
        """Whether to make a pass over nodes whose values have this sum."""
        return values > 0.0 and self.rate * values >= self._gain

    def record(self, promised: float, came: int) -> None:
        """Passes below the first level promised so many accepted tokens, and so many came.

        Where passes are no longer made, the rate drifts back to what it was at first: they are
        tried again after a while.
        """
        with self._lock:
            drift = (1 - _FORGET) * _FIRST_PROMISED
            self._promised = _FORGET * self._promised + promised + drift
            self._came = _FORGET * self._came + came + drift * _FIRST_RATE

    def begin(self) -> None:
        """A sequence has begun: the time until now is nobody's."""
        self._seen = perf_counter()

    def time(self, passes: int, pass_seconds: float, tokens: int) -> None:
        """A step has ended that made `tokens`: `passes` of the model in so many seconds.

        What a token takes is the time since any stream's last step, so that sequences which share
        the loop share its time.
        """
        with self._lock:
            now = perf_counter()
            seconds, self._seen = now - self._seen, now
            if not self._measured or not passes:
                return
            self._passes = _FORGET * self._passes + passes
            self._pass_seconds = _FORGET * self._pass_seconds + pass_seconds
            self._tokens = _FORGET * self._tokens + tokens
            self._seconds = _FORGET * self._seconds + seconds
            each, pace = self._pass_seconds / self._passes, self._seconds / self._tokens
            self._gain = min(1.0, each / pace)


class Promises:
    """What the passes of one stream's present draft promised and took; its `Gain` is told after it.

    Used by one thread at a time.
    """

    def __init__(self, gain: Gain) -> None:
        self._gain = gain
        self._steps = 0
        self.forget()

    def pays(self, values: float) -> bool:
        """Whether to make a pass over nodes whose values have this sum; if so, it is a promise."""
        if not self._gain.pays(values):
            return False
        self._promised += values
        return True

    def took(self, passes: int, seconds: float) -> None:
        """The draft took so many passes and seconds."""
        self._passes, self._seconds = passes, seconds

    def record(self, accepted: int, tokens: int) -> None:
        """The step is over: so many nodes of the draft were accepted, and so many tokens came.

        The first accepted one was promised by nobody: the context's pass is always made.
        """
        self._gain.record(self._promised, max(0, accepted - 1) if self._promised else 0)
        if self._steps:
            self._gain.time(self._passes, self._seconds, tokens)
        else:
            self._gain.begin()  # the prompt's passes say nothing about those to come
        self._steps += 1
        self.forget()

    def forget(self) -> None:
        """Begin a new draft."""
        self._promised = self._seconds = 0.0
        self._passes = 0
