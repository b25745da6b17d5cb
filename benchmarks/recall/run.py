"""Recall beside the suffix trees: tokens per step on recorded traces, and what a draft costs.

    python benchmarks/recall/run.py --traces traces/*.jsonl.gz --tokenizer tokenizer.json --json

Each trace is replayed up to --limit-tokens output tokens with every setting, history online from
empty: Recall, our suffix tree and, where `arctic-inference` 0.3.0 is installed (suffix/run.py says
how), the released one; without it its columns are absent. "linear" is the released default,
"tree" the best of its tree settings. Traces whose responses copy their prompt (`edit-ldb_repair`)
are shown and kept out of the means.

It prints tables and, with --json, one JSON object as its last line: `append_us`,
`bytes_per_token`, `prompt128k_open_ms`, `prompt128k_close_ms`, `draft16_us_p50`, `draft16_us_p99`,
`batch256_ms` (append and draft, 16 nodes), `open_100m_tokens_ms`, `instructions_draft` (a drafted
token, by callgrind; null where valgrind is not installed), `calibration_error` (the worst trace's
and setting's), and under `traces` tokens per step and drafted tokens of each setting.

`means`: geometric means over the traces; `predicted`: of tokens per step / (1 + cost * drafted),
over the better of the two released settings of each trace. `costs`: all sides. `large`, with
--large: drafts with 100 million tokens of history beside 1 million (2.2 GB, a minute).
`reliability`: for ten bins of path probability drafted nodes, their mean probability, and the
part of them that was accepted; with --out it is drawn beside the file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from math import exp, log
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from benchmarks.common.promises import BINS
from benchmarks.recall import cost
from benchmarks.recall.count import counts
from benchmarks.recall.plot import draw
from benchmarks.recall.sides import PEER_INSTALLED
from benchmarks.recall.tokens import LINEAR, OURS, RECALL, SETTINGS, TREE, Replayed, replay_all
from draftwood.logs.call import Record
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer

NEAR_COPY = "edit-ldb_repair"
STORED, LARGE = 1_000_000, 100_000_000
COSTS = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Of a drafted token, in steps."""
RECORDS = 150
"""Of each trace, for what an operation costs."""


def main() -> None:
    options = _options()
    if not PEER_INSTALLED:
        print("arctic-inference is not installed: no columns of the released tree")
    result: dict[str, Any] = {}
    if "replay" in options.parts:
        result |= _replay(options)
    if "costs" in options.parts:
        result |= _costs(options)
    result |= {
        "limit_tokens": options.limit_tokens,
        "settings": OURS,
        "peer": PEER_INSTALLED,
    }
    _check(result)
    publish(result, options)
    if options.out and "replay" in options.parts:
        draw(result, options.out.with_suffix(".svg"))


