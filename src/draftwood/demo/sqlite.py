"""Run the SQL of the demo's world and say, in one short line, what SQLite answered."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from draftwood.demo.schema import Value

STEPS_LIMIT = 2_000_000  # SQLite virtual-machine steps before a query is given up
SHOWN_ROWS = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave: rows, or an error message (then there are no rows)."""

    rows: tuple[tuple[Value | None, ...], ...]
    error: str = ""

    @property
    def line(self) -> str:
        """The answer as the prompts show it: the error, or the first rows."""
        if self.error:
            return f"error: {self.error}"
        if not self.rows:
            return "no rows"
        shown = "; ".join(", ".join(map(literal, row[:3])) for row in self.rows[:SHOWN_ROWS])
        return shown + (" ..." if len(self.rows) > SHOWN_ROWS else "")

    def same(self, other: Answer, *, ordered: bool = False) -> bool:
        """Whether two answers hold the same rows (as a multiset unless `ordered`)."""
        if self.error or other.error:
            return False
        mine, theirs = list(map(_rounded, self.rows)), list(map(_rounded, other.rows))
        return mine == theirs if ordered else sorted(mine) == sorted(theirs)


def literal(value: Value | None) -> str:
    """A value as SQL writes it, real numbers to two digits."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"'{value}'" if isinstance(value, str) else str(value)


def run(connection: sqlite3.Connection, sql: str) -> Answer:
    """Execute one SELECT; every failure, a runaway query included, becomes `Answer.error`."""
    connection.set_progress_handler(lambda: 1, STEPS_LIMIT)
    try:
        rows = connection.execute(sql).fetchmany(10_000)
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return Answer((), str(error) or type(error).__name__)
    return Answer(tuple(rows))


def _rounded(row: tuple[Value | None, ...]) -> tuple[str, ...]:
    return tuple(literal(value) for value in row)
