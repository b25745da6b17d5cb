"""The picture of the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from draftwood.replay.chart import COLORS, PLAIN, blank, save


def plot_demo(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Tokens a second of each row of `demo --json`, with speed-up and tokens per step.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidOption: `path` cannot be written, or its ending names no picture format.
    """
    figure, axes = blank(9.0, 1.3 + 0.5 * len(rows))
    bars = axes.barh(
        range(len(rows)),
        [row["tokens_per_second"] for row in rows],
        height=0.7,
        color=[PLAIN if row["drafter"] == "plain" else COLORS[0] for row in rows],
    )
    axes.bar_label(
        bars,
        [f"{row['speedup']:.2f}x, {row['tokens_per_step']:.2f} tokens a step" for row in rows],
        padding=4,
    )
    axes.set_yticks(range(len(rows)), [row["drafter"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6 * max(row["tokens_per_second"] for row in rows))
    axes.set_xlabel("tokens a second, agentic text-to-SQL, one request at a time")
    axes.set_title("The same text in fewer steps", loc="left")
    axes.grid(axis="x", color="#dddddd")
    save(figure, path)
