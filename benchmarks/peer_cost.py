"""What both suffix trees cost: FIELD by field, interleaved in one run, medians of ratios.

Times are CPU times of the calling thread, so that a busy machine spoils them little; of a decode
step, where several threads may work, wall clock. Ratios are peer / ours: above 1, ours is better.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter_ns, thread_time_ns

import numpy as np
from arctic_inference.suffix_decoding import SuffixDecodingCache
from arctic_inference.suffix_decoding.cache import SuffixTree as PeerTree
from peer_sides import RELEASED, OurRequest, Ours, Peer, PeerRequest

from draftwood.draft import Budget, TokenIds
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.index.suffix_tree import SuffixPolicy, SuffixTree

POLICY = SuffixPolicy().native()
_CHUNK = 20_000
"""Tokens that one side appends before the other takes its turn."""


@dataclass(slots=True)
class Row:
    """One line of the table: values of both sides in `unit`, and peer / ours."""

    what: str
    unit: str
    ours: float
    peer: float
    ratio: float

    @classmethod
    def of(cls, what: str, unit: str, ours: Sequence[float], peer: Sequence[float]) -> Row:
        """Medians of both sides, and the median of the ratios pair by pair."""
        ratios = [p / max(o, 1e-12) for o, p in zip(ours, peer, strict=True)]
        return cls(what, unit, median(ours), median(peer), median(ratios))

    @classmethod
    def at(cls, what: str, unit: str, share: float, ours: list[float], peer: list[float]) -> Row:
        """A quantile of both sides, and its ratio."""
        o, p = (float(np.quantile(side, share)) for side in (ours, peer))
        return cls(what, unit, o, p, p / max(o, 1e-12))


@dataclass(slots=True)
class Table:
    """All rows at one depth and number of stored tokens."""

    depth: int
    tokens: int
    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, key: str, row: Row) -> None:
        """Keep a row under a key for the JSON object."""
        self.rows[key] = row


def thread_us(work: Callable[[], object]) -> float:
    """Microseconds of this thread's CPU time."""
    start = thread_time_ns()
    work()
    return (thread_time_ns() - start) / 1e3


def wall_us(work: Callable[[], object]) -> float:
    """Microseconds of wall clock."""
    start = perf_counter_ns()
    work()
    return (perf_counter_ns() - start) / 1e3


class Trees:
    """Both trees over the same sequences: `ids` are (ours, peer's) numbers, oldest first."""

    def __init__(self, depth: int) -> None:
        self.drafter = SuffixDrafter(depth=depth)
        self.cache = SuffixDecodingCache(max_tree_depth=depth)
        self.ours = self.drafter.shared()
        self.peer = self.cache._global_tree
        self.ids: list[tuple[int, int]] = []
        self.texts: list[TokenIds] = []
        self._next = 1 << 30  # the cache gives its own requests low numbers

    def append(self, texts: Sequence[TokenIds]) -> tuple[float, float]:
        """Append whole sequences to both; microseconds a token, ours and the peer's."""
        size = sum(map(len, texts))
        first, self._next = self._next, self._next + len(texts)
        numbers: list[int] = []

        def ours() -> None:
            for text in texts:
                number = self.ours.begin(text)
                self.ours.finish(number)
                numbers.append(number)

        def peer() -> None:
            for number, text in enumerate(texts, first):
                self.peer.extend_ndarray(number, text)

        mine, theirs = thread_us(ours), thread_us(peer)
        self.ids += zip(numbers, range(first, self._next), strict=True)
        self.texts += texts
        return mine / size, theirs / size

    def evict(self, at: int = 0) -> tuple[float, float]:
        """Remove one sequence from both; microseconds."""
        mine, theirs = self.ids.pop(at)
        self.texts.pop(at)
        return thread_us(lambda: self.ours.remove(mine)), thread_us(
            lambda: self.peer.remove(theirs)
        )


