"""When drafting is switched off: an account of the time that it cost and the tokens it brought."""

from __future__ import annotations

from draftwood.errors import InvalidOption


class Account:
    """Lets drafting lose at most a stated share of the time against plain decoding.

    All in plain steps: a step that took `time` plain steps and brought `tokens` tokens a sequence
    lost time - tokens, since a plain step takes 1 and brings 1. The balance begins at `opening`,
    earns `share` of all time that passes, pays every loss, takes in every gain, and never exceeds
    `most`. Drafting is open while the balance is positive. Where drafting does not pay it is
    therefore closed, and probed whenever enough has been earned: the dearer a probe, the longer
    the wait. Where it pays it stays open. For any drafter, target and change of either,

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
        """Whether drafting may be tried."""
        return self.balance > 0.0

    def settle(self, time: float, tokens: float) -> None:
        """A step took `time` plain steps and brought `tokens` tokens a sequence."""
        self.balance = min(self._most, self.balance + tokens - (1.0 - self._share) * time)
