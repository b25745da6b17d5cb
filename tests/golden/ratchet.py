"""The acceptance ratchet: what every drafter accepts on the golden traces.

    python tests/golden/ratchet.py            what holds now, beside what is expected
    python tests/golden/ratchet.py --write    expect from now on what holds now

Exactness does not notice a drafter that guesses badly, or a verifier that ignores acceptable
children: this does. Fewer accepted tokens fail the test, more are printed.
"""

import json
import sys
from pathlib import Path

from draftwood.budget.cost import LinearCost
from draftwood.drafters.catalog import make_priced_drafter
from draftwood.logs.log import Log
from draftwood.replay.cost import spender_for
from draftwood.replay.run import replay

HERE = Path(__file__).parent
EXPECTED = HERE / "expected.json"
TRACES = sorted((HERE / "traces").glob("*.jsonl"))
DRAFTERS = (
    "lookup",
    "suffix",
    "suffix:counts=paper",
    "suffix:alpha=4,floor=0,mode=tree,nodes=32",
    "recall:seed=1",
    "recall:mode=chain,seed=1",
    "recall:cost=0.01,seed=1",
    "suffix:mode=tree,cost=0.01",
    "trigram",
    "hybrid",
    "hybrid:first=recall:seed=1,other=trigram,tau=1.5",
    "blend:first=recall:seed=1,other=lookup,third=trigram",
)
"""Drafters that need no model; those that learn from a model's rows are in pair_ratchet.py. Recall
has a fixed seed: which contexts share a chain must not change from run to run."""


def measure(path: Path) -> dict[str, dict[str, int]]:
    """Accepted tokens, drafted tokens and steps of every drafter on one trace."""
    log = Log(path)
    priced = {spec: make_priced_drafter(spec) for spec in DRAFTERS}
    figures = replay(
        log,
        {spec: each.drafter for spec, each in priced.items()},
        spenders={spec: spender_for(each, None) for spec, each in priced.items()},
        cost=LinearCost(0.01),  # passes take simulated time, so that spending is reproducible
    )
    if log.unread.total:
        raise ValueError(f"{path.name} has lines that cannot be read: {log.unread.lines()}")
    return {
        spec: {
            "accepted": each.stats.accepted,
            "drafted": each.stats.drafted,
            "steps": each.stats.steps,
        }
        for spec, each in figures.items()
    }


def main() -> None:
    now = {path.stem: measure(path) for path in TRACES}
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    for trace, rows in now.items():
        for spec, row in rows.items():
            before = expected.get(trace, {}).get(spec, {}).get("accepted", "-")
            print(f"{trace:10} {spec:45} accepted {row['accepted']} (expected {before})")
    if "--write" in sys.argv[1:]:
        EXPECTED.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()
