"""How many drafted tokens each verification rule accepts, by exact enumeration.

    python benchmarks/verifiers/run.py [--seeds 3] [--json]

What is enumerated, and for which rules and shapes: acceptance.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.command import parser, publish, read, require
from benchmarks.verifiers.acceptance import CHAIN, DISTANCES, RULES, VOCAB_SIZE, table


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seeds", type=int, default=3, help="pairs of models")
    options = read(made, seeds=1)
    quick = ("chain rejection", "block verification")
    rules = [rule for rule in RULES if not options.smoke or rule.name in quick]
    rows = table(options.seeds, rules, DISTANCES[:1] if options.smoke else DISTANCES)
    shape = None
    for row in rows:
        if row["shape"] != shape:
            shape = row["shape"]
            distances = "".join(f"{'d = ' + d:>10}" for d in row["accepted"])
            print(f"\n{shape:32}{distances}")
        print(f"  {row['rule']:30}" + "".join(f"{a:10.4f}" for a in row["accepted"].values()))
    chains = {row["rule"]: row["accepted"] for row in rows if row["shape"] == CHAIN}
    one_by_one, block = chains["chain rejection"], chains["block verification"]
    better = all(block[distance] >= one_by_one[distance] for distance in block)
    require(better, "a block accepts no less than its tokens one by one")
    publish({"seeds": options.seeds, "vocab_size": VOCAB_SIZE, "rows": rows}, options)


if __name__ == "__main__":
    main()
