"""The advice in words and tables; the verdict comes first."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from draftwood.advise.run import Advice
from draftwood.advise.settings import settings_of
from draftwood.logs.sample import Sample

_LEADING = 0.15
"""A part of a split is named in the verdict where so much of the gain comes from it."""


def verdict_text(advice: Advice) -> str:
    """The verdict in one sentence."""
    best, gain = advice.best, advice.best.gain
    where = f"on your traffic at batch {advice.batch} ({advice.priced})"
    if advice.verdict == "loss":
        return (
            f"Do not draft: the best setting tried, {best.candidate.spec}, takes "
            f"{1 / gain.high:.2f} to {1 / gain.low:.2f} times as long as plain decoding {where}."
        )
    if advice.verdict == "unclear":
        return (
            f"No clear gain: {gain.low:.2f}x to {gain.high:.2f}x {where} with the best setting "
            f"tried, {best.candidate.spec}."
        )
    parts = [
        f"{_times(gain.low)} to {_times(gain.high)} {where}; set {best.candidate.spec}",
    ]
    chain = advice.best_for("vllm")
    if chain is not None and chain is not best and chain.gain.low > 1.0:
        spec = chain.candidate.spec
        parts.append(f"in vLLM {spec}, {_times(chain.gain.low)} to {_times(chain.gain.high)}")
    leading = _leading(advice)
    if leading is not None:
        parts.append(
            f"{leading['share_of_gain']:.0%} of the gain comes from {leading['by']} "
            f"'{leading['value']}'"
        )
    parts.append(f"{advice.idle:.0%} of requests gain nothing")
    return "; ".join(parts) + "."


def _leading(advice: Advice) -> dict[str, Any] | None:
    """The part of the log's own fields from which most of the gain comes."""
    fields = [
        row
        for row in advice.splits
        if row["by"] not in ("turn", "time", "history", "sharing", "prediction")
        and row["value"] not in ("none", "others")
        and row["share_of_gain"] >= _LEADING
    ]
    return max(fields, key=lambda row: row["share_of_gain"], default=None)


def _times(value: float) -> str:
    return f"{value:.2f}x" if value < 1.95 else f"{value:.1f}x"


def chosen_text(sample: Sample) -> str:
    """How the requests of a sample were chosen, to stand behind their number."""
    if sample.stretches > 1:
        return f", whole sessions from {sample.stretches} places of the {sample.of:,} in the log"
    return f", the first of {sample.of:,}" if sample.of > len(sample.records) else ""


def candidate_table(advice: Advice) -> Table:
    """A row for each candidate; no loss is bold."""
    table = Table(box=box.SIMPLE_HEAD, title="What was tried", title_justify="left")
    table.add_column("setting", overflow="fold")
    for head in ("speed-up", "95 %", "tokens\n/step"):
        table.add_column(head, justify="right", no_wrap=True)
    for number, each in enumerate(advice.tried):
        bold = number == 0 and advice.verdict == "gain"
        speed = f"{each.gain.speedup:.2f}x"
        table.add_row(
            each.candidate.spec,
            f"[bold]{speed}[/bold]" if bold else speed,
            f"{each.gain.low:.2f}-{each.gain.high:.2f}",
            f"{each.figures.stats.tokens_per_step:.2f}",
        )
    return table


def split_table(advice: Advice) -> Table:
    """Where the gain of the best candidate comes from."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"Where the gain of {advice.best.candidate.spec} comes from",
        title_justify="left",
    )
    table.add_column("part", overflow="fold")
    for head in ("requests", "speed-up", "95 %", "of the gain"):
        table.add_column(head, justify="right", no_wrap=True)
    by = None
    for row in advice.splits:
        if row["by"] != by:
            by = row["by"]
            table.add_row(str(by), "", "", "", "")
        table.add_row(
            f"  {row['value']}",
            f"{row['requests']:,}",
            f"{row['speedup']:.2f}x",
            f"{row['low']:.2f}-{row['high']:.2f}",
            f"{row['share_of_gain']:.0%}",
        )
    return table


def settings_text(advice: Advice) -> str:
    """The settings to paste; empty where nothing gains."""
    lines = []
    for each in settings_of(advice):
        lines += [f"# {each.title} ({each.gains.gain.speedup:.2f}x)", each.text, ""]
    return "\n".join(lines).rstrip()


def as_json(advice: Advice, *, form: str | None, unread: int) -> dict[str, Any]:
    """The object of `advise --json`."""
    best = advice.best
    draws = advice.verdict == "gain"
    return {
        "verdict": advice.verdict,
        "low": best.gain.low,
        "high": best.gain.high,
        "setting": best.candidate.spec if draws else "none",
        "engine": best.candidate.engines[0] if draws else "draftwood",
        "format": form,
        "requests": len(advice.records),
        "unread": unread,
        "cost": advice.priced.as_dict(advice.batch),
        "splits": advice.splits,
        "candidates": [each.as_dict() for each in advice.tried],
    }
