"""Shared history of SuffixDecoding: a suffix tree for each namespace, limits and eviction.

Requests are running, then finished, then evicted. Only finished ones are evicted; a request ends
when its stream is closed, never by a timeout.

An evicted request stops counting at once. Its text is removed from the tree in slices, with each
request that ends and with the tokens that running ones generate, so that no call removes a long
text as a whole. A namespace is dropped with its last request, so that any number of them may come
and go; what a request costs does not depend on how many there are.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
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
from draftwood.index.suffix_tree import EVICT_TOKENS, SuffixTree

Evict = Literal["fifo", "lru"]

_LOOK = 1024
"""Generated tokens between two looks at the limit of bytes."""
_NO_SEQUENCE = -1
"""Of a request that has no place in its tree yet."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept; None: no limit.

    requests, tokens: finished ones. bytes: of all trees, in which finished requests make room for
    running ones too; kept whenever a request has ended. Running ones alone may need more.

    evict: which requests are evicted first. "fifo": those that ended first. "lru": those least
    recently drafted from; a draft counts for a request whose text holds it (of several, most often
    the last), and a request's end counts as a draft.

    Raises:
        InvalidOption: a value outside its range.
    """

    requests: int | None = None
    tokens: int | None = None
    bytes: int | None = None
    evict: Evict = "fifo"

    def __post_init__(self) -> None:
        limits = {"requests": self.requests, "tokens": self.tokens, "bytes": self.bytes}
        for name, limit in limits.items():
            if limit is not None and limit < 0:
                raise InvalidOption(f"max_{name} is {limit}; use 0 or more, or None for no limit")
        if self.evict not in ("fifo", "lru"):
            raise InvalidOption(f"evict is {self.evict!r}; use 'fifo' or 'lru'")

    @property
    def any(self) -> bool:
        """Whether anything is limited at all."""
        return any(each is not None for each in (self.requests, self.tokens, self.bytes))


@dataclass(slots=True)
class Output:
    """One request's output. time: seconds since 1970 at its end, or as its file says.

    tokens: its length; of an evicted one, what is left of it.
    """

    namespace: str
    sequence: int
    tokens: int = 0
    time: float | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(slots=True)
class _Held:
    """A namespace's tree. requests: whose text is in it, running, finished or on the way out.

    nbytes, idle: of the tree, when it was last measured.
    """

    tree: SuffixTree
    requests: int = 0
    nbytes: int = 0
    idle: int = 0


class SuffixHistory:
    """Suffix trees of outputs, by namespace, within limits. Safe to use from several threads.

    Numbers that name requests here are never given out twice.
    """

    def __init__(self, depth: int, limits: Limits) -> None:
        self.depth = depth
        self.limits = limits
        self.fingerprint: bytes | None = None
        self._held: dict[str, _Held] = {}
        # Trees that somebody looks at, also while no request is in them.
        self._known: weakref.WeakValueDictionary[str, SuffixTree] = weakref.WeakValueDictionary()
        self._nbytes, self._idle = 0, 0  # of all trees, when each was last measured
        self._touched: set[str] = set()  # namespaces to compact before bytes are found too many
        self._running: dict[int, Output] = {}
        self._finished: OrderedDict[int, Output] = OrderedDict()  # who leaves first stands first
        self._numbers: dict[tuple[str, int], int] = {}  # of finished requests
        self._leaving: OrderedDict[int, Output] = OrderedDict()  # evicted, not yet out of the trees
        self._forgotten: dict[int, str] = {}  # removed while running: number, namespace
        self._finished_tokens = 0
        self._given = 0
        self._unlooked = 0  # tokens generated since the limit of bytes was looked at
        self._lock = threading.Lock()
        self._eviction = threading.Lock()  # held by who takes evicted ones out
        _histories.add(self)

    def tree(self, namespace: str) -> SuffixTree:
        """The tree over the outputs of a namespace; an empty one at first."""
        with self._lock:
            return self._tree(namespace)

    def _tree(self, namespace: str) -> SuffixTree:
        tree = self._known.get(namespace)
        if tree is None:
            tree = self._known[namespace] = SuffixTree(self.depth)
        return tree

    def _join(self, namespace: str) -> SuffixTree:
        held = self._held.get(namespace)
        if held is None:
            held = self._held[namespace] = _Held(self._tree(namespace))
        held.requests += 1
        return held.tree

    def _quit(self, namespace: str) -> None:
        """A request is out of its namespace's tree, which goes with the last one."""
        held = self._held[namespace]
        held.requests -= 1
        if held.requests:
            self._measure(namespace)
            return
        del self._held[namespace]
        self._touched.discard(namespace)
        self._nbytes -= held.nbytes
        self._idle -= held.idle

    def _measure(self, namespace: str) -> None:
        held = self._held.get(namespace)
        if held is None:
            return
        nbytes, idle = held.tree.nbytes, held.tree.idle
        self._nbytes += nbytes - held.nbytes
        self._idle += idle - held.idle
        held.nbytes, held.idle = nbytes, idle
        self._touched.add(namespace)

    def _measure_running(self) -> None:
        """Measure the trees that may have grown."""
        for namespace in {output.namespace for output in self._running.values()}:
            self._measure(namespace)

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
            return sum(held.tree.nbytes for held in self._held.values())

    @property
    def namespaces(self) -> int:
        """Namespaces of which anything is kept."""
        return len(self._held)

    # --- A request's life ---------------------------------------------------------------------

    def begin(self, namespace: str) -> tuple[int, SuffixTree]:
        """Register a running request; returns its number and the tree to write its text to.

        `name` records its number in the tree, once it has one.
        """
        with self._lock:
            self._given += 1
            self._running[self._given] = Output(namespace, _NO_SEQUENCE)
            return self._given, self._join(namespace)

    def name(self, number: int, sequence: int) -> None:
        """Record the number in the tree of a running request."""
        with self._lock:
            self._running[number].sequence = sequence

    def end(self, number: int, tokens: int) -> None:
        """Mark the request as finished: it may be evicted. Does nothing if it was removed."""
        with self._lock:
            output = self._running.pop(number, None)
            if output is None:
                namespace = self._forgotten.pop(number, None)
                if namespace is not None:
                    self._quit(namespace)
            elif tokens:
                output.tokens, output.time = tokens, time.time()
                self._finish(number, output)
                self._measure(output.namespace)
            else:
                self._quit(output.namespace)
        self._evict()

    def abandon(self, number: int) -> None:
        """The request has ended and is forgotten. Nothing happens if it was removed."""
        with contextlib.suppress(UnknownSequence):
            self.remove(number)

    def grow(self, tokens: int) -> None:
        """Count generated tokens of running requests; frees twice as many of evicted ones."""
        if self.limits.bytes is not None:
            self._unlooked += tokens  # about: several threads may do so at once
            if self._unlooked >= _LOOK:
                self._unlooked = 0
                self._choose()
        if self._leaving and self._eviction.acquire(blocking=False):
            try:
                self._take_out(2 * tokens)
            finally:
                self._eviction.release()

    def touch(self, namespace: str, sequence: int) -> None:
        """Record that a draft was taken from a sequence (for "lru")."""
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
            running = number in self._running
            output = (
                self._running.pop(number, None)
                or self._finished.get(number)
                or self._leaving.pop(number, None)
            )
            if output is None:
                raise UnknownSequence(number)
            if number in self._finished:
                self._leave(number)
            if running:
                self._forgotten[number] = output.namespace
            tree = self._held[output.namespace].tree
        while not _evict(tree, output.sequence):  # by and by: others need not wait for the whole
            pass
        tree.compact()
        with self._lock:
            if running:
                self._measure(output.namespace)
            else:
                self._quit(output.namespace)

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
        """Evict finished requests until the limits hold, and take a share of the evicted out."""
        if not self.limits.any:
            return
        with self._eviction:
            self._choose()
            self._take_out(EVICT_TOKENS)
            while self._leaving and self._crowded():
                self._take_out(EVICT_TOKENS)
                self._choose()
            self._squeeze()

    def _squeeze(self) -> None:
        """Give unused memory back where the bytes are too many, then evict more until they hold."""
        limit = self.limits.bytes
        if limit is None or self._nbytes <= limit:
            return
        with self._lock:
            trees = {name: self._held[name].tree for name in self._touched}
            self._touched.clear()
        for name, tree in trees.items():
            while not tree.compact():
                pass
            with self._lock:
                self._measure(name)
                self._touched.discard(name)
        while self._nbytes > limit:
            with self._lock:
                if not self._leaving and not self._leave_first():
                    break
            self._take_out(EVICT_TOKENS, whole=True)

    def _choose(self) -> None:
        """Evict the finished requests that are too many; beyond the bytes, the next one to go."""
        with self._lock:
            if self.limits.bytes is not None:
                self._measure_running()
            while self._too_many() or (not self._leaving and self._crowded()):
                if not self._leave_first():
                    break

    def _leave_first(self) -> bool:
        """Evict the finished request that is the next to go; whether there was one."""
        if not self._finished:
            return False
        number = next(iter(self._finished))
        self._leaving[number] = self._leave(number)
        return True

    def _take_out(self, tokens: int, *, whole: bool = False) -> None:
        """Take so many tokens of evicted requests out of their trees, the first evicted first.

        whole: give all memory back that they leave unused, and not only a share.
        """
        trees: dict[str, SuffixTree] = {}
        while tokens > 0:
            with self._lock:
                if not self._leaving:
                    break
                number, output = next(iter(self._leaving.items()))
                tree = trees[output.namespace] = self._held[output.namespace].tree
            share = min(tokens, EVICT_TOKENS)
            out = _evict(tree, output.sequence, share)
            tokens -= max(min(output.tokens, share), 1) if out else share
            output.tokens = max(output.tokens - share, 0)
            if out:
                with self._lock:
                    if self._leaving.pop(number, None) is not None:
                        self._quit(output.namespace)
        for name, tree in trees.items():
            while not tree.compact() and whole:
                pass
            with self._lock:
                self._measure(name)

    def _too_many(self) -> bool:
        limits = self.limits
        return (limits.requests is not None and len(self._finished) > limits.requests) or (
            limits.tokens is not None and self._finished_tokens > limits.tokens
        )

    def _crowded(self) -> bool:
        """Whether too many bytes are in use.

        They are kept at 13/16 of the limit: what lies idle is then within it as well.
        """
        limit = self.limits.bytes
        return limit is not None and (self._nbytes - self._idle) * 16 > limit * 13

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
            with self._lock:
                tree = self._join(entry.namespace)
            sequence = tree.begin(entry.tokens)
            tree.finish(sequence)
            metadata = dict(entry.metadata) or None
            output = Output(entry.namespace, sequence, len(entry.tokens), entry.time, metadata)
            with self._lock:
                self._given += 1
                self._finish(self._given, output)
                self._measure(output.namespace)
            added += 1
            self._evict()
            while self._leaving:
                with self._eviction:
                    self._take_out(EVICT_TOKENS)
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
        """Write a snapshot of all outputs, finished and running, without blocking decoding.

        Ordered by eviction, the next to be evicted first. What is removed or evicted meanwhile is
        left out.
        fingerprint: of the tokenizer; None: that of the files which were added.

        Raises:
            OSError: the file cannot be written; what stood at the path still stands there.
        """
        with self._lock:
            now = time.time()
            trees = {name: held.tree for name, held in self._held.items()}
            extents = {name: tree.extents() for name, tree in trees.items()}
            outputs = [
                (each, each.time if at < len(self._finished) else now)
                for at, each in enumerate((*self._finished.values(), *self._running.values()))
            ]
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


# A child of fork() has none of the other threads, and would wait for ever for a lock that one of
# them held. So fork() waits for the locks, and the child begins with new ones.
_histories: weakref.WeakSet[SuffixHistory] = weakref.WeakSet()
_held: list[threading.Lock] = []


def _before_fork() -> None:
    for history in list(_histories):
        # Not for ever: the forking thread may hold one itself.
        locks = (history._eviction, history._lock)
        _held.extend(lock for lock in locks if lock.acquire(timeout=10))


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    _held.clear()
    for history in list(_histories):
        history._lock, history._eviction = threading.Lock(), threading.Lock()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)


def _evict(tree: SuffixTree, sequence: int, tokens: int = EVICT_TOKENS) -> bool:
    """Take a share of a sequence out; whether it is out, by this call or another thread's."""
    try:
        return tree.evict(sequence, tokens=tokens)
    except UnknownSequence:
        return True
