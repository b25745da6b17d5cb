"""After a crash: what a Recall file has and its ledger has not is taken out, and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from draftwood.index.recall import Recall
from draftwood.share.ledger import TextLedger

_SEQUENCES: Final = 144
"""Where the header has the number that was given out last (docs/recall-format.md)."""


def sequences_in(path: Path) -> int:
    """The number that a Recall file gave out last.

    Raises:
        OSError: a file that cannot be read.
    """
    with path.open("rb") as file:
        file.seek(_SEQUENCES)
        return int.from_bytes(file.read(8), "little")


def ledger_of(path: Path) -> TextLedger:
    """The ledger beside a Recall file; a new one where the file is new.

    Raises:
        HistoryError, OSError: a ledger that cannot be used.
    """
    beside = Path(f"{path}.share")
    if sequences_in(path) == 0:  # of a file that was here before
        for name in (beside.name, f"{beside.name}-wal", f"{beside.name}-shm"):
            beside.with_name(name).unlink(missing_ok=True)
    return TextLedger(beside)


def settle(ledger: TextLedger, recall: Recall, path: Path) -> int:
    """Remove the sequences that came after the ledger's last entry; returns how many.

    A process that was killed between Recall and ledger leaves such sequences: they will come again,
    and nobody could remove them by their ids. A new ledger takes what stands there as it is.
    """
    last = sequences_in(path)
    orphans = 0 if ledger.new else last - ledger.newest
    for number in range(last - orphans + 1, last + 1):
        recall.remove(number)
    ledger.set_newest(last)
    return max(0, orphans)
