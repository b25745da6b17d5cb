"""When to switch drafting off: a running balance of time lost and tokens gained by drafting."""

from __future__ import annotations

from draftwood.errors import InvalidOption


class Account:
    """Lets drafting lose at most a stated share of the time against plain decoding.

    Times are in plain steps (steps without a draft): a step that took as long as `time` plain steps
    and gave `tokens` tokens a sequence lost time - tokens, since a plain step takes 1 and gives 1.
    The balance begins at `opening`, grows by `share` of all time that passes, falls by every loss,
    rises by every gain, and never exceeds `most`. Drafting is on while the balance is positive.
    Where drafting does not pay it is therefore off, and tried again whenever the balance is
    positive again: the dearer a trial, the longer the wait. Where it pays it stays on. For any
    drafter, target and change of either,

        total loss <= opening + share * total time + the largest loss of one step

    `most` bounds how much of former gains can be lost before drafting is switched off: it is
    what a change of regime costs.
    """

    __slots__ = ("_most", "_share", "balance")

    def __init__(self, share: float = 0.005, *, opening: float = 8.0, most: float = 16.0) -> None:
        if not 0.0 <= share < 1.0:
            raise InvalidOption(f"share is {share}; use 0 to below 1, such as 0.005")
        if not 0.0 <= opening <= most:
            raise InvalidOption(f"opening balance {opening} is not within 0 and {most}")
        self._share = share
        self._most = most
        self.balance = opening

    @property
    def open(self) -> bool:
        """Whether drafting is on."""
        return self.balance > 0.0

    def enter(self, time: float, tokens: float) -> None:
        """Enter a step that took `time` plain steps and gave `tokens` tokens a sequence."""
        self.balance = min(self._most, self.balance + tokens - (1.0 - self._share) * time)
