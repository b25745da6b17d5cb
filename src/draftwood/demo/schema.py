"""Schemas of the demo's world: tables, typed columns, foreign keys, rows, and the held-out split.

The split is a property of a schema, not of a list: a hash marks one (table, column) pair in eight
as held out. A training schema never contains a marked pair; a held-out schema contains one or
more. No schema, and no table as the model sees it, can therefore be in both.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from random import Random
from typing import Literal

from draftwood.demo.words import COLUMNS, DOMAINS, KINDS, LABELS, ColumnType, Entity, Numbers

Split = Literal["train", "held-out"]
Value = int | float | str

HELD_OUT_SHARE = 8  # one pair in so many


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `key` is "primary", "foreign" or "" (plain)."""

    name: str
    type: ColumnType
    key: str = ""

    @property
    def words(self) -> str:
        """The column's name as questions write it: "birth year"."""
        return self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Table:
    """A table named by a plural; `parent` is the table that its foreign key points to."""

    name: str
    singular: str
    columns: tuple[Column, ...]
    parent: str = ""

    @property
    def key(self) -> str:
        """The primary key's name."""
        return f"{self.singular}_id"

    @property
    def label(self) -> Column:
        """The text column that tells the rows apart for a reader."""
        return next(column for column in self.columns if column.name in LABELS)

    def plain(self, *types: ColumnType) -> list[Column]:
        """The columns that are no keys, of the given types (all types if none is given)."""
        return [c for c in self.columns if not c.key and (not types or c.type in types)]

    def line(self, names: frozenset[str] | None = None) -> str:
        """The table as the prompts show it, only the columns in `names` if given."""
        shown = [c for c in self.columns if names is None or c.name in names]
        return f"table {self.name}: " + ", ".join(f"{c.name} {c.type}" for c in shown)


@dataclass(frozen=True, slots=True)
class Schema:
    """A database's shape. Plain column names are unique within a schema."""

    domain: str
    tables: tuple[Table, ...]

    def __getitem__(self, table: str) -> Table:
        return next(t for t in self.tables if t.name == table)

    @property
    def text(self) -> str:
        """The schema as the prompts show it."""
        return f"database {self.domain}\n" + "\n".join(table.line() for table in self.tables)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All (table, plain column) pairs."""
        return [(table.name, column.name) for table in self.tables for column in table.plain()]


def is_held_out(table: str, column: str) -> bool:
    """Whether no training schema may give this column to this table."""
    digest = hashlib.sha256(f"{table}.{column}".encode()).digest()
    return digest[0] % HELD_OUT_SHARE == 0


def split_of(schema: Schema) -> Split:
    """The split that the schema belongs to, computed from the schema alone."""
    return "held-out" if any(is_held_out(*pair) for pair in schema.pairs) else "train"


def make_schema(rng: Random, split: Split) -> Schema:
    """Draw a schema of the given split."""
    while True:
        schema = _draw(rng, split)
        if schema is not None and split_of(schema) == split:
            return schema


def _draw(rng: Random, split: Split) -> Schema | None:
    domain = rng.choice(sorted(DOMAINS))
    entities = rng.sample(DOMAINS[domain], rng.choice((2, 2, 3)))
    used: set[str] = set()
    tables: list[Table] = []
    for entity in entities:
        allowed = [c for c in KINDS[entity.kind] if c not in used]
        if split == "train":
            allowed = [c for c in allowed if not is_held_out(entity.plural, c)]
        chosen = _columns(rng, allowed)
        if chosen is None:
            return None
        used.update(chosen)
        parent = rng.choice(tables) if tables else None
        tables.append(_table(rng, entity, chosen, parent))
    rng.shuffle(tables)
    return Schema(domain, tuple(tables))


def _columns(rng: Random, allowed: list[str]) -> list[str] | None:
    """A label, a text column, a number and perhaps one or two more; None if they run out."""
    labels = [c for c in allowed if c in LABELS]
    texts = [c for c in allowed if c not in LABELS and COLUMNS[c].type == "text"]
    numbers = [c for c in allowed if COLUMNS[c].type != "text"]
    if not labels or not texts or not numbers:
        return None
    chosen = [rng.choice(labels), rng.choice(texts), rng.choice(numbers)]
    rest = [c for c in texts + numbers if c not in chosen]
    chosen += rng.sample(rest, min(len(rest), rng.choice((0, 1, 1, 2))))
    rng.shuffle(chosen)
    return chosen


def _table(rng: Random, entity: Entity, names: list[str], parent: Table | None) -> Table:
    columns = [Column(f"{entity.singular}_id", "int", "primary")]
    columns += [Column(name, COLUMNS[name].type) for name in names]
    if parent is not None:
        columns.insert(rng.choice((1, len(columns))), Column(parent.key, "int", "foreign"))
    return Table(entity.plural, entity.singular, tuple(columns), parent.name if parent else "")


@dataclass(frozen=True, slots=True)
class Database:
    """A schema with rows; `rows[table]` is a list of tuples in the order of the columns."""

    schema: Schema
    rows: dict[str, list[tuple[Value, ...]]]

    def values(self, table: str, column: str) -> list[Value]:
        """The values of one column, in the order of the rows."""
        at = [c.name for c in self.schema[table].columns].index(column)
        return [row[at] for row in self.rows[table]]

    def connect(self) -> sqlite3.Connection:
        """An in-memory SQLite database with these rows, read-only."""
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        for table in self.schema.tables:
            body = ", ".join(f"{c.name} {c.type.upper()}" for c in table.columns)
            connection.execute(f"CREATE TABLE {table.name} ({body})")
            insert = f"INSERT INTO {table.name} VALUES ({', '.join('?' * len(table.columns))})"
            connection.executemany(insert, self.rows[table.name])
        connection.commit()
        connection.execute("PRAGMA query_only = ON")
        return connection


def make_database(rng: Random, schema: Schema, *, rows: int = 10) -> Database:
    """Fill a schema. Some parents get no children, so that questions about those have answers."""
    filled: dict[str, list[tuple[Value, ...]]] = {}
    for table in schema.tables:
        columns: list[list[Value]] = []
        for column in table.columns:
            if column.key == "primary":
                columns.append(list(range(1, rows + 1)))
            elif column.key == "foreign":
                columns.append([rng.randint(1, max(2, rows * 2 // 3)) for _ in range(rows)])
            else:
                columns.append(_values(rng, column.name, rows))
        filled[table.name] = list(zip(*columns, strict=True))
    return Database(schema, filled)


def _values(rng: Random, column: str, rows: int) -> list[Value]:
    """Values of one column: numbers and labels distinct while they last, other text repeating."""
    values = COLUMNS[column].values
    pool: list[Value]
    if isinstance(values, Numbers):
        count = round((values.high - values.low) / values.step) + 1
        steps = [values.low + i * values.step for i in range(count)]
        pool = [x if isinstance(values.low, float) else int(x) for x in steps]
    elif column in LABELS:
        pool = list(values)
    else:
        few = rng.sample(values, min(len(values), 4))
        return [rng.choice(few) for _ in range(rows)]
    return rng.sample(pool, rows) if rows <= len(pool) else rng.choices(pool, k=rows)
