"""The roofline of the presets beside measured passes of two models, on this machine.

    python benchmarks/roofline/run.py [--models demo FOLDER] [--threads 1] [--json]

The machine's two limits are measured without these models: bytes a second by products of one row
with a large matrix, FLOP/s by products of many rows. With them and a model's shape alone, as a
preset has them, `RooflineCost` says what a pass takes, and `draftwood measure` what it does take.
Compared is what decides about drafts, a pass over a plain one. `hard` is the textbook's corner,
where the slower limit is all that counts; `preset` is the rounded one that presets have.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.common.command import parser, publish, read, require
from draftwood.advise.measuring import curve_of
from draftwood.budget.roofline import Machine, NetworkShape, RooflineCost
from draftwood.load import load

WITHIN = 0.25
"""The difference that presets aim at, at most."""
_HARD = 64.0
"""The norm of this power is the larger of two numbers, about."""
_COLUMNS = 2048


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--models", nargs="+", default=["demo"], help="folders, Hub ids, demo")
    made.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    made.add_argument("--drafted", type=int, nargs="+", default=[0, 1, 3, 7, 15, 31])
    made.add_argument("--context", type=int, default=200)
    made.add_argument("--repeats", type=int, default=9)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--megabytes", type=int, default=256, help="of the large matrix")
    options = read(made, batches=[1], drafted=[0, 3], context=16, repeats=1, megabytes=4)

    torch.set_num_threads(options.threads)
    machine = limits(options.megabytes, options.repeats)
    print(f"{machine.bandwidth / 1e9:.1f} GB/s, {machine.flops / 1e9:.0f} GFLOP/s")
    rows: list[dict[str, Any]] = []
    for model in options.models:
        rows += compared(model, machine, options)
    for row in rows:
        print(
            f"{row['model']} batch {row['batch']} drafted {row['drafted']:3d} (of each): "
            f"{row['seconds'] * 1e3:.2f} ms, {row['measured']:.2f} plain passes; "
            f"preset {row['preset']:.2f}, hard {row['hard']:.2f}"
        )
    worst = {
        name: max(abs(row[name] / row["measured"] - 1.0) for row in rows)
        for name in ("preset", "hard")
    }
    inside = sum(abs(row["preset"] / row["measured"] - 1.0) <= WITHIN for row in rows)
    print(
        f"{inside} of {len(rows)} points within {WITHIN:.0%}; worst {worst['preset']:.0%}, "
        f"with a hard corner {worst['hard']:.0%}"
    )
    require(all(row["measured"] > 0 for row in rows), "passes take time")
    found = {"rows": rows, "inside": inside, "worst": worst}
    limit = {"bandwidth": machine.bandwidth, "flops": machine.flops}
    publish({**found, "machine": limit, "threads": options.threads}, options)


def limits(megabytes: int, repeats: int) -> Machine:
    """This machine's two limits, in float32."""
    matrix = torch.ones(megabytes * 2**20 // (4 * _COLUMNS), _COLUMNS)
    row, many = torch.ones(1, _COLUMNS), torch.ones(64, _COLUMNS)
    few = matrix[:_COLUMNS]
    read_time = fastest(lambda: row @ matrix.T, repeats)
    product_time = fastest(lambda: many @ few.T, 4 * repeats)
    return Machine(
        "here",
        bandwidth=4.0 * matrix.numel() / read_time,
        flops=2.0 * 64 * few.numel() / product_time,
        memory=float("inf"),
        reached=(1.0, 1.0),
        overhead=0.0,
    )


def fastest(call: Callable[[], Any], repeats: int) -> float:
    """The median time of a call that has been made before."""
    call()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return median(times)


def compared(model: str, machine: Machine, options: Any) -> list[dict[str, Any]]:
    """Measured and computed passes of one model."""
    with load(model, "none", cost="none", device="cpu") as llm:
        shape = shape_of(llm.target.model, Path(model).name)
        curve = curve_of(
            llm,
            batches=options.batches,
            drafted=options.drafted,
            context=options.context,
            repeats=options.repeats,
        )
    costs = {
        "preset": RooflineCost(machine, shape, options.context),
        "hard": RooflineCost(machine, shape, options.context, corner=_HARD),
    }
    rows = []
    for batch, points in curve.batches.items():
        plain = points[0][1]
        for drafted, seconds in points:
            computed = {
                name: cost.seconds(drafted, batch=batch) / cost.seconds(0, batch=batch)
                for name, cost in costs.items()
            }
            row = {
                "model": shape.name,
                "batch": batch,
                "drafted": drafted // batch,
                "seconds": seconds,
                "measured": seconds / plain,
                "spread": curve.spread,
            }
            rows.append(row | computed)
    return rows


def shape_of(model: Any, name: str) -> NetworkShape:
    """What a preset would say of a model: parameters that a token meets, and its cache."""
    config = model.config
    size = config.hidden_size
    heads = config.num_attention_heads
    cached = getattr(config, "num_key_value_heads", heads) * (
        getattr(config, "head_dim", None) or size // heads
    )
    met = model.num_parameters()
    if not config.tie_word_embeddings:
        met -= config.vocab_size * size  # a token reads one row of these
    return NetworkShape.dense(name, met, config.num_hidden_layers, size, cached, bits=32)


if __name__ == "__main__":
    main()
