"""The table of a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

Row = Mapping[str, Any]

WIDE = 120
"""Terminal columns from which the table shows everything."""
_NARROW = 80
_POSITIONS = 4
"""Draft positions that the table has room for; the JSON output holds all."""


def _by_position(row: Row) -> str:
    """The share of steps that accept more than 0, 1, 2, ... drafted tokens."""
    shares = [count / row["steps"] for count in row["accepted_by_position"][:_POSITIONS]]
    return " ".join(f"{share:4.0%}" for share in shares)


_HEAD = "steps that accept\n" + " ".join(f"≥{place + 1}".rjust(4) for place in range(_POSITIONS))

_PRICED = "predicted\nspeed-up"
"""The column that only a replay with a cost has."""

_COLUMNS: list[tuple[str, Callable[[Row], str], int]] = [
    ("tokens", lambda row: f"{row['tokens']:,}", WIDE),
    ("steps", lambda row: f"{row['steps']:,}", WIDE),
    ("tokens\n/step", lambda row: f"[bold]{row['tokens_per_step']:.2f}[/bold]", 0),
    ("drafted\n/step", lambda row: f"{row['drafted_per_step']:.2f}", _NARROW),
    (_PRICED, lambda row: f"{row['predicted_speedup']:.2f}x", 0),
    ("accepted", lambda row: f"{row['acceptance_rate']:.1%}", 0),
    (_HEAD, _by_position, WIDE),
    ("draft us\np50", lambda row: f"{row['draft_us_p50']:.1f}", _NARROW),
    ("draft us\np99", lambda row: f"{row['draft_us_p99']:.1f}", _NARROW),
    ("observe us\n/token", lambda row: f"{row['observe_us_per_token']:.1f}", WIDE),
]
"""Heading, cell, and the terminal columns from which there is room for it."""


def replay_table(rows: Iterable[Row], *, width: int = WIDE) -> Table:
    """The rows of `replay --json`, a block for each trace and a line for each drafter.

    width: terminal columns; below `WIDE` the less important figures are left out.
    """
    rows = list(rows)
    priced = any("predicted_speedup" in row for row in rows)
    columns = [
        (head, cell)
        for head, cell, needs in _COLUMNS
        if width >= needs and (head != _PRICED or priced)
    ]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("trace, drafter", overflow="fold", min_width=14)
    for head, _ in columns:
        table.add_column(head, justify="left" if head == _HEAD else "right", no_wrap=True)
    for trace, block in groupby(rows, key=lambda row: row["trace"]):
        table.add_row(f"[bold]{escape(trace)}[/bold]")
        for row in block:
            table.add_row(f"  {escape(row['drafter'])}", *(cell(row) for _, cell in columns))
    return table
