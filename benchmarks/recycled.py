"""Recycled logits beside Recall, and both in one tree: tokens per step, time and memory.

    python benchmarks/recycled.py [--requests 40] [--json] [--write]
    python benchmarks/recycled.py --target PATH --prompts FILE.jsonl [--suffix TEXT] [--json]

By default the demo model answers requests of which each asks another database that it never saw.
Any other model is given by path, with prompts from the `prompt` fields of a JSONL file (may be
gzip'ed). Every drafter begins empty and sees the same texts, one seed a prompt. "draft us" and
"observe us" are medians a step, on one thread; "pass ms" is that of the target's pass.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from draftwood.decode import decode
from draftwood.demo.run import load_demo
from draftwood.demo.workload import workload
from draftwood.draft import Budget, TokenIds
from draftwood.drafters.catalog import make_drafter
from draftwood.language_model import LanguageModel
from draftwood.load import load
from draftwood.protocols import Drafter, Step, Verifier
from draftwood.provenance import provenance
from draftwood.sampling.law import Sampling
from draftwood.stats import Stats
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel

DRAFTERS = ("recall", "recycled", "blend:first=recall,other=recycled")
TEMPERATURES = (0.0, 0.7, 1.0)
HERE = Path(__file__).parent


def main() -> None:
    options = parser(__doc__).parse_args()
    model = load_model(options)
    rows = []
    for temperature in options.temperatures:
        prompts = prompts_of(model, options, temperature)
        for spec in options.drafters:
            drafter = drafter_for(model, spec)
            steps = run(model, drafter, prompts, options.max_tokens, rule(temperature))
            row = {
                "drafter": shortened(spec),
                "temperature": temperature,
                "nbytes": memory(drafter),
            }
            rows.append(row | figures(steps))
            print_row(rows[-1], spec)
    publish("recycled", rows, options)


def figures(steps: Sequence[Step]) -> dict[str, Any]:
    """What one way took and brought."""
    stats = Stats.of(steps)
    return {
        "tokens_per_step": round(stats.tokens_per_step, 4),
        "drafted_per_step": round(stats.drafted_per_step, 2),
        "draft_us": round(1e6 * median(step.seconds.draft for step in steps), 1),
        "observe_us": round(1e6 * median(step.seconds.observe for step in steps), 1),
        "pass_ms": round(1e3 * median(step.seconds.score for step in steps), 3),
        "tokens": stats.tokens,
        "steps": stats.steps,
    }


def run(
    model: LanguageModel,
    drafter: Drafter | Callable[[int], Drafter],
    prompts: Sequence[TokenIds],
    max_tokens: int,
    verifier: Callable[[int], Verifier],
) -> list[Step]:
    """All steps of all prompts; a drafter, and a verifier, may be made for each prompt's seed."""
    steps: list[Step] = []
    for seed, prompt in enumerate(prompts):
        own = drafter(seed) if callable(drafter) else drafter
        stop = Stop(max_tokens, model.end_tokens)
        steps += decode(model.target, own, verifier(seed), prompt, budget=Budget(32), stop=stop)
    return steps


def drafter_for(model: LanguageModel, spec: str) -> Drafter:
    """A new drafter that suits the model."""
    return LanguageModel(model.target, model.tokenizer, make_drafter(spec), foresight=False).drafter


def rule(temperature: float) -> Callable[[int], Verifier]:
    """Greedy, or seeded sampling, by seed."""
    law = Sampling(temperature=temperature)
    if law.greedy:
        return lambda seed: Greedy()
    return lambda seed: SharedGumbel(GumbelNoise(seed), law)


def prompts_of(
    model: LanguageModel, options: argparse.Namespace, temperature: float
) -> list[TokenIds]:
    """Token ids of all prompts; the demo's depend on the model's earlier answers."""
    if options.target is None:
        return list(_demo_prompts(model, options, temperature))
    read = gzip.open if options.prompts.suffix == ".gz" else open
    with read(options.prompts, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["prompt"] for line in lines]
    texts = [text[-options.characters :] + options.suffix for text in texts]
    return [model.encode(text, chat=False) for text in texts[-options.requests :]]


def _demo_prompts(
    model: LanguageModel, options: argparse.Namespace, temperature: float
) -> Iterator[TokenIds]:
    seed = 0
    for request in workload(3, options.requests, databases=options.requests):
        answers: list[str] = []
        for call in request.calls:
            prompt = model.encode(call.prompt(answers), chat=False)
            yield prompt
            answers.append(model.generate(prompt, temperature=temperature, seed=seed).text)
            seed += 1


def memory(drafter: Any) -> int:
    """Bytes of history that a drafter holds, those of a blend's parts together."""
    parts = getattr(drafter, "parts", [drafter])
    return sum(getattr(part, "nbytes", 0) for part in parts)


def shortened(spec: str) -> str:
    """A spec without the folders of this machine."""
    return re.sub(r"=/[^\s,;']*/", "=", spec)


def parser(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--target", type=Path, help="a model's folder; None: the demo's")
    parser.add_argument("--prompts", type=Path, help="JSONL with a `prompt` in each line")
    parser.add_argument("--suffix", default="", help="put behind each prompt")
    parser.add_argument("--characters", type=int, default=600, help="of each prompt, its last")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--temperatures", type=float, nargs="+", default=list(TEMPERATURES))
    parser.add_argument("--drafters", nargs="+", default=list(DRAFTERS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", metavar="NAME", help="keep the rows under this name in results/")
    return parser


def load_model(options: argparse.Namespace) -> LanguageModel:
    if options.target is None:
        return load_demo()
    if options.prompts is None:
        raise SystemExit("--target needs --prompts FILE.jsonl")
    import torch

    torch.set_num_threads(1)
    return load(options.target, "none")


def print_row(row: dict[str, Any], name: str) -> None:
    print(
        f"T {row['temperature']:<4} {name:60} {row['tokens_per_step']:7.3f} tokens/step "
        f"{row['drafted_per_step']:6.1f} drafted {row['draft_us']:8.0f} draft us "
        f"{row['observe_us']:8.0f} observe us {row['pass_ms']:8.2f} pass ms",
        flush=True,
    )


def publish(script: str, rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print one JSON object, or add the rows to results/ under a name."""
    source = provenance()
    source["command"] = shortened(source["command"])
    result = {"rows": rows, "provenance": source}
    if options.write:
        path = HERE / "results" / f"{script}.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | {options.write: result}, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
