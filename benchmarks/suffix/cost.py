"""What both suffix trees cost: appending, drafting, evicting, interleaved in one run.

Times are CPU times of the calling thread, so that a busy machine spoils them little; of a decode
step (`serving`), where several threads may work, wall clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from benchmarks.suffix.costs_table import Row, Table, thread_us
from benchmarks.suffix.released import SuffixDecodingCache
from benchmarks.suffix.sides import RELEASED, PeerRequest
from draftwood.draft import Budget, TokenIds
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.index.suffix_tree import SuffixPolicy

POLICY = SuffixPolicy().native(witness=False)


@dataclass(frozen=True, slots=True)
class Load:
    """How much work is timed.

    chunk: tokens that one side appends before the other takes its turn. samples: contexts of each
    kind. long: tokens of the long response that is evicted. oldest, longest: responses evicted
    before it. prompts: tokens of the prompts of `serving`. spare: tokens of text beside those that
    are stored.
    """

    chunk: int
    samples: int
    long: int
    oldest: int
    longest: int
    prompts: tuple[int, ...]
    spare: int


FULL = Load(20_000, 1500, 32_000, 150, 15, (32_000, 128_000), 500_000)
SMALL = Load(2_000, 20, 4_000, 5, 2, (32_000, 128_000), 20_000)


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

    def evict_long(self, text: TokenIds) -> tuple[list[float], float]:
        """Store a long response and evict it: milliseconds of each of our calls, and the peer's."""
        self.append([text])
        mine, theirs = self.ids.pop()
        self.texts.pop()
        out = [False]

        def share() -> None:
            out[0] = self.ours.evict(mine)

        shares = []
        while not out[0]:
            shares.append(thread_us(share) / 1e3)
        return shares, thread_us(lambda: self.peer.remove(theirs)) / 1e3


def measure(
    texts: Sequence[TokenIds],
    unseen: Sequence[TokenIds],
    *,
    depth: int,
    sizes: Sequence[int],
    load: Load,
    progress: Callable[[str], None],
) -> list[Table]:
    """The whole table at `depth`, for each number of stored tokens in `sizes` (ascending).

    texts: responses to store, in order, enough for the largest size and some to append after it.
    unseen: responses that are never stored.
    """
    trees = Trees(depth)
    waiting = _chunks(texts, load.chunk)
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
        _speculate(table, trees, unseen, load.samples)
        _evict(table, trees, load)
        _append_when_full(table, trees, list(waiting_texts(waiting, load.chunk * 3)))
        stored = sum(map(len, trees.texts))
        tables.append(table)
    return tables


def waiting_texts(chunks: Iterator[list[TokenIds]], tokens: int) -> Iterator[TokenIds]:
    """Further texts of at least so many tokens."""
    while tokens > 0 and (chunk := next(chunks, None)):
        tokens -= sum(map(len, chunk))
        yield from chunk


def _chunks(texts: Sequence[TokenIds], tokens: int) -> Iterator[list[TokenIds]]:
    chunk: list[TokenIds] = []
    for text in texts:
        chunk.append(text)
        if sum(map(len, chunk)) >= tokens:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _speculate(table: Table, trees: Trees, unseen: Sequence[TokenIds], samples: int) -> None:
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


def _evict(table: Table, trees: Trees, load: Load) -> None:
    """The oldest responses one by one, then the longest ones; then a longer one share by share."""
    times = [trees.evict() for _ in range(load.oldest)]
    times += [trees.evict(_longest(trees.texts)) for _ in range(load.longest)]
    ours, peer = ([each / 1e3 for each in side] for side in zip(*times, strict=True))
    table.add("evict", Row.of("evict one response, p50", "ms", ours, peer))
    table.add("evict_worst", Row.at("evict one response, worst", "ms", 1.0, ours, peer))
    shares, whole = trees.evict_long(
        np.concatenate(trees.texts[: _reaching(trees.texts, load.long)])
    )
    row = Row.at("evict 32 k tokens, longest call", "ms", 1.0, shares, [whole])
    table.add("evict_long", row)


def _reaching(texts: Sequence[TokenIds], tokens: int) -> int:
    """How many texts it takes to have so many tokens."""
    return int(np.searchsorted(np.cumsum([len(text) for text in texts]), tokens)) + 1


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
