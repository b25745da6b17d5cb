"""The table of the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table


def demo_table(rows: Sequence[Mapping[str, Any]], *, requests: int, threads: int) -> Table:
    """One line for each row of `demo --json`, plain decoding first."""
    plain = rows[0]
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"Text-to-SQL agents: {requests} requests, {plain['calls']} calls of the model, "
        f"{plain['tokens']:,} tokens; CPU, {threads} thread{'s' if threads > 1 else ''}",
        title_justify="left",
    )
    table.add_column("drafter", overflow="fold")
    heads = ("tokens\n/second", "speed-up", "tokens\n/step", "drafted\n/step", "accepted")
    for head in (*heads, "equal\ntext"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["drafter"],
            f"{row['tokens_per_second']:.0f}",
            f"[bold]{row['speedup']:.2f}x[/bold]",
            f"{row['tokens_per_step']:.2f}",
            f"{row['drafted_per_step']:.2f}",
            f"{row['acceptance_rate']:.0%}" if row["drafted_per_step"] else "",
            _share(row["equal_outputs"]),
        )
    return table


def _share(equal: float) -> str:
    """100 % only where all texts are equal, however many there are."""
    return "100%" if equal == 1 else f"[red]{min(equal, 0.9999):.2%}[/red]"
