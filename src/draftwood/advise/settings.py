"""What to paste into each engine."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from draftwood.advise.run import Advice, Tried


@dataclass(frozen=True, slots=True)
class Setting:
    """How an engine is told. gains: the best candidate that it can run."""

    engine: str
    title: str
    text: str
    gains: Tried


def settings_of(advice: Advice) -> Iterator[Setting]:
    """A setting for each engine for which something gains, the best first."""
    found = []
    for engine, title, text in _ENGINES:
        best = advice.best_for(engine)
        if best is not None and best.gain.low > 1.0:
            spec = best.candidate.spec
            found.append(Setting(engine, title, text(spec), best))
    yield from sorted(found, key=lambda each: -each.gains.gain.speedup)


def _ours(spec: str) -> str:
    drafter, cost = _parted(spec)
    return f'llm = draftwood.load("MODEL", {json.dumps(drafter)}, cost="{cost}")'


def _served(spec: str) -> str:
    drafter, cost = _parted(spec)
    return f"draftwood serve --model MODEL --drafter {shlex.quote(drafter)} --cost {cost}"


def _parted(spec: str) -> tuple[str, str]:
    """The spec without its cost, and the cost."""
    name, _, options = spec.partition(":")
    given = [each for each in options.split(",") if each]
    kept = ",".join(each for each in given if not each.startswith("cost="))
    cost = next((each[5:] for each in given if each.startswith("cost=")), "none")
    return f"{name}:{kept}" if kept else name, cost


def _vllm(spec: str) -> str:
    name, _, options = spec.partition(":")
    kept = ",".join(
        each for each in options.split(",") if each and not each.startswith(("cost=", "mode=chain"))
    )
    drafter = f"{name}:{kept}" if kept else name
    config = json.dumps({"draftwood": {"drafter": drafter}})
    return (
        "vllm serve MODEL --speculative-config "
        '\'{"model": "draftwood.vllm.Proposer", "num_speculative_tokens": 24}\' '
        f"--additional-config '{config}'"
    )


def _vllm_suffix(_spec: str) -> str:
    config = '{"method": "suffix", "num_speculative_tokens": 24}'
    return f"vllm serve MODEL --speculative-config '{config}'"


def _vllm_ngram(_spec: str) -> str:
    config = '{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 3}'
    return f"vllm serve MODEL --speculative-config '{config}'"


def _sglang(spec: str) -> str:
    drafter, _ = _parted(spec)  # the door has a budget by itself
    options = shlex.quote(json.dumps({"drafter": drafter}))
    return (
        f"DRAFTWOOD_OPTIONS={options} sglang serve MODEL --speculative-algorithm DRAFTWOOD "
        "--speculative-num-draft-tokens 32"
    )


def _sglang_ngram(_spec: str) -> str:
    return (
        "python -m sglang.launch_server --model-path MODEL --speculative-algorithm NGRAM "
        "--speculative-num-draft-tokens 6 --speculative-ngram-max-bfs-breadth 1"
    )


def _llama_cpp(_spec: str) -> str:
    return (
        "llama-server -m MODEL.gguf --spec-type ngram-simple --spec-ngram-simple-size-n 3 "
        "--spec-ngram-simple-size-m 5"
    )


_ENGINES = (
    ("draftwood", "Draftwood's own loop: trees", _ours),
    ("draftwood", "Draftwood's server", _served),
    ("vllm", "vLLM with Draftwood: chains", _vllm),
    ("sglang", "SGLang with Draftwood: trees", _sglang),
    ("vllm-suffix", "vLLM alone, its suffix method", _vllm_suffix),
    ("vllm-ngram", "vLLM alone, its n-gram method", _vllm_ngram),
    ("sglang-ngram", "SGLang alone; its n-grams are nearest to the lookup tried", _sglang_ngram),
    ("llama.cpp", "llama.cpp alone; its n-grams are nearest to the lookup tried", _llama_cpp),
)
