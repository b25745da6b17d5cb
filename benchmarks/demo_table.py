"""The table of `draftwood demo`, as README shows it, with provenance.

    python benchmarks/demo_table.py [--requests 40] [--json] [--write]

`--write` keeps the rows in results/demo.json and draws docs/demo.svg.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from draftwood.demo.run import load_demo, run_demo
from draftwood.demo.workload import workload
from draftwood.provenance import provenance
from draftwood.replay.plot import plot_demo

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    with load_demo() as model:
        rows = [side.as_dict() for side in run_demo(model, workload(0, arguments.requests))]
    if arguments.json:
        print(json.dumps({"rows": rows}))
    else:
        print("| drafter | tokens/s | speed-up | tokens/step | accepted | equal |")
        print("|---|---|---|---|---|---|")
        for row in rows:
            print(
                f"| `{row['drafter']}` | {row['tokens_per_second']:.0f} | {row['speedup']:.2f}x "
                f"| {row['tokens_per_step']:.2f} | {row['acceptance_rate']:.0%} "
                f"| {row['equal_outputs']:.0%} |"
            )
    if arguments.write:
        result = {"rows": rows, "requests": arguments.requests, "provenance": provenance()}
        (HERE / "results" / "demo.json").write_text(json.dumps(result, indent=1) + "\n")
        plot_demo(rows, HERE.parent / "docs" / "demo.svg")


if __name__ == "__main__":
    main()
