"""Questions about a database, each with its SQL: nine kinds, many phrasings.

A question names columns and tables as the schema does ("birth year" for `birth_year`), puts text
values in quotes, and sometimes uses a superlative of the column instead ("the oldest singer").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from draftwood.demo.schema import Column, Database, Table
from draftwood.demo.sqlite import literal
from draftwood.demo.words import COLUMNS


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its SQL, and what a right answer to each stage needs.

    `alternate` is a second way to write the SQL with the same rows ("" where the kind has none);
    `uses` holds the (table, column) pairs to extract; `ordered` says whether row order matters.
    """

    text: str
    kind: str
    level: str
    sql: str
    alternate: str
    uses: tuple[tuple[str, str], ...]
    ordered: bool = False

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables used, in the order of first use."""
        return tuple(dict.fromkeys(table for table, _ in self.uses))


@dataclass(frozen=True, slots=True)
class _Condition:
    words: str  # "age above 30"
    clause: str  # "age > 30"
    column: str


_MORE = ("above", "over", "greater than", "more than")
_LESS = ("below", "under", "less than")
_SHOW = ("Show the", "List the", "What are the", "Give the", "Find the", "Return the")
_AVERAGE = ("average", "mean")
_AGGREGATES: Final = {
    "AVG": _AVERAGE,
    "SUM": ("total", "sum of the"),
    "MAX": ("highest", "maximum"),
    "MIN": ("lowest", "minimum"),
}


def _and(columns: list[Column]) -> str:
    return " and ".join(column.words for column in columns)


def _names(columns: list[Column]) -> str:
    return ", ".join(column.name for column in columns)


def _projection(rng: Random, table: Table) -> list[Column]:
    """Most often the label alone, else one or two plain columns."""
    if rng.random() < 0.5:
        return [table.label]
    return rng.sample(table.plain(), rng.choice((1, 2, 2)))


def _condition(rng: Random, data: Database, table: Table, without: str = "") -> _Condition:
    """A condition that at least one row meets, on a column other than `without`."""
    columns = [c for c in table.plain() if c.name != without]
    texts = [c for c in columns if c.type == "text" and c is not table.label]
    numbers = [c for c in columns if c.type != "text"]
    column = rng.choice(rng.choice([few for few in (texts, numbers) if few]))
    values = data.values(table.name, column.name)
    if column.type == "text":
        shown = literal(rng.choice(values))
        link = rng.choice((" ", " ", " equal to "))
        return _Condition(f"{column.words}{link}{shown}", f"{column.name} = {shown}", column.name)
    sign = rng.choice("><><=")
    ordered = sorted(values)
    if sign == "=":
        value, word = rng.choice(values), "equal to"
    elif sign == ">":
        value, word = rng.choice(ordered[:-1]), rng.choice(_MORE)
    else:
        value, word = rng.choice(ordered[1:]), rng.choice(_LESS)
    shown = literal(value)
    words, clause = f"{column.words} {word} {shown}", f"{column.name} {sign} {shown}"
    return _Condition(words, clause, column.name)


def _with(rng: Random, noun: str, condition: str) -> str:
    """`noun` restricted by a condition: "singers with age above 30"."""
    return f"{noun} {rng.choice(('with', 'with', 'that have', 'having'))} {condition}"


def _uses(table: Table, *names: str) -> tuple[tuple[str, str], ...]:
    """The pairs used, in the schema's column order."""
    return tuple((table.name, c.name) for c in table.columns if c.name in names)


def _ask(rng: Random, what: str) -> str:
    """Turn a noun phrase into a request or a question."""
    start = rng.choice(_SHOW)
    return f"{start} {what}{'?' if start.startswith('What') else '.'}"


def _list(rng: Random, data: Database, table: Table) -> Question:
    columns = _projection(rng, table)
    distinct = len(columns) == 1 and rng.random() < 0.3
    of = rng.choice(("of all", "of the", "of every one of the"))
    word = rng.choice(("different ", "distinct ")) if distinct else ""
    sql = f"SELECT {'DISTINCT ' if distinct else ''}{_names(columns)} FROM {table.name}"
    text = _ask(rng, f"{word}{_and(columns)} {of} {table.name}")
    return Question(text, "list", "easy", sql, "", _uses(table, *(c.name for c in columns)))


