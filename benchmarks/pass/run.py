"""What a pass over several rows costs beside one: the library's pass and ours, on a CPU.

    python benchmarks/pass/run.py --model 120m [--threads 1 2] [--contexts 200] [--json]

`ours` is the bare pass, `library` the same model's own forward with the same cache. Both sides take
turns and medians are taken, so that a busy machine disturbs both alike. `layers`: whether native
code makes our layers, or PyTorch's operators on packed weights. `bytes_per_second` is what has to
be read for a pass of ours, weights, keys and values, over its time; `stream_bytes_per_second` is
how fast this machine read a large array in the same run.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.common.command import parser, publish, read, require
from draftwood.draft import Draft, TokenIds
from draftwood.targets.transformers.batch import TransformersBatch
from draftwood.targets.transformers.cursor import TransformersCursor
from draftwood.targets.transformers.load import read_model
from draftwood.targets.transformers.network import Network
from draftwood.targets.transformers.packed import pack_linears

SHAPES = {  # hidden, layers, heads, groups, intermediate, vocabulary
    "tiny": (64, 2, 4, 2, 128, 512),
    "15m": (384, 7, 6, 6, 1024, 8192),
    "120m": (768, 12, 12, 4, 2048, 32000),
    "500m": (1280, 22, 20, 5, 3584, 32000),
}
"""Random Llamas by the parameters that they have about."""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", default="120m", help=f"a path, or one of {', '.join(SHAPES)}")
    made.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    made.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    made.add_argument("--contexts", type=int, nargs="+", default=[200])
    made.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    made.add_argument("--rounds", type=int, default=15)
    options = read(made, model="tiny", threads=[1], rows=[1, 8], contexts=[40], rounds=3)

    library, ours = networks(options.model)
    name = Path(options.model).name
    rows: list[dict[str, Any]] = []
    streams: dict[int, float] = {}
    for threads in options.threads:
        torch.set_num_threads(threads)
        streams[threads] = stream(4_000_000 if options.smoke else 64_000_000)
        for batch in options.batches:
            for context in options.contexts:
                found = measured(library, ours, options, batch, context)
                one = found[options.rows[0]][1]
                for count, (theirs, own) in found.items():
                    row = {
                        "model": name,
                        "threads": threads,
                        "rows": count,
                        "context": context,
                        "batch": batch,
                        "layers": "native" if ours.lean and ours.lean.native else "torch",
                        "library_ms": round(1e3 * theirs, 3),
                        "ours_ms": round(1e3 * own, 3),
                        "over_one_row": round(own / one, 3),
                        "bytes_per_second": round(needed(ours, batch * context) / own),
                        "stream_bytes_per_second": streams[threads],
                    }
                    rows.append(row)
                    print(*(f"{name} {value}" for name, value in row.items()), flush=True)
    require(all(row["ours_ms"] > 0 for row in rows), "passes take time")
    result = {"rows": rows, "stream_bytes_per_second": streams[options.threads[0]]}
    publish(result, options, under=f"{name}, {' '.join(map(str, options.contexts))} tokens")


def networks(name: str) -> tuple[Network, Network]:
    """The passes of a model as the library makes them, and ours; both of the same numbers."""
    if name in SHAPES:
        torch.manual_seed(0)
        hidden, layers, heads, groups, inner, vocabulary = SHAPES[name]
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=groups,
            intermediate_size=inner,
            max_position_embeddings=16384,
            tie_word_embeddings=True,
            eos_token_id=None,
        )
        model = LlamaForCausalLM(config).eval()
    else:
        model, _ = read_model(name, packed=False, tokenizer_needed=False)
    ours = Network(model)
    if ours.lean is None or ours.lean.native is None:
        packed = copy.deepcopy(model)
        pack_linears(packed)
        ours = Network(packed)
    require(ours.lean is not None, "the model has a bare pass")
    return Network(model, lean=False), ours


def measured(
    library: Network, ours: Network, options: Any, batch: int, context: int
) -> dict[int, tuple[float, float]]:
    """Median seconds of the library's pass and of ours, by rows of each sequence."""
    prompt = ((7919 * np.arange(context)) % library.vocab_size).astype(np.int32)
    times: dict[int, tuple[list[float], list[float]]] = {rows: ([], []) for rows in options.rows}
    with torch.inference_mode():
        sides = [scorer(network, prompt, batch) for network in (library, ours)]
        for counted in range(-2, options.rounds):  # the first rounds warm up
            for rows, seconds in times.items():
                draft = Draft.chain(prompt[: rows - 1])
                for score, spent in zip(sides, seconds, strict=True):
                    start = perf_counter()
                    score(draft)
                    if counted >= 0:
                        spent.append(perf_counter() - start)
    return {rows: (median(theirs), median(own)) for rows, (theirs, own) in times.items()}


def scorer(network: Network, prompt: TokenIds, batch: int) -> Callable[[Draft], object]:
    """A pass over a draft after so many sequences of the same prompt, which is computed by now."""
    if batch == 1:
        cursor = TransformersCursor(network, network.admit(prompt))
        cursor.score(Draft.empty())
        return cursor.score
    passes = TransformersBatch(network, batch)
    seats = [passes.open(prompt) for _ in range(batch)]
    passes.score(seats, [Draft.empty()] * batch)
    return lambda draft: passes.score(seats, [draft] * batch)


def needed(network: Network, context: int) -> int:
    """Bytes that a pass has to read: each weight once, and the keys and values of a context."""
    config = network.model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kept = 2 * config.num_key_value_heads * head * network.layers.count * context
    weights = {p.data_ptr(): p.numel() for p in network.model.parameters()}
    if not config.tie_word_embeddings:
        weights.pop(network.model.get_input_embeddings().weight.data_ptr())
    return int((kept + sum(weights.values())) * network.dtype.itemsize)


def stream(numbers: int) -> float:
    """Bytes a second of reading a large array, the best of a few readings."""
    array = torch.ones(numbers)
    best = float("inf")
    for _ in range(5):
        start = perf_counter()
        array.sum()
        best = min(best, perf_counter() - start)
    return round(array.nbytes / best)


if __name__ == "__main__":
    main()
