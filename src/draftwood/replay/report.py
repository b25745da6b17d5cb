"""The table of a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

Row = Mapping[str, Any]

_POSITIONS = 4
"""Draft positions that the table has room for; the JSON output holds all."""


def _by_position(row: Row) -> str:
    """The share of steps that accept more than 0, 1, 2, ... drafted tokens."""
    shares = [count / row["steps"] for count in row["accepted_by_position"][:_POSITIONS]]
    return " ".join(f"{share:4.0%}" for share in shares)


_HEAD = "steps that accept\n" + " ".join(f"≥{place + 1}".rjust(4) for place in range(_POSITIONS))

_PRICED = "predicted\nspeed-up"
"""The column that only a replay with a cost has."""

_COLUMNS: list[tuple[str, Callable[[Row], str], bool]] = [
    ("tokens", lambda row: f"{row['tokens']:,}", True),
    ("steps", lambda row: f"{row['steps']:,}", True),
    ("tokens\n/step", lambda row: f"[bold]{row['tokens_per_step']:.2f}[/bold]", False),
    ("drafted\n/step", lambda row: f"{row['drafted_per_step']:.2f}", False),
    (_PRICED, lambda row: f"{row['predicted_speedup']:.2f}x", False),
    ("accepted", lambda row: f"{row['acceptance_rate']:.1%}", False),
    (_HEAD, _by_position, True),
    ("draft us\np50", lambda row: f"{row['draft_us_p50']:.1f}", False),
    ("draft us\np99", lambda row: f"{row['draft_us_p99']:.1f}", False),
    ("observe us\n/token", lambda row: f"{row['observe_us_per_token']:.1f}", True),
]
"""Heading, cell, and whether only a wide terminal has room for it."""

WIDE = 120
"""Terminal columns from which the table shows everything."""


def replay_table(rows: Iterable[Row], *, width: int = WIDE) -> Table:
    """The rows of `replay --json`, a block for each trace and a line for each drafter.

    width: terminal columns; below `WIDE` the less important figures are left out.
    """
    rows = list(rows)
    priced = any("predicted_speedup" in row for row in rows)
    columns = [
        (head, cell)
        for head, cell, wide in _COLUMNS
        if (not wide or width >= WIDE) and (head != _PRICED or priced)
    ]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("trace, drafter", overflow="fold")
    for head, _ in columns:
        table.add_column(head, justify="left" if head == _HEAD else "right", no_wrap=True)
    for trace, block in groupby(rows, key=lambda row: row["trace"]):
        table.add_row(f"[bold]{escape(trace)}[/bold]")
        for row in block:
            table.add_row(f"  {escape(row['drafter'])}", *(cell(row) for _, cell in columns))
    return table
