"""What the loop costs beyond the model's forward pass, as a share of a plain step.

    python benchmarks/loop/run.py [--tokens 64] [--rounds 5] [--json]

A random-weight Llama of 15 M parameters decodes greedily on one CPU thread. Rounds of all rows are
interleaved and medians taken over all steps, so that a busy machine disturbs every row alike. A
step's overhead is its wall-clock time less the time inside the model's forward pass; "share" is
the median overhead over the median forward pass of a plain step (one row, no draft).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.common.command import parser, publish, read, require
from draftwood.decode import decode
from draftwood.draft import Budget
from draftwood.drafters.catalog import make_drafter
from draftwood.targets.transformers.target import TransformersTarget
from draftwood.testing import oracle, random_trees
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

VOCAB_SIZE = 8192
PROMPT = [(17 + 31 * i * i) % 211 for i in range(200)]


@dataclass
class Row:
    """Times of one way to decode, in milliseconds a step."""

    name: str
    step: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)
    draft: list[float] = field(default_factory=list)
    tokens: int = 0

    def overheads(self) -> list[float]:
        """Milliseconds of each step beyond the forward pass."""
        return [step - forward for step, forward in zip(self.step, self.forward, strict=True)]


class ForwardClock:
    """Milliseconds spent inside a target's passes, or its model's own, since the last reading."""

    def __init__(self, target: TransformersTarget) -> None:
        self.spent = self._start = 0.0
        self._depth = 0
        target.model.register_forward_pre_hook(self._begin)
        target.model.register_forward_hook(self._end)
        self._run, target.network.run = target.network.run, self._timed  # type: ignore[method-assign]

    def read(self) -> float:
        """The time spent; begin anew."""
        spent, self.spent = self.spent, 0.0
        return spent

    def _timed(self, *arguments: Any, **options: Any) -> torch.Tensor:
        self._begin()
        try:
            return self._run(*arguments, **options)
        finally:
            self._end()

    def _begin(self, *_: object) -> None:
        if not self._depth:
            self._start = perf_counter()
        self._depth += 1

    def _end(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.spent += 1000 * (perf_counter() - self._start)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--tokens", type=int, default=64, help="tokens a round")
    made.add_argument("--rounds", type=int, default=5)
    options = read(made, tokens=40, rounds=1)

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=384,
        num_hidden_layers=7,
        num_attention_heads=6,
        num_key_value_heads=6,
        intermediate_size=1024,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    target = TransformersTarget(model)
    text = [*PROMPT, *run(target, make_drafter("none"), options.tokens + 64, None, Row(""))]
    clock = ForwardClock(target)

    small = Budget(16)
    ways: dict[str, Callable[[Row], Any]] = {
        "plain: empty drafts": lambda row: run(
            target, make_drafter("none"), options.tokens, clock, row
        ),
        "suffix, 16 nodes": lambda row: run(
            target, make_drafter("suffix"), options.tokens, clock, row, small
        ),
        "right chains, 16 nodes": lambda row: run(
            target, oracle(text, vocab_size=VOCAB_SIZE), options.tokens, clock, row, small
        ),
        "half-right trees, 16 nodes": lambda row: run(
            target,
            oracle(text, vocab_size=VOCAB_SIZE, decoys=3, errors=0.3),
            options.tokens,
            clock,
            row,
            small,
        ),
        "wrong trees, up to 16 nodes": lambda row: run(
            target, random_trees(VOCAB_SIZE), options.tokens, clock, row, small
        ),
        "transformers generate": lambda row: run_generate(model, options.tokens, clock, row),
    }
    rows = {name: Row(name) for name in ways}
    for counted in range(-1, options.rounds):  # the first round warms up
        for name, way in ways.items():
            way(rows[name] if counted >= 0 else Row(name))

    parameters = sum(p.numel() for p in model.parameters())
    plain = median(rows["plain: empty drafts"].forward)
    if not options.json:
        print(f"Llama, {parameters / 1e6:.1f} M parameters, one thread; plain pass {plain:.2f} ms")
        print(
            f"{'':28}{'tokens/step':>12}{'pass ms':>9}{'beyond ms':>11}{'draft ms':>10}{'share':>8}"
        )
    results = []
    for row in rows.values():
        beyond = median(row.overheads())
        figures = {
            "name": row.name,
            "tokens_per_step": round(row.tokens / len(row.step), 2),
            "pass_ms": round(median(row.forward), 3),
            "beyond_ms": round(beyond, 3),
            "draft_ms": round(median(row.draft), 3),
            "share_of_plain_step": round(beyond / plain, 4),
            "parameters": parameters,
        }
        results.append(figures)
        if options.json:
            print(json.dumps(figures))
        else:
            print(
                f"{row.name:28}{figures['tokens_per_step']:12.2f}{figures['pass_ms']:9.2f}"
                f"{beyond:11.3f}{figures['draft_ms']:10.3f}{beyond / plain:8.1%}"
            )
    tokens = {row.tokens for name, row in rows.items() if name.startswith("plain")}
    require(tokens == {options.rounds * (options.tokens - 1)}, "every round gives all its tokens")
    require(all(row["pass_ms"] > 0 for row in results), "passes take time")
    publish({"rows": results}, options)


def run(
    target: TransformersTarget,
    drafter: Any,
    count: int,
    clock: ForwardClock | None,
    row: Row,
    budget: Budget | None = None,
) -> list[int]:
    """Decode `count` tokens; the step that computes the prompt is not counted."""
    tokens: list[int] = []
    stop = Stop(max_tokens=count)
    start = perf_counter()
    for step in decode(target, drafter, Greedy(), PROMPT, budget=budget, stop=stop):
        wall = 1000 * (perf_counter() - start)
        forward = clock.read() if clock else 0.0
        if tokens:
            row.step.append(wall)
            row.forward.append(forward)
            row.draft.append(1000 * (step.seconds.draft + step.seconds.observe))
            row.tokens += len(step.tokens)
        tokens += step.tokens.tolist()
        start = perf_counter()
    return tokens


def run_generate(model: Any, count: int, clock: ForwardClock, row: Row) -> None:
    """As information: the same tokens by transformers' own loop."""
    ids = torch.tensor([PROMPT])
    times: list[tuple[float, float]] = []

    class Watch:
        """A streamer that notes the time at each token."""

        def put(self, _: torch.Tensor) -> None:
            times.append((1000 * perf_counter(), clock.read()))

        def end(self) -> None:
            pass

    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
        streamer=Watch(),
    )
    for (before, _), (after, forward) in pairwise(times[1:]):
        row.step.append(after - before)
        row.forward.append(forward)
        row.draft.append(0.0)
        row.tokens += 1


if __name__ == "__main__":
    main()
