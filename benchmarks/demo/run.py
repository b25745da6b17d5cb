"""The table of `draftwood demo`, as README shows it, with provenance.

    python benchmarks/demo/run.py [--requests 40] [--json] [--out benchmarks/demo/results.json]

With --out it draws the picture beside the file, too: `results.svg`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.command import parser, publish, read, require
from draftwood.demo.plot import plot_demo
from draftwood.demo.run import DRAFTERS, load_demo, run_demo
from draftwood.demo.workload import workload


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--requests", type=int, default=40)
    options = read(made, requests=1)
    with load_demo() as model:
        rows = [side.as_dict() for side in run_demo(model, workload(0, options.requests))]
    print("| drafter | tokens/s | speed-up | tokens/step | accepted | equal |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| `{row['drafter']}` | {row['tokens_per_second']:.0f} | {row['speedup']:.2f}x "
            f"| {row['tokens_per_step']:.2f} | {row['acceptance_rate']:.0%} "
            f"| {row['equal_outputs']:.0%} |"
        )
    require(len(rows) == 1 + len(DRAFTERS), "plain decoding and every drafter have a row")
    require(all(row["equal_outputs"] == 1.0 for row in rows), "all drafters give the same text")
    publish({"rows": rows, "requests": options.requests}, options)
    if options.out:
        plot_demo(rows, options.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
