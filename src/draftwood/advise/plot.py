"""The picture of an advice; needs matplotlib (extra `plot`)."""

from __future__ import annotations

from pathlib import Path

from draftwood.advise.run import Advice
from draftwood.replay.chart import COLORS, PLAIN, blank, save


def plot_advice(advice: Advice, path: Path) -> None:
    """The candidates' speed-ups with their intervals; the title names cost, batch and tokens.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidOption: `path` cannot be written, or its ending names no picture format.
    """
    figure, axes = blank(9.0, 1.6 + 0.45 * len(advice.tried))
    for at, each in enumerate(advice.tried):
        gain = each.gain
        gains = gain.low > 1.0
        axes.barh(at, gain.speedup, height=0.6, color=COLORS[0] if gains else PLAIN)
        axes.plot([gain.low, gain.high], [at, at], color="black", linewidth=1.2)
        axes.text(gain.high, at, f"  {gain.speedup:.2f}x", va="center", fontsize=8)
    axes.set_yticks(range(len(advice.tried)), [each.candidate.spec for each in advice.tried])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.axvline(1.0, color=PLAIN, linewidth=1)
    axes.set_xlabel("predicted speed-up (1 = plain decoding), 95 % over sessions")
    tokens = sum(len(each.response) for each in advice.records)
    axes.set_title(
        f"batch {advice.batch}, {tokens:,} output tokens, {len(advice.records):,} requests\n"
        f"cost: {advice.priced}",
        fontsize=10,
        loc="left",
    )
    save(figure, path)
