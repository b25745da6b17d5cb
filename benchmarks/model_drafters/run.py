"""Small models as drafters: tokens per step, what drafting and verifying take, and the gain.

    python benchmarks/model_drafters/run.py --json                       # the bundled pair
    python benchmarks/model_drafters/run.py --target PATH --drafter-model PATH --prompts FILE.jsonl

Every prompt is answered by all sides in turn, each time another one first; a side's time is the
wall clock of whole answers, prompts included, and its speed-up plain decoding's time over its own.
At temperature 0 all texts must be plain decoding's; above it those of chosen drafts, too, since one
seed gives one text. Sampled drafts have the same law instead (docs/verification.md).

It prints a table and, with --json, one JSON object as its last line: `rows`, one for each side, and
`provenance`. Times are milliseconds a step. "chain N" is always N long, "chain" as long as pays.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.common.command import parser, publish, read, require
from benchmarks.model_drafters.sides import Counted, Side, sides
from draftwood.decode import decode
from draftwood.demo.model import drafter_path, target_path
from draftwood.demo.workload import workload
from draftwood.draft import TokenIds
from draftwood.load import LanguageModel, load
from draftwood.stats import Stats
from draftwood.targets.transformers.draft_model import TransformersDraftModel
from draftwood.text.stop import Stop

PROMPTS = (
    "Explain in three sentences why the sky is blue.",
    "Write a Python function that returns the n-th Fibonacci number, with a docstring.",
    "Translate to French: The train leaves at nine and arrives before noon.",
    "List ten English words that rhyme with 'light'.",
    "A shop sells pens at 3 for 2 dollars. How much do 12 pens cost? Show each step.",
    "Rewrite in the passive voice: The committee approved the budget after a long debate.",
    "Write the SQL that counts the orders of each customer in 2024, most orders first.",
    "Summarize the story of Little Red Riding Hood for a five-year-old.",
)


@dataclass(slots=True)
class Result:
    """One side's figures so far."""

    side: Side
    model: Counted
    drafter: Any
    stats: Stats = field(default_factory=Stats)
    seconds: float = 0.0
    answers: int = 0
    equal: int = 0

    def row(self, plain: float) -> dict[str, Any]:
        """The side's row. plain: seconds of plain decoding."""
        stats, steps = self.stats, self.stats.steps
        merged = getattr(getattr(self.drafter, "counts", None), "merged", 0)
        return {
            "drafter": self.side.name,
            "temperature": self.side.temperature,
            "tokens_per_step": stats.tokens_per_step,
            "accepted_per_step": stats.accepted / steps,
            "drafted_per_step": stats.drafted_per_step,
            "small_model_passes_per_step": self.model.passes / steps,
            "small_model_tokens_per_step": self.model.tokens / steps,
            "nodes_merged_per_step": merged / steps,
            "small_model_ms": 1e3 * self.model.seconds / steps,
            "draft_ms": 1e3 * stats.draft_seconds / steps,
            "verify_ms": 1e3 * (stats.score_seconds + stats.verify_seconds) / steps,
            "observe_ms": 1e3 * stats.observe_seconds / steps,
            "speedup": plain / self.seconds,
            "equal_outputs": self.equal / self.answers if self.side.same_text else None,
        }


def measure(
    llm: LanguageModel,
    small: TransformersDraftModel,
    prompts: Sequence[TokenIds],
    temperature: float,
    *,
    max_tokens: int,
    only: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """The rows of all sides at one temperature."""
    results = []
    for side in sides(temperature):
        if side.name == "plain" or not only or side.name in only:
            model = Counted(small)
            results.append(Result(side, model, side.drafter(model)))
    order = list(results)
    for number, prompt in enumerate(prompts):
        texts = {}
        for result in order:
            start = perf_counter()
            steps = list(
                decode(
                    llm.target,
                    result.drafter,
                    result.side.verifier(number),
                    prompt,
                    stop=Stop(max_tokens, llm.end_tokens),
                )
            )
            result.seconds += perf_counter() - start
            for step in steps:
                result.stats.add(step)
            texts[result.side.name] = [token for step in steps for token in step.tokens.tolist()]
        for result in results:
            result.answers += 1
            result.equal += texts[result.side.name] == texts["plain"]
        order.append(order.pop(0))
        if progress is not None:
            progress(number + 1)
    return [result.row(results[0].seconds) for result in results]


def agent_prompts(llm: LanguageModel, requests: int) -> Iterator[TokenIds]:
    """The prompts of the demo's agent, which hold the model's own answers."""
    for request in workload(0, requests):
        answers: list[str] = []
        for call in request.calls:
            prompt = llm.encode(call.prompt(answers), chat=False)
            yield prompt
            answers.append(llm.generate(prompt, max_tokens=96).text)


def read_prompts(path: Path) -> Iterator[str]:
    """`prompt` of every line of a JSONL file."""
    for line in path.read_text("utf-8").splitlines():
        if line.strip():
            yield json.loads(line)["prompt"]


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    bundled = options.target is None
    llm = load(options.target or target_path(), "none", device=options.device)
    small = TransformersDraftModel.load(
        options.drafter_model or drafter_path(), device=options.device
    )
    if bundled and options.prompts is None:
        prompts = list(agent_prompts(llm, options.requests))
    else:
        texts: Iterable[str] = PROMPTS if options.prompts is None else read_prompts(options.prompts)
        prompts = [llm.encode(text) for text in texts]
    llm.generate(prompts[0], max_tokens=4)  # a process's first passes are slow ones
    rows = []
    for temperature in options.temperatures:
        rows += measure(
            llm, small, prompts, temperature, max_tokens=options.max_tokens, only=options.only
        )
    print(table(rows))
    if bundled:  # in float32 on a CPU; elsewhere a near-tie may fall otherwise
        equal = all(row["equal_outputs"] in (None, 1.0) for row in rows)
        require(equal, "chosen drafts give the text of plain decoding")
    publish({"rows": rows, "prompts": len(prompts), "max_tokens": options.max_tokens}, options)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| drafter | T | tokens/step | drafted | passes | small tokens | merged | draft ms "
        "| verify ms | speed-up | equal |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        equal = "same law" if row["equal_outputs"] is None else f"{row['equal_outputs']:.0%}"
        lines.append(
            f"| {row['drafter']} | {row['temperature']:g} | {row['tokens_per_step']:.2f} "
            f"| {row['drafted_per_step']:.1f} | {row['small_model_passes_per_step']:.2f} "
            f"| {row['small_model_tokens_per_step']:.1f} | {row['nodes_merged_per_step']:.2f} "
            f"| {row['draft_ms']:.2f} | {row['verify_ms']:.2f} | {row['speedup']:.2f}x | {equal} |"
        )
    return "\n".join(lines)


def _options() -> Any:
    made = parser(__doc__)
    made.add_argument("--target", type=Path, help="a model folder (default: the bundled one)")
    made.add_argument("--drafter-model", type=Path, help="a small model's folder")
    made.add_argument("--prompts", type=Path, help="JSONL with `prompt`")
    made.add_argument("--requests", type=int, default=20, help="of the bundled agent")
    made.add_argument("--max-tokens", type=int, default=96)
    made.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 1.0])
    made.add_argument("--only", nargs="+", default=[], help="these sides, beside plain decoding")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--device")
    return read(made, requests=1, max_tokens=6)


if __name__ == "__main__":
    main()
