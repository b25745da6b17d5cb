"""The picture of a replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from draftwood.replay.chart import COLORS, HATCHES, PLAIN, blank, save


def plot_replay(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Tokens per step of each trace and drafter, from rows of `replay --json`.

    Where a cost was given: the predicted speed-up instead.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidOption: `path` cannot be written, or its ending names no picture format.
    """
    traces = list(dict.fromkeys(row["trace"] for row in rows))
    drafters = list(dict.fromkeys(row["drafter"] for row in rows))
    priced = all("predicted_speedup" in row for row in rows)
    figure_of = "predicted_speedup" if priced else "tokens_per_step"
    values = {(row["trace"], row["drafter"]): row[figure_of] for row in rows}
    figure, axes = blank(
        9.0, 1.0 + 0.25 * len(drafters) + 0.24 * len(traces) * (len(drafters) + 0.7)
    )
    thick = 1.0 / (len(drafters) + 0.7)
    for number, drafter in enumerate(drafters):
        present = [at for at, trace in enumerate(traces) if (trace, drafter) in values]
        bars = axes.barh(
            [at + thick * (number - (len(drafters) - 1) / 2) for at in present],
            [values[traces[at], drafter] for at in present],
            height=0.9 * thick,
            label=drafter,
            color=COLORS[number % len(COLORS)],
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
        )
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(range(len(traces)), traces)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.axvline(1.0, color=PLAIN, linewidth=1)
    told = "predicted speed-up" if priced else "tokens per step"
    axes.set_xlabel(f"{told} (1 = plain decoding)")
    axes.grid(axis="x", color="#dddddd")
    figure.legend(loc="outside upper left", ncols=1, frameon=False)
    save(figure, path)
