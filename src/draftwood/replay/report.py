"""The table of a replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

_POSITIONS = 4
"""Draft positions that the table has room for; the JSON output holds all."""


def replay_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One line for each row of `replay --json`, in the order given."""
    table = Table(title="Replay: recorded outputs, served again", title_justify="left")
    table.add_column("trace", overflow="fold")
    table.add_column("drafter", overflow="fold")
    for name in ("tokens", "steps", "tokens\n/step", "drafted\n/step", "accepted"):
        table.add_column(name, justify="right")
    table.add_column("steps that accept\n" + " ".join(f"≥{n + 1:<3}" for n in range(_POSITIONS)))
    for name in ("draft us\np50", "draft us\np99", "observe us\n/token"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["trace"],
            row["drafter"],
            f"{row['tokens']:,}",
            f"{row['steps']:,}",
            f"[bold]{row['tokens_per_step']:.2f}[/bold]",
            f"{row['drafted_per_step']:.2f}",
            f"{row['acceptance_rate']:.1%}",
            _by_position(row),
            f"{row['draft_us_p50']:.1f}",
            f"{row['draft_us_p99']:.1f}",
            f"{row['observe_us_per_token']:.1f}",
        )
    return table


def _by_position(row: Mapping[str, Any]) -> str:
    """The share of steps that accept more than 0, 1, 2, ... drafted tokens."""
    shares = [count / row["steps"] for count in row["accepted_by_position"][:_POSITIONS]]
    return " ".join(f"{share:4.0%}" for share in shares)
