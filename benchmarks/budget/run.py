"""What budgets gain: predicted on recorded traces at given costs, measured on the demo model.

    python benchmarks/budget/run.py --traces traces/*.jsonl.gz --tokenizer tokenizer.json --json

`predicted`: for every cost of a drafted token (a part of a plain step; "steep": each lengthens the
step by 5 %) and trace, tokens in the time of a plain step, [ours, the best released setting chosen
afterwards for that trace and cost, plain]. Ours is one setting for all, and history grows online
from empty. The released settings are those of released.py: suffix decoding in both modes,
alpha 1, 2, 4, floor 0 to 0.5, 4 to 64 nodes, and prompt lookup. `means`: geometric means of ours
over the best released one, the least, and the least over plain; traces whose responses copy their
prompt (`edit-ldb_repair`) are shown and kept out of the means. `halves`: the same means over the
traces on which the rule's one constant was chosen, and over the others.

`measured`: the demo model at several batch sizes (measured.py). `calibration`: by drafter
and trace, the sum of its calibrated confidence over accepted tokens, less 1, after a fifth of it.

--released FILE keeps the released settings' steps there, which no change of ours alters, and takes
them from there if they are of the same traces, tokenizer and limit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from math import exp, log
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.budget.measured import BATCHES, measure
from benchmarks.budget.released import NODES, SETTINGS, Steps, best, count_steps
from benchmarks.common.command import parser, publish, read, require
from benchmarks.common.promises import Promise, Watched
from draftwood.budget.calibration import calibrated
from draftwood.budget.cost import GeometricCost, LinearCost, VerifyCost, times
from draftwood.budget.spending import Spending
from draftwood.drafters.catalog import make_drafter
from draftwood.logs.call import Record
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer
from draftwood.replay.cost import Clock
from draftwood.replay.run import replay

COSTS: dict[str, VerifyCost] = {
    "0.002": LinearCost(0.002),
    "0.01": LinearCost(0.01),
    "0.05": LinearCost(0.05),
    "0.1": LinearCost(0.1),
    "steep": GeometricCost(1.05),
}
OURS = "recall:nodes=64,floor=0.001"
CALIBRATED = ("suffix:mode=tree,alpha=4,floor=0", "lookup", "recall")
NEAR_COPY = "edit-ldb_repair"


def predict(path: Path, tokenizer: Path, limit: int, steps: Steps | None) -> dict[str, Any]:
    """One trace: ours at every cost, the released settings' steps, calibration errors."""
    records = _records(path, tokenizer, limit)
    steps = steps or count_steps(records)
    clocks = {name: Clock(cost, Spending(cost)) for name, cost in COSTS.items()}
    replay(records, {name: make_drafter(OURS) for name in COSTS}, spenders=clocks)
    total = sum(len(record.response) for record in records)
    speeds, chosen = {}, {}
    for name, cost in COSTS.items():
        other, chosen[name] = best(steps, times(cost, max(NODES)))
        speeds[name] = [total * cost.seconds(0) / clocks[name].seconds, other, 1.0]
    watched = {
        spec: Watched(calibrated(make_drafter(spec)), Promise(total // 5)) for spec in CALIBRATED
    }
    replay(records, watched)
    return {
        "speeds": speeds,
        "best_released": chosen,
        "calibration": {spec: each.promise.error for spec, each in watched.items()},
        "steps": steps,
    }


def _records(path: Path, tokenizer: Path, limit: int) -> list[Record]:
    trace = Log(path, TraceTokenizer.load(tokenizer))
    records: list[Record] = []
    for record in trace:
        left = limit - sum(len(each.response) for each in records)
        if left <= 0:
            break
        records.append(Record(record.prompt, record.response[:left], record.session))
    return records


def means(predicted: dict[str, dict[str, list[float]]], traces: Sequence[str]) -> dict[str, Any]:
    """Of each cost: the geometric mean of ours over the best released, the least of both ratios."""
    table = {}
    for cost, row in predicted.items():
        kept = [row[trace] for trace in traces]
        ratios = [ours / other for ours, other, _ in kept]
        table[cost] = {
            "over_best": exp(sum(map(log, ratios)) / len(ratios)),
            "least_over_best": min(ratios),
            "least_over_plain": min(ours / plain for ours, _, plain in kept),
        }
    return table


def main() -> None:
    options = _options()
    found = predict_all(options)
    predicted = {
        cost: {trace: each["speeds"][cost] for trace, each in found.items()} for cost in COSTS
    }
    kept = [trace for trace in found if not trace.startswith(NEAR_COPY)]
    result: dict[str, Any] = {"predicted": predicted}
    if kept:
        result["means"] = means(predicted, kept)
        result["halves"] = [means(predicted, half) for half in (kept[::2], kept[1::2]) if half]
    for cost, row in result.get("means", {}).items():
        print(f"{cost:6}", "  ".join(f"{name} {value:.3f}" for name, value in row.items()))
    if options.requests:
        result["measured"] = measure(options.requests, options.batches)
        for batch, sides in result["measured"].items():
            row = "  ".join(f"{name} {side['over_plain']:.2f}x" for name, side in sides.items())
            print(f"batch {batch:>2}  {row}")
    result |= {
        "calibration": {
            spec: {trace: each["calibration"][spec] for trace, each in found.items()}
            for spec in CALIBRATED
        },
        "best_released": {trace: each["best_released"] for trace, each in found.items()},
        "released_settings": len(SETTINGS) + 2,
        "ours": f"{OURS},cost=...",
        "limit_tokens": options.limit_tokens,
        "tokenizer": options.tokenizer.name if options.tokenizer else None,
    }
    plain = [row["least_over_plain"] for row in result.get("means", {}).values()]
    require(all(least > 0.0 for least in plain), "every trace takes some time")
    require(bool(found) or not options.smoke, "a trace is predicted")
    publish(result, options)


def predict_all(options: Any) -> dict[str, dict[str, Any]]:
    """Every trace by its name, on `--jobs` processes."""
    known = _Released(options)
    found: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {
            _name(path): pool.submit(
                predict, path, options.tokenizer, options.limit_tokens, known.steps(_name(path))
            )
            for path in options.traces
        }
        for name, future in waiting.items():
            found[name] = each = future.result()
            known.keep(name, each.pop("steps"))
            row = "  ".join(f"{a:5.2f} {b:5.2f} {a / b:.3f}" for a, b, _ in each["speeds"].values())
            print(f"{name:46} {row}", flush=True)
    return found


class _Released:
    """The file of the released settings' steps."""

    def __init__(self, options: Any) -> None:
        self._path: Path | None = options.released
        self._of = f"{options.tokenizer and options.tokenizer.name} {options.limit_tokens}"
        self._kept: dict[str, dict[str, Steps]] = {}
        if self._path is not None and self._path.is_file():
            self._kept = json.loads(self._path.read_text(encoding="utf-8"))

    def steps(self, trace: str) -> Steps | None:
        """What is kept of a trace."""
        return self._kept.get(self._of, {}).get(trace)

    def keep(self, trace: str, steps: Steps) -> None:
        """Keep it."""
        self._kept.setdefault(self._of, {})[trace] = steps
        if self._path is not None:
            self._path.write_text(json.dumps(self._kept), encoding="utf-8")


def _name(path: Path) -> str:
    return path.name.split(".")[0]


def _options() -> Any:
    made = parser(__doc__, traces=True)
    made.add_argument("--limit-tokens", type=int, default=100_000)
    made.add_argument("--requests", type=int, default=60, help="of the demo; 0: not measured")
    made.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="sizes to measure")
    made.add_argument("--released", type=Path, help="keep the released settings' steps here")
    made.add_argument("--jobs", type=int, default=1, help="processes")
    return read(made, optional=True, limit_tokens=600, requests=8, batches=[1])


if __name__ == "__main__":
    main()
