"""What a pass takes by sequences and rows: t(batch, rows), by the library's pass and by ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.clock import Clock
from draftwood.draft import Draft
from draftwood.targets.transformers.batch import TransformersBatch, TransformersSeat
from draftwood.targets.transformers.network import Network

ROWS = {1: (1, 2, 4, 8, 16, 32), 8: (1, 4, 8, 16), 64: (1, 4, 8, 16), 256: (1, 2, 4, 8)}
"""Rows of a sequence, drafted tokens and one more, by batch size."""
WARM, ROUNDS = 4, 9


def sides(model: Any) -> dict[str, Network]:
    """The passes that a model has, by name: the library's own, and ours.

    `bare` without graphs, which on a GPU serves single sequences only; `static` with them.
    """
    found = {
        "library": Network(model, lean=False),
        "bare": Network(model, static=False),
        "static": Network(model, static=True),
    }
    if found["bare"].lean is None:
        del found["bare"]
    if found["static"].static is None:
        del found["static"]
    return found


def curves(
    name: str,
    model: Any,
    clock: Clock,
    *,
    context: int,
    batches: Mapping[int, Sequence[int]] = ROWS,
    rounds: int = ROUNDS,
) -> Iterator[dict[str, Any]]:
    """Rows of one model: medians in milliseconds, the argmax of all rows included."""
    for batch, counts in batches.items():
        for _, (side, network) in clock.each(
            (f"{name} {side} batch {batch}", (side, network))
            for side, network in sides(model).items()
            if side != "bare" or batch == 1
        ):
            yield from _curve(name, side, network, batch, counts, context=context, rounds=rounds)


def _curve(
    name: str,
    side: str,
    network: Network,
    batch: int,
    counts: Sequence[int],
    *,
    context: int,
    rounds: int,
) -> Iterator[dict[str, Any]]:
    device = network.device
    start_memory(device)
    prompt = ((7919 * np.arange(context)) % network.vocab_size).astype(np.int32)
    row = {"model": name, "side": side, "batch": batch, "context": context}
    passes = TransformersBatch(network, batch)
    try:
        seats = [passes.open(prompt) for _ in range(batch)]
        start = perf_counter()
        fill_alike(passes, seats)
        passes.score(seats, [Draft.empty()] * batch)[0].argmax()
        filled = perf_counter() - start
        one = None
        for rows in counts:
            draft, taken = Draft.chain(prompt[: rows - 1]), []
            for turn in range(WARM + rounds):
                start = perf_counter()
                passes.score(seats, [draft] * batch)[0].argmax()
                if turn >= WARM:
                    taken.append(perf_counter() - start)
            one = one or median(taken)
            yield row | {
                "rows": rows,
                "ms": round(1e3 * median(taken), 3),
                "least_ms": round(1e3 * min(taken), 3),
                "over_one_row": round(median(taken) / one, 3),
                "padded": passes.padded,
                "fill_ms": round(1e3 * filled, 1),
                "peak_gb": peak_gb(device),
            }
    except torch.OutOfMemoryError as error:
        yield row | {"error": str(error)[:200]}
    finally:
        passes.close()
        del passes
        free_memory(device)


@torch.inference_mode()
def fill_alike(passes: TransformersBatch, seats: Sequence[TransformersSeat]) -> None:
    """Compute the prompt that all seats have once, and copy it: only passes are timed here."""
    passes._fill(seats[0])
    for seat in seats[1:]:
        passes._cache.copy(0, seat.slot, seat.context_length - 1)
        seat.filled = True


def start_memory(device: torch.device) -> None:
    """Count the peak from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> float | None:
    """Gigabytes that tensors held at most; None on a CPU."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 3)


def free_memory(device: torch.device) -> None:
    """Give freed memory back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
