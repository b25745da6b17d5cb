"""What merging saves: chain, tree and graph drafts of one small model, with equally many passes.

    python benchmarks/graphs/run.py [--target PATH] [--drafter-model PATH]
        [--levels 8] [--requests 6] [--seed 11] [--json]
        [--out benchmarks/graphs/results.json]

All sides draft with `Shape.gsd`, so that nothing differs but the shape of the draft: `chain`
has one candidate a node, `tree` never merges, `graph R` merges where a token and the R before it
are equal. `bold` sides keep unlikely candidates, where runs repeat more often. All may take the
same number of small-model passes; every call of the demo's agent traffic is answered greedily
by all sides in turn, each time another one first.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.command import parser, publish, read, require
from draftwood.decode import decode
from draftwood.demo.model import drafter_path, target_path
from draftwood.demo.workload import workload
from draftwood.draft import Budget
from draftwood.drafters.none import NoDraft
from draftwood.drafters.small.grow import DraftCounts, ModelDrafter
from draftwood.drafters.small.shapes import Shape
from draftwood.language_model import LanguageModel
from draftwood.load import load
from draftwood.protocols import Drafter
from draftwood.stats import Stats
from draftwood.targets.transformers.draft_model import TransformersDraftModel
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

PLAIN = "plain"
CHAIN = {"top_k": 1, "width": 1, "overlap": None, "probability": 0.0}
TREE = {"top_k": 4, "siblings": 0.1, "probability": 0.03}
BOLD = {"top_k": 8, "siblings": 0.01, "probability": 0.003, "nodes": 64}
SIDES: dict[str, dict[str, Any]] = {
    "chain": CHAIN,
    "tree": TREE | {"overlap": None},
    "graph R=2": TREE | {"overlap": 2},
    "graph R=1": TREE | {"overlap": 1},
    "graph R=0": TREE | {"overlap": 0},
    "bold tree": BOLD | {"overlap": None},
    "bold graph R=1": BOLD | {"overlap": 1},
    "bold graph R=0": BOLD | {"overlap": 0},
}


@dataclass(frozen=True)
class Row:
    """Means over the steps of a side; times in milliseconds of wall clock.

    drafted: nodes that the target verified. graph_nodes, merged, passes, model_rows: see
    `DraftCounts`. own_ms: of drafting outside the small model. speedup, cpu_speedup: whole calls
    against plain decoding, by wall clock and by the time that the processors worked.
    """

    drafter: str
    tokens_per_step: float
    drafted: float
    graph_nodes: float
    merged: float
    passes: float
    model_rows: float
    model_ms: float
    own_ms: float
    verify_ms: float
    speedup: float
    cpu_speedup: float
    equal_outputs: float


class Side:
    """A drafter, and what it took and brought."""

    def __init__(self, drafter: Drafter) -> None:
        self.drafter, self.stats = drafter, Stats()
        self.wall = self.cpu = 0.0
        self.equal = self.calls = 0

    def answer(self, model: LanguageModel, prompt: Any, stop: Stop) -> list[int]:
        """The tokens of one call, greedily."""
        wall, cpu = perf_counter(), process_time()
        steps = list(
            decode(model.target, self.drafter, Greedy(), prompt, stop=stop, budget=Budget(64))
        )
        self.wall += perf_counter() - wall
        self.cpu += process_time() - cpu
        for step in steps:
            self.stats.add(step)
        return [token for step in steps for token in step.tokens.tolist()]

    def row(self, name: str, plain: Side) -> Row:
        """The figures so far."""
        stats, steps = self.stats, self.stats.steps
        counts = self.drafter.counts if isinstance(self.drafter, ModelDrafter) else DraftCounts()
        return Row(
            name,
            stats.tokens_per_step,
            stats.drafted_per_step,
            counts.nodes / steps,
            counts.merged / steps,
            counts.passes / steps,
            counts.rows / steps,
            1e3 * counts.model_seconds / steps,
            1e3 * (counts.seconds - counts.model_seconds) / steps,
            1e3 * stats.score_seconds / steps,
            plain.wall / self.wall,
            plain.cpu / self.cpu,
            self.equal / self.calls,
        )


def measure(model: LanguageModel, small: Any, levels: int, requests: int, seed: int) -> list[Row]:
    sides = {PLAIN: Side(NoDraft())}
    for name, options in SIDES.items():
        sides[name] = Side(ModelDrafter(small, Shape.gsd(levels=levels, **options), gain=0))
    end = model.tokenizer.eos_token_id
    stop = Stop(max_tokens=96, end_tokens=() if end is None else (end,))
    order = list(sides)
    for request in workload(seed, requests):
        answers: list[str] = []
        for call in request.calls:
            prompt = model.encode(call.prompt(answers), chat=False)
            given = {name: sides[name].answer(model, prompt, stop) for name in order}
            for name, side in sides.items():
                side.calls += 1
                side.equal += given[name] == given[PLAIN]
            text = [token for token in given[PLAIN] if token != end]
            answers.append(model.tokenizer.decode(text, skip_special_tokens=True))
            order.append(order.pop(0))
    return [side.row(name, sides[PLAIN]) for name, side in sides.items()]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--target", type=Path, default=target_path())
    made.add_argument("--drafter-model", type=Path, default=drafter_path())
    made.add_argument("--levels", type=int, default=8)
    made.add_argument("--requests", type=int, default=6)
    made.add_argument("--seed", type=int, default=11)
    options = read(made, requests=1, levels=3)
    import torch

    torch.set_num_threads(1)
    small = TransformersDraftModel.load(options.drafter_model, device="cpu")
    with load(options.target, "none", device="cpu") as model:
        rows = measure(model, small, options.levels, options.requests, options.seed)
    print("| drafts | tokens/step | verified | drafted | merged | passes | rows | cpu | equal |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.drafter} | {row.tokens_per_step:.2f} | {row.drafted:.1f} "
            f"| {row.graph_nodes:.1f} | {row.merged:.2f} | {row.passes:.2f} "
            f"| {row.model_rows:.1f} | {row.cpu_speedup:.2f}x | {row.equal_outputs:.0%} |"
        )
    result = {
        "rows": [asdict(row) for row in rows],
        "levels": options.levels,
        "requests": options.requests,
        "seed": options.seed,
    }
    require(all(row.equal_outputs == 1.0 for row in rows), "all sides give the same text")
    require(all(row.passes <= options.levels for row in rows), "no draft takes more passes")
    publish(result, options)


if __name__ == "__main__":
    main()