def measure(
    texts: Sequence[TokenIds],
    unseen: Sequence[TokenIds],
    *,
    depth: int,
    sizes: Sequence[int],
    progress: Callable[[str], None],
) -> list[Table]:
    """The whole table at `depth`, for each number of stored tokens in `sizes` (ascending).

    texts: responses to store, in order, enough for the largest size and some to append after it.
    unseen: responses that are never stored.
    """
    trees = Trees(depth)
    waiting = _chunks(texts)
    stored = 0
    tables = []
    for size in sizes:
        table = Table(depth, size)
        progress(f"depth {depth}: storing {size:,} tokens")
        ours, peer = [], []
        for chunk in waiting:
            mine, theirs = trees.append(chunk)
            stored += sum(map(len, chunk))
            ours.append(mine)
            peer.append(theirs)
            if stored >= size:
                break
        if stored < size:
            raise SystemExit(f"{stored:,} tokens of text; {size:,} are to be stored")
        last = max(len(ours) // 5, 1)
        table.add("append", Row.of("append, a token", "us", ours[-last:], peer[-last:]))
        progress(f"depth {depth}: drafting at {size:,} tokens")
        _speculate(table, trees, unseen)
        _evict(table, trees)
        _append_when_full(table, trees, list(waiting_texts(waiting, _CHUNK * 3)))
        stored = sum(map(len, trees.texts))
        tables.append(table)
    return tables


def waiting_texts(chunks: Iterator[list[TokenIds]], tokens: int) -> Iterator[TokenIds]:
    """Further texts of at least so many tokens."""
    while tokens > 0 and (chunk := next(chunks, None)):
        tokens -= sum(map(len, chunk))
        yield from chunk


def _chunks(texts: Sequence[TokenIds]) -> Iterator[list[TokenIds]]:
    chunk: list[TokenIds] = []
    for text in texts:
        chunk.append(text)
        if sum(map(len, chunk)) >= _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _speculate(table: Table, trees: Trees, unseen: Sequence[TokenIds], samples: int = 1500) -> None:
    """Drafts from the shared tree alone, and from a request's two trees.

    Contexts stand in the shared tree to their whole length, or are new, or shuffled.
    """
    depth = trees.ours.depth
    random = np.random.default_rng(7)
    stored = [text for text in trees.texts if len(text) > depth]
    fresh = [text for text in unseen if len(text) > depth]
    kinds = {
        "matched": [_window(random, stored, depth) for _ in range(samples)],
        "unseen": [_window(random, fresh, depth) for _ in range(samples)],
        "shuffled": [random.permutation(_window(random, stored, depth)) for _ in range(samples)],
    }
    for kind, contexts in kinds.items():
        for how, times in {
            "speculate": [_tree_draft(trees, context) for context in contexts],
            "request": [_request_draft(trees, context) for context in contexts],
        }.items():
            ours, peer = zip(*times, strict=True)
            what = f"draft, {kind} context" if how == "speculate" else f"request's draft, {kind}"
            table.add(f"{how}_{kind}", Row.of(f"{what}, p50", "us", ours, peer))
            table.add(f"{how}_{kind}_p99", Row.at(f"{what}, p99", "us", 0.99, ours, peer))


def _tree_draft(trees: Trees, context: TokenIds) -> tuple[float, float]:
    """Microseconds for one draft of the shared tree, read out as tokens, parents, probabilities."""
    setting = RELEASED

    def ours() -> object:
        draft = trees.ours.speculate(context, POLICY, nodes=setting.nodes)
        return draft.tokens, draft.parents, draft.confidence

    def peer() -> object:
        draft = trees.peer.speculate_ndarray(
            context, setting.nodes, setting.alpha, setting.offset, setting.floor, False
        )
        return draft.token_ids, draft.parents, draft.probs

    return thread_us(ours), thread_us(peer)


def _request_draft(trees: Trees, context: TokenIds) -> tuple[float, float]:
    """Microseconds for one draft, both trees asked, of a request whose prompt is the context."""
    budget = Budget(RELEASED.nodes)
    with closing(trees.drafter.open(context)) as stream:
        ours = thread_us(lambda: stream.propose(budget))
    trees.cache.start_request("it", context)
    request = PeerRequest(trees.cache, "it")
    peer = thread_us(lambda: request.draft(context, RELEASED))
    trees.cache.stop_request("it")
    trees.cache.evict_cached_response("it")
    return ours, peer


def _window(random: np.random.Generator, texts: Sequence[TokenIds], size: int) -> TokenIds:
    text = texts[int(random.integers(len(texts)))]
    start = int(random.integers(len(text) - size))
    return text[start : start + size]


def _evict(table: Table, trees: Trees, oldest: int = 150, longest: int = 15) -> None:
    """The oldest responses one by one, then the longest ones."""
    times = [trees.evict() for _ in range(oldest)]
    times += [trees.evict(_longest(trees.texts)) for _ in range(longest)]
    ours, peer = ([each / 1e3 for each in side] for side in zip(*times, strict=True))
    table.add("evict", Row.of("evict one response, p50", "ms", ours, peer))
    table.add("evict_worst", Row.at("evict one response, worst", "ms", 1.0, ours, peer))


def _longest(texts: Sequence[TokenIds]) -> int:
    return int(np.argmax([len(text) for text in texts]))


def _append_when_full(table: Table, trees: Trees, texts: Sequence[TokenIds]) -> None:
    """Each new response pushes the oldest out."""
    ours, peer = [], []
    for text in texts:
        out = trees.evict()
        into = trees.append([text])
        ours.append(out[0] / len(text) + into[0])
        peer.append(out[1] / len(text) + into[1])
    table.add("append_full", Row.of("append once full, a token", "us", ours, peer))


# --- Requests ---------------------------------------------------------------------------------


def measure_requests(
    texts: Sequence[TokenIds], *, depth: int, tokens: int, progress: Callable[[str], None]
) -> Table:
    """Opening, closing and decoding beside `tokens` of stored responses."""
    table = Table(depth, tokens)
    ours, peer = Ours(depth), Peer(depth)
    progress(f"depth {depth}: requests beside {tokens:,} tokens")
    rest = iter(texts)
    stored = 0
    for text in rest:
        for side in (ours, peer):
            request = side.open(text[:1])
            request.append(text)
            request.close()
        stored += len(text)
        if stored >= tokens:
            break
    flat = np.concatenate(list(rest) or list(texts))
    for size in (32_000, 128_000):
        prompt = np.resize(flat, size).astype(np.int32)
        _open_and_close(table, ours, peer, prompt, size // 1000)
    for batch in (1, 256):
        _decode_steps(table, ours, peer, flat, batch)
    return table


def _open_and_close(table: Table, ours: Ours, peer: Peer, prompt: TokenIds, size: int) -> None:
    opening, closing = ([], []), ([], [])
    for _ in range(5):
        for at, side in enumerate((ours, peer)):
            held: list[OurRequest | PeerRequest] = []
            opening[at].append(thread_us(lambda: held.append(side.open(prompt))) / 1e3)  # noqa: B023
            closing[at].append(thread_us(lambda: held.pop().close()) / 1e3)  # noqa: B023
    table.add(f"open_{size}k", Row.of(f"open with a {size} k-token prompt", "ms", *opening))
    table.add(f"close_{size}k", Row.of(f"close with a {size} k-token prompt", "ms", *closing))


def _decode_steps(table: Table, ours: Ours, peer: Peer, flat: TokenIds, batch: int) -> None:
    """Steps of a batch of requests: two tokens each, then a draft each."""
    prompt, steps = 400, 60 if batch == 1 else 12
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
    for request in (*mine, *theirs):
        request.close()
    table.add(f"batch{batch}", Row.of(f"decode step, batch {batch}", "ms", *times))


# --- Memory -----------------------------------------------------------------------------------


def memory(texts: Sequence[TokenIds], *, depth: int, tokens: int) -> Row:
    """Resident bytes a stored token; each side in a process of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.npz"
        lengths = np.cumsum([len(text) for text in texts])
        keep = int(np.searchsorted(lengths, tokens)) + 1
        np.savez(path, flat=np.concatenate(texts[:keep]), ends=lengths[:keep])
        for side in ("ours", "peer"):
            command = [sys.executable, __file__, side, str(depth), str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[side] = json.loads(done.stdout)
    return Row(
        "resident memory a stored token",
        "bytes",
        found["ours"],
        found["peer"],
        found["peer"] / found["ours"],
    )


def _resident() -> int:
    """Resident bytes of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no RssAnon in /proc/self/status; run this on Linux")


def _store_and_report(side: str, depth: int, path: Path) -> None:
    with np.load(path) as file:
        texts = np.split(file["flat"], file["ends"][:-1])
    tree = SuffixTree(depth) if side == "ours" else PeerTree(depth)
    before = _resident()
    for number, text in enumerate(texts):
        if isinstance(tree, SuffixTree):
            tree.finish(tree.begin(text))
        else:
            tree.extend_ndarray(number, text)
    print(json.dumps((_resident() - before) / sum(map(len, texts))))


if __name__ == "__main__":
    _store_and_report(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
