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
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from draftwood.draft import TokenIds
from draftwood.errors import UnknownSequence
from draftwood.fork import hold_at_fork
from draftwood.index.limits import Limits
from draftwood.index.namespace_trees import NamespaceTrees, take_out
from draftwood.index.suffix_tree import EVICT_TOKENS, SuffixTree

_LOOK = 1024
"""Generated tokens between two looks at the limit of bytes."""
_NO_SEQUENCE = -1
"""Of a request that has no place in its tree yet."""


@dataclass(slots=True)
class Output:
    """One request's output. time: seconds since 1970 at its end, or as its file says.

    tokens: its length; of an evicted one, what is left of it.
    """

    namespace: str
    sequence: int = _NO_SEQUENCE
    tokens: int = 0
    time: float | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one request had said at one instant.

    tree: holds its text, the first `tokens` of which are meant. time: of its end; of a running
    one, the instant's.
    """

    output: Output
    tree: SuffixTree
    tokens: int
    time: float | None


class SuffixHistory:
    """Suffix trees of outputs, by namespace, within limits. Safe to use from several threads.

    Numbers that name requests here are never given out twice.
    """

    def __init__(self, depth: int, limits: Limits) -> None:
        self.depth = depth
        self.limits = limits
        self.fingerprint: bytes | None = None
        self._trees = NamespaceTrees(depth)
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
        hold_at_fork(self)

    def tree(self, namespace: str) -> SuffixTree:
        """The tree over the outputs of a namespace; an empty one at first."""
        with self._lock:
            return self._trees.tree(namespace)

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
            return self._trees.nbytes

    @property
    def namespaces(self) -> int:
        """Namespaces of which anything is kept."""
        return len(self._trees)

    # --- A request's life ---------------------------------------------------------------------

    def begin(self, namespace: str) -> tuple[int, SuffixTree]:
        """Register a running request; returns its number and the tree to write its text to.

        `name` records its number in the tree, once it has one.
        """
        with self._lock:
            self._given += 1
            self._running[self._given] = Output(namespace)
            return self._given, self._trees.join(namespace)

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
                    self._trees.leave(namespace)
            elif tokens:
                output.tokens, output.time = tokens, time.time()
                self._finish(number, output)
                self._trees.measure(output.namespace)
            else:
                self._trees.leave(output.namespace)
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
            tree = self._trees.of(output.namespace)
        while not take_out(tree, output.sequence):  # by and by: others need not wait for the whole
            pass
        tree.compact()
        with self._lock:
            if running:
                self._trees.measure(output.namespace)
            else:
                self._trees.leave(output.namespace)

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
        if limit is None or self._trees.measured <= limit:
            return
        with self._lock:
            trees = self._trees.take_measured()
        for name, tree in trees.items():
            while not tree.compact():
                pass
            with self._lock:
                self._trees.measure(name, compacted=True)
        while self._trees.measured > limit:
            with self._lock:
                if not self._leaving and not self._leave_first():
                    break
            self._take_out(EVICT_TOKENS, whole=True)

    def _choose(self) -> None:
        """Evict the finished requests that are too many; beyond the bytes, the next one to go."""
        with self._lock:
            if self.limits.bytes is not None:
                for namespace in {output.namespace for output in self._running.values()}:
                    self._trees.measure(namespace)
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
                tree = trees[output.namespace] = self._trees.of(output.namespace)
            share = min(tokens, EVICT_TOKENS)
            out = take_out(tree, output.sequence, share)
            tokens -= max(min(output.tokens, share), 1) if out else share
            output.tokens = max(output.tokens - share, 0)
            if out:
                with self._lock:
                    if self._leaving.pop(number, None) is not None:
                        self._trees.leave(output.namespace)
        for name, tree in trees.items():
            while not tree.compact() and whole:
                pass
            with self._lock:
                self._trees.measure(name)

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
        return limit is not None and self._trees.in_use * 16 > limit * 13

    # --- What files are made from -------------------------------------------------------------

    def add(self, output: Output, tokens: TokenIds) -> None:
        """Add the text of a request that ended elsewhere, as `output` describes it."""
        with self._lock:
            tree = self._trees.join(output.namespace)
        output.sequence = tree.begin(tokens)
        output.tokens = len(tokens)
        tree.finish(output.sequence)
        with self._lock:
            self._given += 1
            self._finish(self._given, output)
            self._trees.measure(output.namespace)
        self._evict()
        while self._leaving:
            with self._eviction:
                self._take_out(EVICT_TOKENS)

    def snapshot(self) -> list[Snapshot]:
        """All outputs at one instant, the next to be evicted first, running ones last."""
        with self._lock:
            now = time.time()
            trees = self._trees.all()
            extents = {name: tree.extents() for name, tree in trees.items()}
            return [
                Snapshot(
                    each,
                    trees[each.namespace],
                    extents[each.namespace].get(each.sequence, 0),
                    each.time if at < len(self._finished) else now,
                )
                for at, each in enumerate((*self._finished.values(), *self._running.values()))
            ]

    # --- fork() -------------------------------------------------------------------------------

    @property
    def fork_locks(self) -> tuple[threading.Lock, ...]:
        """Locks under which this object may be halfway through a change."""
        return (self._eviction, self._lock)

    def renew_locks(self) -> None:
        """Begin with new locks, in a child of fork()."""
        self._lock, self._eviction = threading.Lock(), threading.Lock()
