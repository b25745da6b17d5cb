"""Samples of the same prompts inside vLLM that share one history, and what old policies are worth.

    python benchmarks/rollouts/run.py --traces T/rollout-qwen25math_maj8_A.jsonl.gz \
        --policies T/rollout-skythought_aime24_ckpts_A-skyt1_32b.jsonl.gz --tokenizer PATH --json

Eight recorded samples of each of four prompts are one batch, as in a rollout; what they say is
forced (see benchmarks/vllm), and history is empty at the start: samples draft from one another
while they are generated. Engines take turns on the same batches; figures are of CPU seconds on one
thread, over_none and over_suffix are medians of batches' ratios. Where vLLM is not installed, that
part has no rows. With --policies, whose records name the policy that gave them, answers are
replayed policy by policy with four amounts of history. The budget learns from wall clock: publish
figures of a quiet machine only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.command import parser, publish, read, require
from benchmarks.rollouts.policies import KEPT, generations, tokens_per_step, two_policies
from benchmarks.vllm.run import figures_of, names_of, turns
from benchmarks.vllm.traffic import Request, Traffic, recorded


def main() -> None:
    """Run, and print the tables."""
    made = parser(__doc__, traces=True)
    made.add_argument("--policies", type=Path, help="a trace whose records name their policy")
    made.add_argument("--engines", default="none,suffix,draftwood")
    made.add_argument("--prompts", type=int, default=4, help="of a batch")
    made.add_argument("--samples", type=int, default=8, help="of each prompt")
    made.add_argument("--chunks", type=int, default=4, help="timed batches")
    made.add_argument("--warm", type=int, default=1, help="batches before those")
    made.add_argument("--tokens", type=int, default=96, help="of each answer, at most")
    made.add_argument("--prompt", type=int, default=384, help="of each prompt, at most")
    made.add_argument("--hidden", type=int, default=576)
    made.add_argument("--layers", type=int, default=24)
    made.add_argument(
        "--replayed", type=int, default=1500, help="tokens of an answer of --policies"
    )
    options = read(
        made,
        engines="none,draftwood",
        prompts=2,
        samples=2,
        chunks=1,
        warm=0,
        tokens=12,
        hidden=192,
        layers=2,
    )
    if options.smoke and not options.policies:
        options.policies = two_policies(options.traces[0])
    rows: list[dict[str, Any]] = []
    if find_spec("vllm") is None:
        print("vLLM is not installed: rollouts are not measured (pip install 'draftwood[vllm]')")
    else:
        rows = _rollouts(options)
    policies = _policies(options) if options.policies else []
    settings = ("engines", "prompts", "samples", "chunks", "warm", "tokens", "hidden", "layers")
    publish(
        {
            "rows": rows,
            "policies": policies,
            "settings": {name: vars(options)[name] for name in settings},
        },
        options,
    )


def _rollouts(options: Any) -> list[dict[str, Any]]:
    found = []
    for path in options.traces:
        (traffic,) = recorded(
            [path],
            options.tokenizer,
            records=10_000,
            prompt=options.prompt,
            answer=options.tokens,
            served=1,
        )
        batches = _batches(traffic.requests, options.prompts, options.samples)
        count = options.warm + options.chunks
        if options.smoke:
            size = options.prompts * options.samples
            batches = [traffic.requests[:size]]
        require(len(batches) >= count, f"{path.name} has {count} batches")
        bare = Traffic(path.name, None, [], [], traffic.vocab_size)
        names = names_of(options.engines)
        sides = turns(bare, names, batches[:count], options)
        found += figures_of(path.name, len(batches[0]), names, sides)
    return found


def _batches(requests: Sequence[Request], prompts: int, samples: int) -> list[list[Request]]:
    """Neighboring requests with one prompt are its samples."""
    groups = [list(found) for _, found in groupby(requests, key=lambda each: each.prompt)]
    whole = [found[:samples] for found in groups if len(found) >= samples]
    return [
        [each for group in whole[at : at + prompts] for each in group]
        for at in range(0, len(whole) - prompts + 1, prompts)
    ]


def _policies(options: Any) -> list[dict[str, Any]]:
    found = generations(options.policies, options.tokenizer, answer=options.replayed)
    require(len(found) > 1, f"{options.policies.name} has several policies")
    rows = []
    for kept in KEPT:
        each = list(tokens_per_step(found, kept))
        later = [row["tokens_per_step"] for row in each[1:]]
        rows.append({"kept": kept, "tokens_per_step": mean(later), "policies": len(each)})
        print(f"{kept}: {mean(later):.3f} tokens a step, policies 2 to {len(each)}", flush=True)
    return rows


if __name__ == "__main__":
    main()
