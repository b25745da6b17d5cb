"""The reliability plot of run.py: what confidence promised, and what was accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "draftwood", "font.size": 9}
COLORS = {"recall": "#0072B2", "recall tree": "#009E73", "recall chain": "#D55E00"}
NAMES = {"recall": "tree, floor 0.005", "recall tree": "tree, no floor", "recall chain": "chain"}


def draw(results: dict[str, Any], path: Path) -> None:
    """Three panels: bins of path probability, how many nodes they hold, and every trace's error."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        one, two, three = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
        _reliability(one, results["reliability"])
        _nodes(two, results["reliability"])
        _errors(three, results["calibration"])
        figure.savefig(path, metadata={"Date": None})


def _reliability(axes: Axes, reliability: dict[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    for name, bins in reliability.items():
        points = [(promised, accepted) for nodes, promised, accepted in bins if nodes]
        at, part = zip(*points, strict=True)
        axes.plot(at, part, color=COLORS[name], label=NAMES[name], marker="o", markersize=4)
    axes.set_xlabel("probability of the path, mean of the bin")
    axes.set_ylabel("part of the nodes that was accepted")
    axes.set_title("What is promised is what comes")
    axes.legend(frameon=False)


def _nodes(axes: Axes, reliability: dict[str, Any]) -> None:
    for number, (name, bins) in enumerate(reliability.items()):
        at = [bin_ / 10 + 0.02 + 0.03 * number for bin_ in range(len(bins))]
        axes.bar(at, [nodes for nodes, _, _ in bins], 0.03, color=COLORS[name], align="edge")
    axes.set_yscale("log")
    axes.set_xlabel("probability of the path")
    axes.set_ylabel("drafted nodes")
    axes.set_title("Nodes in each bin")


def _errors(axes: Axes, calibration: dict[str, Any]) -> None:
    traces = list(calibration)
    for name, color in COLORS.items():
        errors = [100 * calibration[trace][name] for trace in traces]
        axes.plot(errors, range(len(traces)), "o", color=color, markersize=4)
    axes.axvspan(-5, 5, color="#eeeeee", zorder=0)
    axes.set_yticks(range(len(traces)), traces, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("sum of confidence over accepted tokens - 1, %")
    axes.set_title("Each trace, after a fifth of it")