def _filter(rng: Random, data: Database, table: Table) -> Question:
    columns = _projection(rng, table)
    first = _condition(rng, data, table)
    names = [c.name for c in columns]
    start = f"SELECT {_names(columns)} FROM {table.name} WHERE"
    if rng.random() < 0.6:
        text = _ask(rng, f"{_and(columns)} of {_with(rng, table.name, first.words)}")
        used = _uses(table, first.column, *names)
        return Question(text, "filter", "easy", f"{start} {first.clause}", "", used)
    second = _condition(rng, data, table, without=first.column)
    link = rng.choice(("and", "and", "or"))
    both = _with(rng, table.name, f"{first.words} {link} {second.words}")
    sql = f"{start} {first.clause} {link.upper()} {second.clause}"
    used = _uses(table, first.column, second.column, *names)
    return Question(_ask(rng, f"{_and(columns)} of {both}"), "filter", "medium", sql, "", used)


def _count(rng: Random, data: Database, table: Table) -> Question:
    text, sql, used = table.name, f"SELECT COUNT(*) FROM {table.name}", _uses(table, table.key)
    if rng.random() < 0.8:
        condition = _condition(rng, data, table)
        text = _with(rng, table.name, condition.words)
        sql += f" WHERE {condition.clause}"
        used = _uses(table, condition.column)
    start = rng.choice(("How many {} are there?", "Count the {}.", "What is the number of {}?"))
    return Question(start.format(text), "count", "easy", sql, "", used)


def _aggregate(rng: Random, data: Database, table: Table) -> Question:
    function = rng.choice(sorted(_AGGREGATES))
    column = rng.choice(table.plain("int", "real"))
    sql = f"SELECT {function}({column.name}) FROM {table.name}"
    noun, used = f"{rng.choice(('all ', ''))}{table.name}", _uses(table, column.name)
    if rng.random() < 0.5:
        condition = _condition(rng, data, table, without=column.name)
        noun = _with(rng, table.name, condition.words)
        sql += f" WHERE {condition.clause}"
        used = _uses(table, column.name, condition.column)
    word = rng.choice(_AGGREGATES[function])
    start = rng.choice(("What is", "Find", "Give", "Compute"))
    text = f"{start} the {word} {column.words} of {noun}{'?' if start == 'What is' else '.'}"
    return Question(text, "aggregate", "easy", sql, "", used)


def _group(rng: Random, data: Database, table: Table) -> Question:
    by = rng.choice([c for c in table.plain("text") if c is not table.label])
    end = f"FROM {table.name} GROUP BY {by.name}"
    each = rng.choice(("for each", "per", "by"))
    roll = rng.random()
    if roll < 0.4:
        text = rng.choice(
            (f"How many {table.name} are there {each} {by.words}?",
             f"Count the {table.name} {each} {by.words}.",
             f"Show each {by.words} with the number of {table.name}.")
        )  # fmt: skip
        sql, used = f"SELECT {by.name}, COUNT(*) {end}", _uses(table, by.name)
    elif roll < 0.8:
        column = rng.choice(table.plain("int", "real"))
        function = rng.choice(sorted(_AGGREGATES))
        word = rng.choice(_AGGREGATES[function])
        text = _ask(rng, f"{word} {column.words} of the {table.name} {each} {by.words}")
        sql = f"SELECT {by.name}, {function}({column.name}) {end}"
        used = _uses(table, by.name, column.name)
    else:
        least = rng.choice((1, 2, 3))
        text = _ask(rng, f"{by.words} shared by more than {least} {table.name}")
        sql = f"SELECT {by.name} {end} HAVING COUNT(*) > {least}"
        used = _uses(table, by.name)
    return Question(text, "group", "medium", sql, "", used)


def _top(rng: Random, data: Database, table: Table) -> Question:
    by = rng.choice(table.plain("int", "real"))
    columns = [table.label] if rng.random() < 0.7 else _projection(rng, table)
    down = rng.random() < 0.6
    count = rng.choice((1, 1, 2, 3, 4, 5))
    speaks = COLUMNS[by.name].highest if down else COLUMNS[by.name].lowest
    number = "" if count == 1 else f"{count} "
    noun = table.singular if count == 1 else table.name
    if speaks and rng.random() < 0.4:
        what = f"{_and(columns)} of the {number}{speaks} {noun}"
    else:
        most = rng.choice(("highest", "largest") if down else ("lowest", "smallest"))
        what = f"{_and(columns)} of the {number}{noun} with the {most} {by.words}"
    sql = f"SELECT {_names(columns)} FROM {table.name} ORDER BY {by.name}"
    sql += f"{' DESC' if down else ''} LIMIT {count}"
    used = _uses(table, by.name, *(c.name for c in columns))
    return Question(_ask(rng, what), "top", "medium", sql, "", used, ordered=True)


