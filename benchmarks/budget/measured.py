"""The demo model at several batch sizes, on this machine: measured budgets beside fixed ones.

The sides answer the same calls of the demo's agents in turn, a few batches each time, another side
first every time. Ours begins as `load` lets it begin, with a second of timed passes that is not
counted. A side's time is the wall clock of its whole calls, prompts included; what is
compared are medians, over the turns, of its seconds a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from time import perf_counter
from typing import Any

from draftwood.budget.measured import MeasuredCost
from draftwood.budget.spending import Spending
from draftwood.demo.run import load_demo
from draftwood.demo.workload import workload
from draftwood.draft import TokenIds
from draftwood.drafters.catalog import make_drafter
from draftwood.load import LanguageModel

PLAIN, OURS = "plain", "ours"
SIDES = {
    PLAIN: "none",
    "fixed 16": "recall:nodes=16,floor=0",
    "fixed 32": "recall:nodes=32,floor=0",
    OURS: "recall:nodes=64,floor=0.001",
}
BATCHES = (1, 4, 16)
_TURN_CALLS = 32
"""Calls of a turn; at least two batches."""
_MAX_TOKENS = 96


def measure(requests: int, batches: Iterable[int] = BATCHES) -> dict[str, dict[str, Any]]:
    """By batch size and side: median tokens a second, their ratio to plain, tokens per step.

    `equal`: the share of calls with the plain side's tokens.
    """
    with load_demo() as demo:
        prompts = _prompts(demo, requests)
        return {str(batch): _compare(demo, prompts, batch) for batch in batches}


def _prompts(demo: LanguageModel, requests: int) -> list[TokenIds]:
    """The prompts of all calls, which hold the model's own answers to earlier ones."""
    side = LanguageModel(demo.target, demo.tokenizer, make_drafter("recall"))
    prompts: list[TokenIds] = []
    for request in workload(0, requests):
        answers: list[str] = []
        for call in request.calls:
            prompt = side.encode(call.prompt(answers), chat=False)
            prompts.append(prompt)
            answers.append(side.generate(prompt, max_tokens=_MAX_TOKENS).text)
    return prompts


def _compare(demo: LanguageModel, prompts: list[TokenIds], batch: int) -> dict[str, Any]:
    models = {
        name: LanguageModel(
            demo.target,
            demo.tokenizer,
            make_drafter(spec),
            budget=_spending(demo) if name == OURS else None,
        )
        for name, spec in SIDES.items()
    }
    names = list(models)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    equal = dict.fromkeys(names, 0)
    size = max(_TURN_CALLS, 2 * batch)
    turns = [prompts[at : at + size] for at in range(0, len(prompts) - size + 1, size)]
    if not turns:
        raise SystemExit(
            f"batch {batch} takes {size} calls a turn and there are {len(prompts)}; "
            "ask for more --requests, or for smaller --batches"
        )
    for turn in turns:
        texts: dict[str, list[list[int]]] = {}
        for name in names:
            start = perf_counter()
            texts[name] = _answer(models[name], turn, batch)
            taken = perf_counter() - start
            seconds[name].append(taken / sum(map(len, texts[name])))
        for name in names:
            equal[name] += sum(map(list.__eq__, texts[name], texts[PLAIN]))
        names.append(names.pop(0))
    plain = median(seconds[PLAIN])
    calls = size * len(turns)
    return {
        name: {
            "tokens_per_second": 1.0 / median(seconds[name]),
            "over_plain": plain / median(seconds[name]),
            "tokens_per_step": models[name].stats.tokens_per_step,
            "drafted_per_step": models[name].stats.drafted_per_step,
            "equal": equal[name] / calls,
            "turns": len(turns),
        }
        for name in SIDES
    }


def _spending(demo: LanguageModel) -> Spending:
    """A spender as `load` makes it for `cost=auto`."""
    cost = MeasuredCost()
    cost.sweep(demo.target, [0] * 32, sizes=(0, 2, 8, 24), batches=(1, 8), rounds=3, seconds=1.0)
    return Spending(cost)


def _answer(model: LanguageModel, prompts: list[TokenIds], batch: int) -> list[list[int]]:
    if batch == 1:
        made = [model.generate(prompt, max_tokens=_MAX_TOKENS) for prompt in prompts]
    else:
        made = model.generate(prompts, max_tokens=_MAX_TOKENS, max_batch=batch)
    return [each.tokens.tolist() for each in made]
