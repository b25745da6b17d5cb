"""Prompts answered by a model with different drafters: what the scripts about its logits share."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import command
from draftwood.decode import decode
from draftwood.demo.run import load_demo
from draftwood.demo.workload import workload
from draftwood.draft import Budget, TokenIds
from draftwood.drafters.catalog import make_drafter
from draftwood.language_model import LanguageModel
from draftwood.load import load
from draftwood.protocols import Drafter, Verifier
from draftwood.sampling.law import Sampling
from draftwood.stats import Stats
from draftwood.step import Step
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel

DRAFTERS = (
    "recall:recycle=no",
    "recycled",
    "blend:first=recall:recycle=no,other=recycled",
    "recall",
)
TEMPERATURES = (0.0, 0.7, 1.0)


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
    return LanguageModel(
        model.target, model.tokenizer, make_drafter(spec), noise_lookahead=False
    ).drafter


def rule(temperature: float) -> Callable[[int], Verifier]:
    """Greedy, or seeded sampling, by seed."""
    law = Sampling(temperature=temperature)
    if law.greedy:
        return lambda seed: Greedy()
    return lambda seed: SharedGumbel(GumbelNoise(seed), law)


def prompts_of(model: LanguageModel, options: Any, temperature: float) -> list[TokenIds]:
    """Token ids of all prompts; the demo's depend on the model's earlier answers."""
    if options.target is None:
        return list(_demo_prompts(model, options, temperature))
    read = gzip.open if options.prompts.suffix == ".gz" else open
    with read(options.prompts, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["prompt"] for line in lines]
    texts = [text[-options.characters :] + options.suffix for text in texts]
    return [model.encode(text, chat=False) for text in texts[-options.requests :]]


def _demo_prompts(model: LanguageModel, options: Any, temperature: float) -> Iterator[TokenIds]:
    seed = 0
    for request in workload(3, options.requests, databases=options.requests):
        answers: list[str] = []
        for call in request.calls:
            prompt = model.encode(call.prompt(answers), chat=False)
            yield prompt
            answers.append(model.generate(prompt, temperature=temperature, seed=seed).text)
            seed += 1


def read(about: str | None) -> Any:
    """The options of a script that answers prompts."""
    made = command.parser(about)
    made.add_argument("--target", type=Path, help="a model's folder; None: the demo's")
    made.add_argument("--prompts", type=Path, help="JSONL with a `prompt` in each line")
    made.add_argument("--suffix", default="", help="put after each prompt")
    made.add_argument("--characters", type=int, default=600, help="of each prompt, its last")
    made.add_argument("--requests", type=int, default=40)
    made.add_argument("--max-tokens", type=int, default=96)
    made.add_argument("--temperatures", type=float, nargs="+", default=list(TEMPERATURES))
    made.add_argument("--drafters", nargs="+", default=list(DRAFTERS))
    made.add_argument("--under", metavar="NAME", help="name of the rows in --out [demo, or model]")
    options = command.read(made, requests=1, max_tokens=24, temperatures=[0.0, 0.7])
    if options.target and options.prompts is None:
        made.error("--target needs --prompts FILE.jsonl")
    return options


def load_model(options: Any) -> LanguageModel:
    if options.target is None:
        return load_demo()
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


def publish(rows: list[dict[str, Any]], options: Any) -> None:
    """The result, under the model's name where --out keeps several."""
    model = options.target.name if options.target else "demo"
    command.publish({"rows": rows}, options, under=options.under or model)
