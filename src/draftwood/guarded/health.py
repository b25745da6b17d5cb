"""How often a drafter failed, and whether it is still asked."""

from __future__ import annotations

import logging

from draftwood.draft import Budget, Draft
from draftwood.guarded.calls import batch_drafter
from draftwood.protocols import Drafter

log = logging.getLogger("draftwood.guarded")

FAILING_STEPS = 3
"""Steps in a row in which a drafter fails, after which a run goes on without it."""


class DrafterHealth:
    """How a drafter does in a run.

    together: the drafter, where it takes a call for all of its streams. failures: calls that
    raised, and drafts that were not fit to be verified. off: it failed in `FAILING_STEPS` steps in
    a row, with no step between in which all went well, and is not asked any more. Each kind of call
    is logged when it fails for the first time, and being switched off is, too.
    """

    def __init__(self, drafter: Drafter) -> None:
        self.drafter = drafter
        self.together = batch_drafter(drafter)
        self.failures = 0
        self.cuts = 0
        self.off = False
        self._logged: set[str] = set()
        self._asked = self._failed = False
        self._in_a_row = 0

    def asked(self) -> None:
        """It is asked for drafts in this step."""
        self._asked = True

    def failed(self, verb: str, consequence: str) -> None:
        """To be called where the exception is handled."""
        self.failures += 1
        self._failed |= verb != "close"  # which costs no drafts
        level = logging.DEBUG if verb in self._logged else logging.ERROR
        self._logged.add(verb)
        log.log(level, "drafter failed in %s; %s", verb, consequence, exc_info=True)

    def cut(self, draft: Draft, budget: Budget) -> None:
        """A draft was larger than the budget that the drafter was asked for."""
        self.cuts += 1
        if self.cuts == 1:
            log.warning(
                "drafter %s proposed %d tokens and was asked for at most %d, %d on a path; "
                "the rest is cut off; logged once, then counted",
                type(self.drafter).__name__,
                len(draft),
                budget.nodes,
                budget.reach,
            )

    def end_step(self) -> None:
        """A step ends: whether it was one more that went wrong."""
        if self._failed:
            self._in_a_row += 1
        elif self._asked:
            self._in_a_row = 0
        self._asked = self._failed = False
        if self._in_a_row == FAILING_STEPS and not self.off:
            self.off = True
            log.error(
                "drafter %s failed in %d steps in a row; this run goes on without it",
                type(self.drafter).__name__,
                FAILING_STEPS,
            )
