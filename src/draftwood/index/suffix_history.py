"""The outputs that requests share: a suffix tree a namespace, and who leaves first.

Requests are running, then finished, then evicted. Only finished ones are evicted; a request ends
when its stream is closed and never because it was not heard of for a while.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption, TokenizerMismatch, UnknownSequence
from draftwood.index.fingerprint import UNKNOWN
from draftwood.index.store import History, HistoryInfo, HistoryWriter
from draftwood.index.suffix_tree import SuffixTree

Evict = Literal["fifo", "lru"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept; None: no limit.

    requests, tokens: finished ones. bytes: of all trees, in which finished requests make room for
    running ones too; looked at when a request ends. Running ones alone may need more.

    evict: who leaves first. "fifo": the request that ended first. "lru": the one that was longest
    not drafted from; a draft is from the request whose text it was read from (of several that said
    the same, most often the last), and its end counts as a draft.

    Raises:
        InvalidOption: a value outside its range.
    """

    requests: int | None = None
    tokens: int | None = None
    bytes: int | None = None
    evict: Evict = "fifo"

    def __post_init__(self) -> None:
        for name in ("requests", "tokens", "bytes"):
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                raise InvalidOption(f"max_{name} is {limit}; use 0 or more, or None for no limit")
        if self.evict not in ("fifo", "lru"):
            raise InvalidOption(f"evict is {self.evict!r}; use 'fifo' or 'lru'")


@dataclass(slots=True)
class Output:
    """One request's output. time: seconds since 1970 at its end, or as its file says."""

    namespace: str
    sequence: int
    tokens: int = 0
    time: float | None = None
    metadata: Mapping[str, Any] | None = None


