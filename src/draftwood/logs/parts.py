"""Calls whose request and answer stand in different entries, joined by their ids."""

from __future__ import annotations

import pickle
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import replace

from draftwood.errors import TraceError
from draftwood.logs.call import LoggedCall, Part
from draftwood.logs.format import Format
from draftwood.logs.rows import ROW, RowSessions


class PartStore:
    """Parts that wait for the others of their call. Many of them go to a temporary file."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # on disk as soon as its cache is full
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE part (format TEXT, key TEXT, kind TEXT, place TEXT, value BLOB)"
        )
        self._database.execute("CREATE INDEX of ON part (format, key)")
        self._rows_of: dict[str, RowSessions] = {}

    def add(self, of: Format, part: Part) -> list[LoggedCall]:
        """The calls that this part completes, none while others are missing.

        Raises:
            TraceError: the parts make no call.
        """
        if part.kind == ROW:
            message, call = part.value
            call = replace(call, place=part.place)
            return self._rows_of.setdefault(of.name, RowSessions()).add(part.key, message, call)
        value = zlib.compress(pickle.dumps(part.value), 1)
        row = (of.name, part.key, part.kind, part.place, value)
        self._database.execute("INSERT INTO part VALUES (?, ?, ?, ?, ?)", row)
        found: dict[str, list[object]] = {}
        select = "SELECT kind, value FROM part WHERE format = ? AND key = ? ORDER BY rowid"
        rows = self._rows(select, of.name, part.key)
        if len({kind for kind, _ in rows}) < 2:
            return []
        for kind, stored in rows:
            found.setdefault(kind, []).append(pickle.loads(zlib.decompress(stored)))
        try:
            calls = of.join(found)
        except TraceError:
            self._forget(of.name, part.key)
            raise
        if calls is None:
            return []
        self._forget(of.name, part.key)
        return calls

    def rest(self) -> Iterator[tuple[str, LoggedCall]]:
        """The calls that are complete as the log ends, each with its format's name."""
        for name, rows in self._rows_of.items():
            for call in rows.rest():
                yield name, call

    def left(self) -> Iterator[tuple[str, str]]:
        """Place and kind of a part of every call that was never completed."""
        query = "SELECT MIN(place), MIN(kind) FROM part GROUP BY format, key ORDER BY MIN(rowid)"
        yield from self._database.execute(query)

    def close(self) -> None:
        """Remove the temporary file."""
        self._database.close()

    def _rows(self, query: str, *values: str) -> list[tuple[str, bytes]]:
        return list(self._database.execute(query, values))

    def _forget(self, name: str, key: str) -> None:
        self._database.execute("DELETE FROM part WHERE format = ? AND key = ?", (name, key))
