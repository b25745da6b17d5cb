"""What went wrong with a drafter or a caller: counted by kind, and logged once for each."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

log = logging.getLogger("draftwood.sessions")

UNKNOWN: Final = 1
"""A key that is not open."""
TWICE: Final = 2
"""A key that stands in the step already."""
DRAFTED: Final = 5
"""The drafter proposed ids outside the vocabulary."""
NAMES: Final = (
    "",
    "unknown key",
    "key twice in a step",
    "tokens are no ids of the vocabulary",
    "row shorter than its sequence",
    "drafted ids outside the vocabulary",
)
"""What native faults are called; see StepFault in native/include/draftwood/sequences.h."""


class Faults:
    """Counts of faults by their kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def blame(self, kind: str, *, traceback: bool = False) -> None:
        """Count a fault, and log it the first time; traceback: of the exception being handled."""
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            log.warning("%s: it costs drafts; logged once, then counted", kind, exc_info=traceback)
