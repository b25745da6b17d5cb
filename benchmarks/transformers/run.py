"""transformers' `generate` with Draftwood's loop, beside its own ways to draft, in one run.

    python benchmarks/transformers/run.py --model PATH [--assistant PATH] [--json]

Sides answer each prompt in turn, another one first each time, through `model.generate` with one
set of options; a side's time is that of its whole calls, prompts included. `equal` is the share of
texts that are plain `generate`'s. Sampled text is drawn with `torch.manual_seed`.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import draftwood.transformers
from benchmarks.common.command import parser, publish, read, require
from draftwood.bundled import bundled

OURS = {
    "none": "none",
    "recall": "recall",
    "recall:cost=none": "recall:cost=none",
    "lookup": "lookup",
}
"""Sides and the drafters that they name."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", default="demo", help="a folder, a Hub id, or demo")
    made.add_argument("--assistant", help="a small model of the same tokenizer")
    made.add_argument(
        "--prompts", type=Path, default=Path(__file__).parents[1] / "real/prompts.jsonl"
    )
    made.add_argument("--count", type=int, default=30, help="prompts")
    made.add_argument("--tokens", type=int, default=64, help="generated tokens a prompt, at most")
    made.add_argument("--drafted", type=int, default=10, help="of transformers' prompt lookup")
    made.add_argument("--temperatures", type=float, nargs="+", default=[0.0])
    made.add_argument("--threads", type=int, default=1)
    options = read(made, count=3, tokens=8)
    if options.smoke and options.assistant is None:
        options.assistant = "demo-small"

    torch.set_num_threads(options.threads)
    model, tokenizer = loaded(options.model)
    sides: dict[str, dict[str, Any]] = {
        "generate": {},
        "prompt_lookup_num_tokens": {"prompt_lookup_num_tokens": options.drafted},
    }
    if options.assistant:
        sides["assistant_model"] = {"assistant_model": loaded(options.assistant)[0]}
    for name, spec in OURS.items():
        loop = draftwood.transformers.generate
        sides[f"draftwood {name}"] = {"custom_generate": loop, "drafter": spec}
    prompts = encoded(tokenizer, options.prompts, options.count)
    rows = [
        {"temperature": temperature} | row
        for temperature in options.temperatures
        for row in measured(model, prompts, sides, temperature, options.tokens)
    ]
    print("| temperature | side | tokens/s | over generate | median of prompts | equal |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['temperature']} | `{row['side']}` | {row['tokens_per_second']:.1f} "
            f"| {row['over_plain']:.2f}x | {row['median']:.2f}x | {row['equal']:.1%} |"
        )
    exact = [row["equal"] for row in rows if row["temperature"] == 0]
    require(min(exact, default=1.0) > 0, "greedy texts of all sides agree on some prompt")
    publish({"rows": rows, "prompts": len(prompts), "tokens": options.tokens}, options)


def loaded(name: str) -> tuple[Any, Any]:
    """A model in float32 on the CPU, and its tokenizer."""
    model: Any = AutoModelForCausalLM.from_pretrained(bundled(name), dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(bundled(name))


def encoded(tokenizer: Any, path: Path, count: int) -> list[torch.Tensor]:
    """Token ids [1, L] of the first prompts of every kind, in turns."""
    kinds: dict[str, list[str]] = {}
    for line in map(json.loads, path.read_text("utf-8").splitlines()):
        kinds.setdefault(line["kind"], []).append(line["prompt"])
    turns = [prompt for group in zip(*kinds.values(), strict=True) for prompt in group][:count]
    if tokenizer.chat_template is None:
        return [tokenizer(text, return_tensors="pt").input_ids for text in turns]
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        ).input_ids
        for text in turns
    ]


def measured(
    model: Any,
    prompts: list[torch.Tensor],
    sides: dict[str, dict[str, Any]],
    temperature: float,
    tokens: int,
) -> list[dict[str, Any]]:
    """What each side took for all prompts, the first one once more beforehand."""
    names = list(sides)
    for name in names:
        answer(model, prompts[0], sides[name], temperature, min(tokens, 8))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    made: dict[str, list[list[int]]] = {name: [] for name in names}
    for prompt in prompts:
        for name in names:
            start = perf_counter()
            made[name].append(answer(model, prompt, sides[name], temperature, tokens))
            seconds[name].append(perf_counter() - start)
        names.append(names.pop(0))

    def rates(name: str) -> list[float]:
        return [len(text) / took for text, took in zip(made[name], seconds[name], strict=True)]

    plain = sum(map(len, made["generate"])) / sum(seconds["generate"])
    rows = []
    for name in sides:
        rate = sum(map(len, made[name])) / sum(seconds[name])
        each = zip(rates(name), rates("generate"), strict=True)
        equal = [text == own for text, own in zip(made[name], made["generate"], strict=True)]
        rows.append(
            {
                "side": name,
                "tokens_per_second": rate,
                "over_plain": rate / plain,
                "median": statistics.median(ours / theirs for ours, theirs in each),
                "equal": sum(equal) / len(equal),
            }
        )
    return rows


def answer(
    model: Any, prompt: torch.Tensor, own: dict[str, Any], temperature: float, tokens: int
) -> list[int]:
    """The generated tokens of one call."""
    torch.manual_seed(1)
    drawn = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    text = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=tokens,
        pad_token_id=0,
        **drawn,
        **own,
    )
    found: list[int] = text[0, prompt.shape[1] :].tolist()
    return found


if __name__ == "__main__":
    main()
