"""Plain decoding and drafters on a real model, over sixty prompts of our own, side by side.

    python benchmarks/real/run.py --model FOLDER_OR_HUB_ID [--count 60] [--batches 1 8] [--json]

All sides share one target, so plain decoding runs by the same pass. They answer each prompt, or
each batch of prompts, in turn, another one first each time; a side's time is that of its whole
calls, prompts included. `equal` is the share of texts that are plain decoding's, at temperature 0
and with a seed above. `generate` and `prompt lookup` are those of transformers, same weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.common.command import parser, publish, read, require
from draftwood.draft import TokenIds
from draftwood.load import LanguageModel, load

SPECS = {
    "plain": "none",
    "lookup": "lookup",
    "suffix": "suffix:mode=tree",
    "recall:cost=none": "recall:cost=none",
    "recall:cost=auto": "recall",
}
"""Sides and their drafters; where a spec names no cost, it is measured."""

DRAFTED = 10
"""Tokens that transformers' prompt lookup drafts, as its documentation has it."""

Answer = Callable[[Sequence[TokenIds], float, int], list[list[int]]]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", default="demo", help="a folder or a Hub id")
    made.add_argument("--prompts", type=Path, default=Path(__file__).with_name("prompts.jsonl"))
    made.add_argument("--count", type=int, default=60, help="prompts, evenly of all kinds")
    made.add_argument("--tokens", type=int, default=64, help="generated tokens a prompt, at most")
    made.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    made.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 0.7])
    made.add_argument("--threads", type=int, default=1)
    options = read(made, count=3, tokens=6, batches=[2], temperatures=[0.0])

    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    with load(options.model, "none", device="cpu") as model:
        prompts = encoded(model, options.prompts, options.count)
        for batch in options.batches:
            for temperature in options.temperatures:
                found = measured(model, prompts, batch, temperature, options.tokens)
                rows += [{"batch": batch, "temperature": temperature} | row for row in found]
    print("| batch | temperature | side | tokens/s | over plain | equal |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['batch']} | {row['temperature']} | `{row['side']}` "
            f"| {row['tokens_per_second']:.1f} | {row['over_plain']:.2f}x | {row['equal']:.1%} |"
        )
    require(all(row["tokens_per_second"] > 0 for row in rows), "every side generates tokens")
    publish({"rows": rows, "prompts": len(prompts)}, options)


def encoded(model: LanguageModel, path: Path, count: int) -> list[TokenIds]:
    """The ids of so many prompts, those of all kinds taking turns."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    kinds: dict[str, list[str]] = {}
    for line in lines:
        kinds.setdefault(line["kind"], []).append(line["prompt"])
    turns = [prompt for group in zip(*kinds.values(), strict=True) for prompt in group]
    return [model.encode(prompt) for prompt in turns[:count]]


def measured(
    model: LanguageModel, prompts: Sequence[TokenIds], batch: int, temperature: float, tokens: int
) -> list[dict[str, Any]]:
    """What each side took for all prompts, in groups of `batch`."""
    sides = answerers(model, tokens, own=batch == 1 and temperature == 0.0)
    seconds, generated, equal = (dict.fromkeys(sides, 0.0) for _ in range(3))
    names, seed = list(sides), 0
    for first in range(0, len(prompts), batch):
        group, seed = prompts[first : first + batch], seed + 1
        texts: dict[str, list[list[int]]] = {}
        for name in names:
            start = perf_counter()
            texts[name] = sides[name](group, temperature, seed)
            seconds[name] += perf_counter() - start
        for name in names:
            generated[name] += sum(map(len, texts[name]))
            equal[name] += sum(
                own == plain for own, plain in zip(texts[name], texts["plain"], strict=True)
            )
        names.append(names.pop(0))
    speeds = {name: generated[name] / seconds[name] for name in sides}
    return [
        {
            "side": name,
            "tokens_per_second": speeds[name],
            "over_plain": speeds[name] / speeds["plain"],
            "equal": equal[name] / len(prompts),
        }
        for name in sides
    ]


def answerers(model: LanguageModel, tokens: int, *, own: bool) -> dict[str, Answer]:
    """Each side by name; own: with those of transformers, which answer one prompt at a time."""
    sides = {
        name: drafting(LanguageModel(model.target, model.tokenizer, spec, cost="auto"), tokens)
        for name, spec in SPECS.items()
    }
    if own:
        sides["generate"] = theirs(model, tokens)
        sides["prompt lookup"] = theirs(model, tokens, prompt_lookup_num_tokens=DRAFTED)
    return sides


def drafting(model: LanguageModel, tokens: int) -> Answer:
    """Answers of a model with its drafter."""

    def answer(prompts: Sequence[TokenIds], temperature: float, seed: int) -> list[list[int]]:
        options: Any = {"max_tokens": tokens, "temperature": temperature}
        if temperature > 0:
            options["seed"] = seed
        texts = model.generate(list(prompts), **options)
        return [text.tokens.tolist() for text in texts]

    return answer


def theirs(model: LanguageModel, tokens: int, **options: Any) -> Answer:
    """Greedy answers of transformers' `generate`."""
    network: Any = model.target.model

    def answer(prompts: Sequence[TokenIds], temperature: float, seed: int) -> list[list[int]]:
        ids = torch.tensor(prompts[0].tolist())[None]
        text = network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=tokens,
            pad_token_id=0,
            **options,
        )
        return [text[0, ids.shape[1] :].tolist()]

    return answer


if __name__ == "__main__":
    main()
