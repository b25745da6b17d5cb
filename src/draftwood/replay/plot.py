"""Pictures of results, drawn with matplotlib (extra `[plot]`), which is imported when first used.

Colors are Okabe and Ito's, which stay apart for color-blind readers; a bar's hatch and its printed
value tell the same, so that nothing hangs on color alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draftwood.errors import InvalidOption, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_PLAIN = "#999999"
_HATCHES = ("", "//", "..", "xx", "\\\\", "--", "oo")
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",  # text stays text: searchable, and small
    "svg.hashsalt": "draftwood",  # the same rows give the same file
}


def require_matplotlib() -> None:
    """Say at once, before any long work, that plots cannot be drawn.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtra("plots need the matplotlib package; install draftwood[plot]") from None


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
    figure, axes = _figure(
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
            color=_COLORS[number % len(_COLORS)],
            hatch=_HATCHES[number % len(_HATCHES)],
            edgecolor="white",
        )
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(range(len(traces)), traces)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.axvline(1.0, color=_PLAIN, linewidth=1)
    told = "predicted speed-up" if priced else "tokens per step"
    axes.set_xlabel(f"{told} (1 = plain decoding)")
    axes.grid(axis="x", color="#dddddd")
    figure.legend(loc="outside upper left", ncols=1, frameon=False)
    _save(figure, path)


def plot_demo(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Tokens a second of each row of `demo --json`, with speed-up and tokens per step.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidOption: `path` cannot be written, or its ending names no picture format.
    """
    figure, axes = _figure(9.0, 1.3 + 0.5 * len(rows))
    bars = axes.barh(
        range(len(rows)),
        [row["tokens_per_second"] for row in rows],
        height=0.7,
        color=[_PLAIN if row["drafter"] == "plain" else _COLORS[0] for row in rows],
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
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """One pair of axes; inches. The figure belongs to no window and to no global state."""
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context

    try:
        with rc_context(_STYLE):
            figure.savefig(
                path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None
            )
    except (OSError, ValueError) as error:
        raise InvalidOption(
            f"cannot draw to {path}: {error}; name a .svg, .png or .pdf file that can be written"
        ) from None
