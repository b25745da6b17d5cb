"""Faults for the repair stage: one small edit to a right query that makes it wrong.

`inject` only returns an edit that SQLite refuses or that changes the rows, checked by running it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from draftwood.demo.questions import Question
from draftwood.demo.schema import Schema
from draftwood.demo.sqlite import Answer, run


@dataclass(frozen=True, slots=True)
class Fault:
    """A faulty query, what SQLite answers to it, and which edit made it."""

    sql: str
    answer: Answer
    name: str


def inject(
    rng: Random, schema: Schema, question: Question, sql: str, connection: sqlite3.Connection
) -> Fault | None:
    """Break `sql`, a right query for `question`; None if no edit tried makes a difference."""
    right = run(connection, sql)
    names = list(_EDITS)
    rng.shuffle(names)
    for name in names:
        broken = _EDITS[name](rng, schema, sql)
        if broken == sql:
            continue
        answer = run(connection, broken)
        if answer.error or not answer.same(right, ordered=question.ordered):
            return Fault(broken, answer, name)
    return None


def _columns(schema: Schema, sql: str) -> list[str]:
    """The plain columns that the query mentions."""
    names = [name for _, name in schema.pairs]
    return [name for name in names if re.search(rf"\b{name}\b", sql)]


def _misspell(rng: Random, schema: Schema, sql: str) -> str:
    """Drop a letter of a column's name."""
    found = _columns(schema, sql)
    if not found:
        return sql
    name = rng.choice(found)
    at = rng.randrange(1, len(name))
    return re.sub(rf"\b{name}\b", name[:at] + name[at + 1 :], sql)


def _singular(rng: Random, schema: Schema, sql: str) -> str:
    """Name a table in the singular."""
    table = rng.choice([t for t in schema.tables if f" {t.name}" in sql])
    return re.sub(rf"\b{table.name}\b", table.singular, sql)


def _keyword(rng: Random, schema: Schema, sql: str) -> str:
    """Misspell or lose a keyword."""
    old, new = rng.choice((("FROM", "FORM"), ("WHERE", ""), ("BY", ""), ("SELECT", "SELCT")))
    return sql.replace(f" {old} ", f" {new} ".replace("  ", " "), 1)


def _parenthesis(rng: Random, schema: Schema, sql: str) -> str:
    """Lose the last closing parenthesis."""
    head, found, tail = sql.rpartition(")")
    return head + tail if found else sql


def _unjoin(rng: Random, schema: Schema, sql: str) -> str:
    """Lose the join."""
    return re.sub(r"( LEFT)? JOIN \w+ USING \(\w+\)", "", sql, count=1)


def _other_column(rng: Random, schema: Schema, sql: str) -> str:
    """Put another column of the schema in the place of one mentioned."""
    found = _columns(schema, sql)
    others = [name for _, name in schema.pairs if name not in found]
    if not found or not others:
        return sql
    return re.sub(rf"\b{rng.choice(found)}\b", rng.choice(others), sql)


def _sign(rng: Random, schema: Schema, sql: str) -> str:
    """Turn a comparison around."""
    return sql.translate(str.maketrans("<>", "><"))


def _function(rng: Random, schema: Schema, sql: str) -> str:
    """Compute another aggregate."""
    old = re.search(r"AVG|SUM|MAX|MIN", sql)
    others = [f for f in ("AVG", "SUM", "MAX", "MIN") if old is None or f != old[0]]
    return re.sub(r"AVG|SUM|MAX|MIN", rng.choice(others), sql)


def _order(rng: Random, schema: Schema, sql: str) -> str:
    """Sort the other way."""
    turned = sql.replace(" DESC LIMIT", " LIMIT")
    return turned if turned != sql else sql.replace(" LIMIT", " DESC LIMIT")


def _unfiltered(rng: Random, schema: Schema, sql: str) -> str:
    """Lose a condition at the end."""
    return re.sub(r" WHERE \w+ [<>=] [^()]*$", "", sql)


_EDITS: Final[dict[str, Callable[[Random, Schema, str], str]]] = {
    "misspell": _misspell,
    "singular": _singular,
    "keyword": _keyword,
    "parenthesis": _parenthesis,
    "unjoin": _unjoin,
    "other column": _other_column,
    "sign": _sign,
    "function": _function,
    "order": _order,
    "unfiltered": _unfiltered,
}