def _nested(rng: Random, data: Database, table: Table) -> Question:
    by = rng.choice(table.plain("int", "real"))
    columns = _projection(rng, table)
    start = f"SELECT {_names(columns)} FROM {table.name}"
    used = _uses(table, by.name, *(c.name for c in columns))
    if rng.random() < 0.6:
        up = rng.random() < 0.6
        word = rng.choice(_MORE if up else _LESS)
        tail = f"{by.words} {word} the {rng.choice(_AVERAGE)}"
        text = _ask(rng, f"{_and(columns)} of {_with(rng, table.name, tail)}")
        sign = ">" if up else "<"
        sql = f"{start} WHERE {by.name} {sign} (SELECT AVG({by.name}) FROM {table.name})"
        other = f"{start}, (SELECT AVG({by.name}) AS mean FROM {table.name})"
        return Question(text, "nested", "hard", sql, f"{other} WHERE {by.name} {sign} mean", used)
    function, word, end = rng.choice((("MAX", "maximum", " DESC"), ("MIN", "minimum", "")))
    tail = f"{by.words} equal to the {word}"
    text = _ask(rng, f"{_and(columns)} of {_with(rng, table.name, tail)}")
    sql = f"{start} WHERE {by.name} = (SELECT {function}({by.name}) FROM {table.name})"
    return Question(text, "nested", "hard", sql, f"{start} ORDER BY {by.name}{end} LIMIT 1", used)


def _family(rng: Random, data: Database) -> tuple[Table, Table]:
    """A table with a foreign key, and the table that the key points to."""
    child = rng.choice([table for table in data.schema.tables if table.parent])
    return child, data.schema[child.parent]


def _join(rng: Random, data: Database, _: Table) -> Question:
    child, parent = _family(rng, data)
    key = parent.key
    joined = f"FROM {child.name} JOIN {parent.name} USING ({key})"
    if rng.random() < 0.3:
        label = parent.label
        text = rng.choice(
            (f"How many {child.name} does each {label.words} of the {parent.name} have?",
             f"Count the {child.name} for each {label.words} of the {parent.name}.",
             f"Show each {label.words} of the {parent.name} with its number of {child.name}.")
        )  # fmt: skip
        sql = f"SELECT {label.name}, COUNT(*) {joined} GROUP BY {label.name}"
        nested = f"(SELECT {key}, COUNT(*) AS n FROM {child.name} GROUP BY {key})"
        other = f"SELECT {label.name}, n FROM {nested} JOIN {parent.name} USING ({key})"
        used = _uses(child, key) + _uses(parent, key, label.name)
        return Question(text, "join", "hard", sql, other, used)
    columns = _projection(rng, child)
    condition = _condition(rng, data, parent)
    of = rng.choice(("of", "that belong to", "belonging to"))
    whole = f"{child.name} {of} {_with(rng, parent.name, condition.words)}"
    inner = f"(SELECT {key} FROM {parent.name} WHERE {condition.clause})"
    if rng.random() < 0.25:
        what, text = "COUNT(*)", rng.choice(("How many {}?", "Count the {}.")).format(whole)
        used = _uses(child, key) + _uses(parent, key, condition.column)
    else:
        what, text = _names(columns), _ask(rng, f"{_and(columns)} of {whole}")
        used = _uses(child, key, *(c.name for c in columns))
        used += _uses(parent, key, condition.column)
    sql = f"SELECT {what} {joined} WHERE {condition.clause}"
    other = f"SELECT {what} FROM {child.name} WHERE {key} IN {inner}"
    return Question(text, "join", "hard", sql, other, used)


def _missing(rng: Random, data: Database, _: Table) -> Question:
    child, parent = _family(rng, data)
    columns = _projection(rng, parent)
    without = rng.choice(("without", "that have no", "with no"))
    text = _ask(rng, f"{_and(columns)} of {parent.name} {without} {child.name}")
    start, key = f"SELECT {_names(columns)} FROM {parent.name}", parent.key
    sql = f"{start} WHERE {key} NOT IN (SELECT {key} FROM {child.name})"
    other = f"{start} LEFT JOIN {child.name} USING ({key}) WHERE {child.key} IS NULL"
    used = _uses(parent, key, *(c.name for c in columns)) + _uses(child, child.key, key)
    return Question(text, "missing", "hard", sql, other, used)


KINDS: Final[dict[str, Callable[[Random, Database, Table], Question]]] = {
    "list": _list,
    "filter": _filter,
    "count": _count,
    "aggregate": _aggregate,
    "group": _group,
    "top": _top,
    "nested": _nested,
    "join": _join,
    "missing": _missing,
}
_WEIGHTS: Final = (2, 5, 4, 4, 4, 4, 3, 5, 2)


def make_question(rng: Random, data: Database, kind: str | None = None) -> Question:
    """Draw a question about the database, of the given kind or of any."""
    chosen = kind or rng.choices(list(KINDS), _WEIGHTS)[0]
    return KINDS[chosen](rng, data, rng.choice(data.schema.tables))
