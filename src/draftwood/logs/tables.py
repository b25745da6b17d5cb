"""Rows of parquet and arrow files (pyarrow), SQLite and DuckDB databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from draftwood.errors import DraftwoodError, InvalidOption, MissingExtra, TraceError
from draftwood.logs.documents import Located

_ROWS = 256


def table_kind(path: Path, magic: bytes) -> str | None:
    """parquet, arrow, sqlite or duckdb from a file's first bytes; None: another one."""
    if magic.startswith(b"PAR1"):
        return "parquet"
    if magic.startswith((b"ARROW1", b"FEA1")) or path.suffix == ".arrow":
        return "arrow"
    if magic.startswith(b"SQLite format 3"):
        return "sqlite"
    return "duckdb" if magic[8:12] == b"DUCK" else None


def table_rows(
    path: Path, kind: str, query: str | None, wanted: Callable[[dict[str, Any]], bool]
) -> Iterator[Located]:
    """The rows of a table file as entries.

    query: SQL for a database; without one, the first table with a row that is `wanted`.

    Raises:
        TraceError: the file or the query cannot be read, or no table holds calls.
        MissingExtra: the package for it is not installed.
        InvalidOption: a query for a file that is no database.
    """
    if kind in ("sqlite", "duckdb"):
        yield from _database(path, kind, query, wanted)
    elif query is not None:
        raise InvalidOption(f"--query is for SQLite and DuckDB files, and {path} is {kind}")
    else:
        yield from _arrow(path, kind)


def _arrow(path: Path, kind: str) -> Iterator[Located]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra(f"{path} needs the pyarrow package; install draftwood[logs]") from None
    number = 0
    try:
        if kind == "parquet":
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_ROWS):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
            return
        with pa.memory_map(str(path)) as source:
            try:
                batches: Any = pa.ipc.open_stream(source)
                found: Any = iter(batches)
            except pa.ArrowInvalid:
                reader = pa.ipc.open_file(source)
                found = (reader.get_batch(at) for at in range(reader.num_record_batches))
            for batch in found:
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowException as error:
        yield number + 1, TraceError(f"{path} is no {kind} file from here on ({error})")


def _database(
    path: Path, kind: str, query: str | None, wanted: Callable[[dict[str, Any]], bool]
) -> Iterator[Located]:
    run, failed = _sqlite(path) if kind == "sqlite" else _duckdb(path)
    try:
        if query is None:
            query = _table_of_calls(run, kind, path, wanted)
        yield from enumerate(run(query), 1)
    except failed as error:
        raise TraceError(f"{path}: the query fails ({error}); check --query") from None


Rows = Callable[[str], Iterator[dict[str, Any]]]


def _sqlite(path: Path) -> tuple[Rows, type[Exception]]:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row

    def run(query: str) -> Iterator[dict[str, Any]]:
        for row in connection.execute(query):
            yield {key: row[key] for key in row.keys() if row[key] is not None}  # noqa: SIM118

    return run, sqlite3.Error


def _duckdb(path: Path) -> tuple[Rows, type[Exception]]:
    try:
        import duckdb
    except ImportError:
        raise MissingExtra(f"{path} needs the duckdb package; install draftwood[logs]") from None
    connection = duckdb.connect(str(path), read_only=True)

    def run(query: str) -> Iterator[dict[str, Any]]:
        cursor = connection.cursor().execute(query)
        names = [column[0] for column in cursor.description or ()]
        while rows := cursor.fetchmany(_ROWS):
            for row in rows:
                yield {k: v for k, v in zip(names, row, strict=True) if v is not None}

    return run, duckdb.Error


def _table_of_calls(
    run: Rows, kind: str, path: Path, wanted: Callable[[dict[str, Any]], bool]
) -> str:
    """A query for the first table whose first rows hold a call."""
    listed = (
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        if kind == "sqlite"
        else "SELECT table_name AS name FROM information_schema.tables"
    )
    names = [str(row["name"]) for row in run(listed)]
    for name in names:
        quoted = name.replace('"', '""')
        query = f'SELECT * FROM "{quoted}"'
        for row in run(f"{query} LIMIT 3"):
            try:
                found = wanted(row)
            except DraftwoodError:
                found = False
            if found:
                return query
    raise TraceError(
        f"{path} has no table of calls (tables: {', '.join(names) or 'none'}); give --query "
        '"SELECT ... AS prompt, ... AS response FROM ..."'
    )
