"""What requests cost on both sides: opening, closing, and decode steps of one and of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.suffix.costs_table import Row, Table, thread_us, wall_us
from benchmarks.suffix.sides import RELEASED, OurRequest, Ours, Peer, PeerRequest
from draftwood.draft import TokenIds


def measure_requests(
    texts: Sequence[TokenIds],
    *,
    depth: int,
    tokens: int,
    prompts: Sequence[int],
    progress: Callable[[str], None],
) -> Table:
    """Opening, closing and decoding beside `tokens` of stored responses."""
    table = Table(depth, tokens)
    ours, peer = Ours(depth), Peer(depth)
    progress(f"depth {depth}: requests beside {tokens:,} tokens")
    sides: tuple[Ours | Peer, ...] = (ours, peer)
    rest = iter(texts)
    stored = 0
    for text in rest:
        for side in sides:
            request = side.open(text[:1])
            request.append(text)
            request.close()
        stored += len(text)
        if stored >= tokens:
            break
    flat = np.concatenate(list(rest) or list(texts))
    for size in prompts:
        prompt = np.resize(flat, size).astype(np.int32)
        _open_and_close(table, sides, prompt, size // 1000)
    for batch in (1, 256):
        _decode_steps(table, ours, peer, flat, batch)
    return table


def _open_and_close(
    table: Table, sides: tuple[Ours | Peer, ...], prompt: TokenIds, size: int
) -> None:
    opening: tuple[list[float], list[float]] = ([], [])
    closing: tuple[list[float], list[float]] = ([], [])
    for _ in range(5):
        for at, side in enumerate(sides):
            held: list[OurRequest | PeerRequest] = []
            opening[at].append(thread_us(lambda: held.append(side.open(prompt))) / 1e3)  # noqa: B023
            closing[at].append(thread_us(lambda: held.pop().close()) / 1e3)  # noqa: B023
    table.add(f"open_{size}k", Row.of(f"open with a {size} k-token prompt", "ms", *opening))
    table.add(f"close_{size}k", Row.of(f"close with a {size} k-token prompt", "ms", *closing))


def _decode_steps(table: Table, ours: Ours, peer: Peer, flat: TokenIds, batch: int) -> None:
    """Steps of a batch of requests: two tokens each, then a draft each."""
    prompt, steps = 400, 60 if batch == 1 else 40
    depth = peer.depth
    starts = np.linspace(0, len(flat) - prompt - 2 * steps - 1, batch).astype(int)
    texts = [flat[at : at + prompt + 2 * steps] for at in starts]
    mine = [ours.open(text[:prompt]) for text in texts]
    theirs = [peer.open(text[:prompt]) for text in texts]

    def our_step(at: int) -> None:
        if batch == 1:
            mine[0].append(texts[0][at - 2 : at])
            mine[0].draft()
        else:
            ours.step(mine, [text[at - 2 : at] for text in texts])

    def peer_step(at: int) -> None:
        for request, text in zip(theirs, texts, strict=True):
            request.append(text[at - 2 : at])
        for request, text in zip(theirs, texts, strict=True):
            request.draft(text[at - depth : at], RELEASED)

    times: tuple[list[float], list[float]] = ([], [])
    for step in range(1, steps + 1):
        at = prompt + 2 * step
        times[0].append(wall_us(lambda: our_step(at)) / 1e3)  # noqa: B023
        times[1].append(wall_us(lambda: peer_step(at)) / 1e3)  # noqa: B023
    everyone: list[OurRequest | PeerRequest] = [*mine, *theirs]
    for each in everyone:
        each.close()
    table.add(f"batch{batch}", Row.of(f"decode step, batch {batch}", "ms", *times))
