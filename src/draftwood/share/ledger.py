"""What a follower must remember of what it has read: how far, and what stands where in Recall.

It is SQLite: beside the Recall file, or in memory. A message is in the ledger whole or not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from draftwood.errors import HistoryError
from draftwood.share.log import BEGINNING

SCHEMA: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS texts (
    digest BLOB PRIMARY KEY, sequence BLOB, namespace BLOB, number INTEGER, written INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_sequence ON texts (sequence);
CREATE INDEX IF NOT EXISTS by_number ON texts (number);
CREATE INDEX IF NOT EXISTS by_written ON texts (written);
CREATE TABLE IF NOT EXISTS forgotten (
    target BLOB PRIMARY KEY, placed INTEGER
) WITHOUT ROWID;
"""
_FORGOTTEN_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A text that stands in Recall. number: its own there; written: slots written before it."""

    digest: bytes
    sequence: bytes
    namespace: bytes
    number: int
    written: int


class TextLedger:
    """The ledger of one follower. Used by one thread at a time.

    path: None: in memory.

    Raises:
        HistoryError: a file that is no ledger, or of a later release.
        OSError: a file that cannot be made.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.new = path is None or not path.exists()
        try:
            self._base = sqlite3.connect(
                ":memory:" if path is None else path, check_same_thread=False, isolation_level=None
            )
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.executescript(_TABLES)
            found = self._fact("schema", SCHEMA)
        except sqlite3.Error as error:
            raise HistoryError(
                f"{path} cannot be used as a ledger ({error}); remove it and the history beside it"
            ) from None
        if found != SCHEMA:
            raise HistoryError(
                f"{path} has schema {found}, and {SCHEMA} is known here; update, or use another "
                "folder"
            )
        self.position = str(self._fact("position", BEGINNING))
        self.newest = int(self._fact("newest", 0))

    @property
    def texts(self) -> int:
        """Texts that stand in Recall, as far as is known."""
        return int(self._base.execute("SELECT count(*) FROM texts").fetchone()[0])

    def has(self, digest: bytes) -> bool:
        """Whether a record was taken before."""
        row = self._base.execute("SELECT 1 FROM texts WHERE digest = ?", (digest,)).fetchone()
        return row is not None

    def is_forgotten(self, sequence: bytes) -> bool:
        """Whether a tombstone names this sequence."""
        found = self._base.execute("SELECT 1 FROM forgotten WHERE target = ?", (sequence,))
        return found.fetchone() is not None

    def numbers(self, sequence: bytes) -> list[int]:
        """The numbers in Recall of a sequence's parts."""
        rows = self._base.execute("SELECT number FROM texts WHERE sequence = ?", (sequence,))
        return [int(number) for (number,) in rows if number]

    def commit(
        self,
        position: str,
        entries: Iterable[LedgerEntry] = (),
        *,
        forgotten: Iterable[bytes] = (),
        dropped: Iterable[bytes] = (),
        newest: int | None = None,
    ) -> None:
        """Enter what a message brought, and that it was read.

        forgotten: sequences that tombstones name. dropped: namespaces whose texts are gone.
        newest: the number that Recall gave out last.

        Raises:
            sqlite3.Error: a full disk, for one; nothing is entered then.
        """
        base = self._base
        base.execute("BEGIN IMMEDIATE")
        try:
            base.executemany(
                "INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?, ?)",
                [(e.digest, e.sequence, e.namespace, e.number, e.written) for e in entries],
            )
            for target in forgotten:
                base.execute("DELETE FROM texts WHERE sequence = ?", (target,))
                placed = base.execute("SELECT coalesce(max(placed), 0) + 1 FROM forgotten")
                base.execute(
                    "INSERT OR REPLACE INTO forgotten VALUES (?, ?)",
                    (target, placed.fetchone()[0]),
                )
            base.executemany("DELETE FROM texts WHERE namespace = ?", [(each,) for each in dropped])
            base.execute(
                "DELETE FROM forgotten WHERE placed <= (SELECT max(placed) FROM forgotten) - ?",
                (_FORGOTTEN_MOST,),
            )
            base.execute("INSERT OR REPLACE INTO facts VALUES ('position', ?)", (position,))
            if newest is not None:
                base.execute("INSERT OR REPLACE INTO facts VALUES ('newest', ?)", (newest,))
            base.execute("COMMIT")
        except BaseException:
            if base.in_transaction:
                base.execute("ROLLBACK")
            raise
        self.position = position
        if newest is not None:
            self.newest = newest

    def prune(self, before: int) -> None:
        """Leave out texts that the ring has overwritten. before: slots written when they began."""
        self._base.execute("DELETE FROM texts WHERE written < ?", (before,))

    def set_newest(self, number: int) -> None:
        """Say which number Recall gave out last, where that is known to be settled."""
        self._base.execute("INSERT OR REPLACE INTO facts VALUES ('newest', ?)", (number,))
        self.newest = number

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._base.close()

    def _fact(self, name: str, default: str | int) -> str | int:
        found = self._base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        if found is not None:
            return found[0]  # type: ignore[no-any-return]
        self._base.execute("INSERT INTO facts VALUES (?, ?)", (name, default))
        return default
