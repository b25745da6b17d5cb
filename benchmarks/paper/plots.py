"""The plots of run.py: six panels, one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "draftwood", "font.size": 9}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw all experiments that `results` holds."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(16, 9), layout="constrained")
        flat = figure.subplots(2, 3).ravel()
        _corpus(flat[0], results["corpus"])
        _alpha(flat[1], results["alpha_floor"])
        _floor(flat[2], results["alpha_floor"])
        _sources(flat[3], results["sources"])
        _shift(flat[4], results["shift"])
        _matches(flat[5], results["sources"])
        figure.savefig(path, metadata={"Date": None})


def _line(axes: Axes, number: int, points: Any, label: str, **style: Any) -> None:
    """One curve; after ten of them the colors come again, with another dash."""
    dash = "-" if number < 10 else "--"
    axes.plot(*zip(*points, strict=True), dash, marker="o", markersize=3, label=label, **style)


def _corpus(axes: Axes, corpus: dict[str, Any]) -> None:
    for number, (name, points) in enumerate(corpus.items()):
        curve = [(int(size), point["tokens_per_step"]) for size, point in points.items()]
        style = {"color": "black", "linewidth": 2.5} if name == "all" else {}
        _line(axes, 0 if name == "all" else number, curve, name, **style)
    axes.set_xscale("symlog", linthresh=64)
    axes.set_xticks([0, 64, 256, 1024, 4096, 10_000], ["0", "64", "256", "1024", "4096", "10 000"])
    axes.set_xlabel("past outputs in the shared tree (frozen)")
    axes.set_ylabel("tokens per step")
    axes.set_title("Size of the corpus")
    axes.legend(fontsize=7, ncols=2)


def _alpha(axes: Axes, grids: dict[str, Any]) -> None:
    for number, (name, grid) in enumerate(grids.items()):
        points = [
            (float(key.split("/")[0]), point["tokens_per_step"])
            for key, point in grid.items()
            if key.endswith("/0.02")
        ]
        _line(axes, number, points, name)
    axes.set_xlabel("alpha (floor 0.02)")
    axes.set_ylabel("tokens per step")
    axes.set_title("MAX_SPEC = alpha * match length")
    axes.legend(fontsize=7)


def _floor(axes: Axes, grids: dict[str, Any]) -> None:
    for number, (name, grid) in enumerate(grids.items()):
        points = [
            (point["drafted_per_step"], point["tokens_per_step"])
            for key, point in grid.items()
            if key.startswith("4/")
        ]
        _line(axes, number, points, name)
    axes.set_xlabel("drafted tokens per step (alpha 4; floor 0 at the right to 0.4 at the left)")
    axes.set_ylabel("tokens per step")
    axes.set_title("What a floor saves, and costs")
    axes.legend(fontsize=7)


def _sources(axes: Axes, sources: dict[str, Any]) -> None:
    names = list(sources)
    for shift, kind in enumerate(("own", "shared", "both")):
        heights = [sources[name][kind]["tokens_per_step"] for name in names]
        places = [i + (shift - 1) * 0.27 for i in range(len(names))]
        axes.bar(places, heights, width=0.25, label=kind)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_ylabel("tokens per step")
    axes.set_title("Request's own tree, shared tree, both")
    axes.legend(fontsize=7, loc="upper center", ncols=3)


def _shift(axes: Axes, shift: dict[str, Any]) -> None:
    window = shift.get("window", 0)
    for number, (name, curve) in enumerate(shift.items()):
        if name != "window":
            points = [(window * (i + 1), height) for i, height in enumerate(curve)]
            _line(axes, number, points, f"history of {name}")
    axes.set_xlabel("SQL requests served since the shift")
    axes.set_ylabel("tokens per step")
    axes.set_title("From chat to SQL")
    axes.legend(fontsize=7)


def _matches(axes: Axes, sources: dict[str, Any]) -> None:
    for number, (name, kinds) in enumerate(sources.items()):
        # Longer matches are rare: their means would show chance.
        rows = [row for row in kinds["by_match"] if row[0] and row[1] >= 50]
        _line(axes, number, [(row[0], row[2] / row[1]) for row in rows], name)
    axes.plot([1, 16], [1, 16], color="gray", linewidth=0.8)
    axes.set_xlim(0, 16)
    axes.set_ylim(0, 16)
    axes.set_xlabel("match length p, tokens (gray: as many accepted as matched)")
    axes.set_ylabel("accepted tokens a step")
    axes.set_title("Accepted tokens by match length")
    axes.legend(fontsize=7, ncols=2)