class SuffixHistory:
    """Trees of outputs, by namespace, within limits. Safe to use from several threads.

    Numbers that name requests here are never given out twice.
    """

    def __init__(self, depth: int, limits: Limits) -> None:
        self.depth = depth
        self.limits = limits
        self.fingerprint: bytes | None = None
        self._trees: dict[str, SuffixTree] = {}
        self._running: dict[int, Output] = {}
        self._finished: OrderedDict[int, Output] = OrderedDict()  # who leaves first stands first
        self._numbers: dict[tuple[str, int], int] = {}  # of finished requests
        self._finished_tokens = 0
        self._given = 0
        self._lock = threading.Lock()

    def tree(self, namespace: str) -> SuffixTree:
        """The tree over the outputs of a namespace; an empty one at first."""
        with self._lock:
            return self._tree(namespace)

    def _tree(self, namespace: str) -> SuffixTree:
        if namespace not in self._trees:
            self._trees[namespace] = SuffixTree(self.depth)
        return self._trees[namespace]

    @property
    def requests(self) -> int:
        """Finished requests."""
        return len(self._finished)

    @property
    def tokens(self) -> int:
        """Tokens of finished requests."""
        return self._finished_tokens

    @property
    def nbytes(self) -> int:
        """Bytes held by all trees, to the byte of what was asked of the allocator."""
        with self._lock:
            return self._nbytes()

    def _nbytes(self) -> int:
        return sum(tree.nbytes for tree in self._trees.values())

    # --- A request's life ---------------------------------------------------------------------

    def begin(self, namespace: str, sequence: int) -> int:
        """A request that runs from now on; returns its number. sequence: its place in the tree."""
        with self._lock:
            self._given += 1
            self._running[self._given] = Output(namespace, sequence)
            return self._given

    def end(self, number: int, tokens: int) -> None:
        """The request has ended; it may be evicted now. Nothing happens if it was removed."""
        with self._lock:
            output = self._running.pop(number, None)
            if output is not None and tokens:
                output.tokens, output.time = tokens, time.time()
                self._finish(number, output)
        self._evict()

    def touch(self, namespace: str, sequence: int) -> None:
        """A draft was taken from the text of a sequence."""
        with self._lock:
            number = self._numbers.get((namespace, sequence))
            if number is not None:
                self._finished.move_to_end(number)

    def remove(self, number: int) -> None:
        """Forget what a request said, and share nothing that it says from now on.

        Raises:
            UnknownSequence: no request of that number is here (any more).
        """
        with self._lock:
            output = self._running.pop(number, None) or self._finished.get(number)
            if output is None:
                raise UnknownSequence(number)
            if number in self._finished:
                self._leave(number)
            tree = self._trees[output.namespace]
        tree.remove(output.sequence)
        tree.compact()

    def _finish(self, number: int, output: Output) -> None:
        self._finished[number] = output
        self._numbers[output.namespace, output.sequence] = number
        self._finished_tokens += output.tokens

    def _leave(self, number: int) -> Output:
        output = self._finished.pop(number)
        del self._numbers[output.namespace, output.sequence]
        self._finished_tokens -= output.tokens
        return output

    def _evict(self) -> None:
        """Remove finished requests until the limits hold."""
        while True:
            with self._lock:
                if not self._finished or not self._exceeded():
                    break
                output = self._leave(next(iter(self._finished)))
                tree = self._trees[output.namespace]
            tree.remove(output.sequence)  # takes a while: others go on
            tree.compact()
        if self.limits.bytes is not None and self.nbytes > self.limits.bytes:
            with self._lock:
                trees = list(self._trees.values())
            for tree in trees:
                while not tree.compact():
                    pass

    def _exceeded(self) -> bool:
        limits = self.limits
        return (
            (limits.requests is not None and len(self._finished) > limits.requests)
            or (limits.tokens is not None and self._finished_tokens > limits.tokens)
            or (limits.bytes is not None and self._in_use() * 16 > limits.bytes * 13)
        )

    def _in_use(self) -> int:
        """Bytes in use. Kept at 13/16 of the limit: what lies idle is then within it as well."""
        return sum(tree.nbytes - tree.idle for tree in self._trees.values())

    # --- Files --------------------------------------------------------------------------------

    def warm(self, history: History) -> int:
        """Add the sequences of a file as finished requests; returns how many were added.

        Of a file beyond the limits, the newest sequences that fit them.

        Raises:
            TokenizerMismatch: a file of another tokenizer than that of one added before.
        """
        fingerprint = history.info.fingerprint
        if fingerprint != UNKNOWN:
            if self.fingerprint is not None and self.fingerprint != fingerprint:
                raise TokenizerMismatch(
                    f"the file has tokenizer fingerprint {fingerprint.hex()[:12]}, and what is "
                    f"here {self.fingerprint.hex()[:12]}; warm with files of one tokenizer"
                )
            self.fingerprint = fingerprint
        added = 0
        for at in range(self._first_that_fits(history), len(history)):
            entry = history[at]
            if not len(entry.tokens):
                continue
            tree = self.tree(entry.namespace)
            sequence = tree.begin(entry.tokens)
            tree.finish(sequence)
            metadata = dict(entry.metadata) or None
            output = Output(entry.namespace, sequence, len(entry.tokens), entry.time, metadata)
            with self._lock:
                self._given += 1
                self._finish(self._given, output)
            added += 1
            self._evict()
        return added

    def _first_that_fits(self, history: History) -> int:
        """The first sequence from which on a file is within the limits of requests and tokens."""
        first = 0
        if self.limits.requests is not None:
            first = max(0, len(history) - self.limits.requests)
        if self.limits.tokens is not None:
            offsets: NDArray[np.int64] = history.offsets.astype(np.int64)
            behind = offsets[-1] - offsets[:-1] - np.arange(len(history), 0, -1)
            first = max(first, int(np.count_nonzero(behind > self.limits.tokens)))
        return first

    def save(self, path: str, *, fingerprint: bytes | None = None) -> HistoryInfo:
        """Write all outputs as they are at one instant, finished and running; nobody waits for it.

        First what would be evicted first. What is removed or evicted meanwhile is left out.
        fingerprint: of the tokenizer; None: that of the files which were added.

        Raises:
            OSError: the file cannot be written; what stood at the path still stands there.
        """
        with self._lock:
            now = time.time()
            extents = {name: tree.extents() for name, tree in self._trees.items()}
            outputs = [
                (each, each.time if at < len(self._finished) else now)
                for at, each in enumerate((*self._finished.values(), *self._running.values()))
            ]
            trees = dict(self._trees)
        with HistoryWriter(path, fingerprint=fingerprint or self.fingerprint) as out:
            for output, when in outputs:
                size = extents[output.namespace].get(output.sequence, 0)
                tokens = self._text(trees[output.namespace], output.sequence, size)
                if len(tokens):
                    out.add(
                        tokens,
                        namespace=output.namespace,
                        time=when,
                        metadata=output.metadata,
                    )
            return out.finish()

    @staticmethod
    def _text(tree: SuffixTree, sequence: int, size: int) -> TokenIds:
        try:
            return tree.text(sequence, most=size)
        except UnknownSequence:
            return np.empty(0, dtype=np.int32)
