"""The table of the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def demo_table(rows: Sequence[Mapping[str, Any]], *, requests: int, threads: int) -> Table:
    """One line for each row of `demo --json`, plain decoding first."""
    plain = rows[0]
    table = Table(
        title=f"Text-to-SQL agents: {requests} requests, {plain['calls']} calls of the model, "
        f"{plain['tokens']:,} tokens; CPU, {threads} thread{'s' if threads > 1 else ''}",
        title_justify="left",
    )
    table.add_column("drafter", overflow="fold")
    for name in ("tokens/s", "speed-up", "tokens/step", "drafted/step", "accepted", "equal text"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["drafter"],
            f"{row['tokens_per_second']:.0f}",
            f"[bold]{row['speedup']:.2f}x[/bold]",
            f"{row['tokens_per_step']:.2f}",
            f"{row['drafted_per_step']:.2f}",
            f"{row['acceptance_rate']:.0%}" if row["drafted_per_step"] else "",
            f"{row['equal_outputs']:.0%}",
        )
    return table