def _replay(options: Any) -> dict[str, Any]:
    print(f"{'tokens per step (drafted)':46} {'  '.join(SETTINGS)}  calibration")
    done = []
    for each in replay_all(options.traces, options.tokenizer, options.limit_tokens, options.jobs):
        print(each, flush=True)
        done.append(each)
    result = _replayed(done)
    for name, row in result["means"].items():
        print(f"{name:14}", "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    for name, row in result["predicted"].items():
        print(f"{name:14} predicted", "  ".join(f"{at}: {x:.3f}" for at, x in row.items()))
    return result


def _replayed(done: Sequence[Replayed]) -> dict[str, Any]:
    kept = [each.figures for each in done if not each.trace.startswith(NEAR_COPY)]
    errors = {
        each.trace: {name: promise.error for name, promise in each.promises.items()}
        for each in done
    }
    return {
        "calibration_error": max(abs(e) for row in errors.values() for e in row.values()),
        "means": {name: _means(kept, name) for name in SETTINGS},
        "predicted": {name: _predicted(kept, name) for name in RECALL},
        "traces": {each.trace: each.figures for each in done},
        "calibration": errors,
        "reliability": {name: _reliability(done, name) for name in RECALL},
    }


def _means(rows: Sequence[dict[str, dict[str, float]]], setting: str) -> dict[str, float]:
    """Geometric means of tokens a step over each released setting's, and the least trace's."""
    drafted = [row[setting]["drafted_per_step"] for row in rows]
    before = [row[LINEAR]["drafted_per_step"] for row in rows]
    means = {
        "drafted_per_step": sum(drafted) / len(drafted),
        f"drafted over {LINEAR}": _mean([d / b for d, b in zip(drafted, before, strict=True)]),
    }
    for base in (LINEAR, TREE):
        ratios = [row[setting]["tokens_per_step"] / row[base]["tokens_per_step"] for row in rows]
        means |= {f"over {base}": _mean(ratios), f"least over {base}": min(ratios)}
    return means


def _predicted(rows: Sequence[dict[str, dict[str, float]]], setting: str) -> dict[str, float]:
    """By cost of a drafted token, over the better of the released settings for each trace."""

    def speed(row: dict[str, float], each: float) -> float:
        return row["tokens_per_step"] / (1 + each * row["drafted_per_step"])

    return {
        str(each): _mean(
            [
                speed(row[setting], each) / max(speed(row[base], each) for base in (LINEAR, TREE))
                for row in rows
            ]
        )
        for each in COSTS
    }


def _reliability(done: Sequence[Replayed], setting: str) -> list[list[float]]:
    bins = np.sum([each.promises[setting].bins for each in done], axis=0)
    return [[int(n), p / max(n, 1), a / max(n, 1)] for n, p, a in bins]


def _costs(options: Any) -> dict[str, Any]:
    tokenizer = TraceTokenizer.load(options.tokenizer)
    records: list[Record] = []
    for path in options.traces:
        records += islice(Log(path, tokenizer), RECORDS)
    work = cost.Work.of(records)
    table = cost.costs(work, tokens=options.stored)
    table["recall"]["open_100m_tokens_ms"] = cost.file_open_ms(options.file_tokens)
    counted = None if options.smoke else counts(work)
    if counted is None and not options.smoke:
        print("valgrind is not installed: no instruction counts")
    for side, row in (counted or {}).items():
        table[side] |= row
    for side, row in table.items():
        print(f"{side:14}", "  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    result: dict[str, Any] = {"instructions_draft": None, **table["recall"], "costs": table}
    if options.large:
        result["large"] = cost.large_ratio(work, small=options.stored, large=LARGE)
        print("large", result["large"])
    return result


def _mean(ratios: Sequence[float]) -> float:
    return exp(sum(map(log, ratios)) / len(ratios))


def _check(result: dict[str, Any]) -> None:
    for trace, row in result.get("traces", {}).items():
        for name, figures in row.items():
            rate = figures["tokens_per_step"]
            require(rate >= 1.0, f"{trace}, {name}: {rate} tokens per step, at least 1")
    for name, bins in result.get("reliability", {}).items():
        require(len(bins) == BINS and sum(n for n, _, _ in bins) > 0, f"{name} drafts nodes")
    for side, row in result.get("costs", {}).items():
        times = [value for key, value in row.items() if key.endswith(("_us", "_ms", "_p50"))]
        require(bool(times) and min(times) > 0.0, f"{side}: every operation takes some time")


def _options() -> Any:
    made = parser(__doc__, traces=True)
    made.add_argument("--limit-tokens", type=int, default=150_000)
    made.add_argument("--jobs", type=int, default=1, help="processes that replay")
    made.add_argument("--stored", type=int, default=STORED, help="tokens of history, for costs")
    made.add_argument("--file-tokens", type=int, default=LARGE, help="slots of the file to open")
    made.add_argument("--large", action="store_true", help="draft from 100 million tokens, too")
    made.add_argument(
        "--parts", nargs="+", choices=("replay", "costs"), default=("replay", "costs")
    )
    return read(made, limit_tokens=1_500, stored=20_000, file_tokens=100_000)


if __name__ == "__main__":
    main()
