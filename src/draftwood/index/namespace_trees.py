"""A suffix tree for each namespace, and the bytes of all of them."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from draftwood.errors import UnknownSequence
from draftwood.index.suffix_tree import EVICT_TOKENS, SuffixTree


@dataclass(slots=True)
class _Held:
    """A namespace's tree. requests: whose text is in it, running, finished or on the way out.

    nbytes, idle: of the tree, when it was last measured.
    """

    tree: SuffixTree
    requests: int = 0
    nbytes: int = 0
    idle: int = 0


class NamespaceTrees:
    """Trees by namespace; each is here as long as a request's text is in it.

    Asking every tree for its bytes would take longer the more there are, so that each is measured
    when something was done to it. `len`: namespaces. Used by one thread at a time.

    depth: of the trees.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._held: dict[str, _Held] = {}
        # Trees that somebody looks at, also while no request is in them.
        self._known: weakref.WeakValueDictionary[str, SuffixTree] = weakref.WeakValueDictionary()
        self._nbytes, self._idle = 0, 0  # of all trees, when each was last measured
        self._measured: set[str] = set()  # since they were last compacted

    def tree(self, namespace: str) -> SuffixTree:
        """The tree of a namespace; an empty one at first."""
        tree = self._known.get(namespace)
        if tree is None:
            tree = self._known[namespace] = SuffixTree(self.depth)
        return tree

    def of(self, namespace: str) -> SuffixTree:
        """The tree of a namespace that requests are in."""
        return self._held[namespace].tree

    def all(self) -> dict[str, SuffixTree]:
        """The trees that requests are in."""
        return {name: held.tree for name, held in self._held.items()}

    def join(self, namespace: str) -> SuffixTree:
        """One more request is in the namespace's tree, which is returned."""
        held = self._held.get(namespace)
        if held is None:
            held = self._held[namespace] = _Held(self.tree(namespace))
        held.requests += 1
        return held.tree

    def leave(self, namespace: str) -> None:
        """A request is out of its namespace's tree, which is dropped with the last one."""
        held = self._held[namespace]
        held.requests -= 1
        if held.requests:
            self.measure(namespace)
            return
        del self._held[namespace]
        self._measured.discard(namespace)
        self._nbytes -= held.nbytes
        self._idle -= held.idle

    def measure(self, namespace: str, *, compacted: bool = False) -> None:
        """Ask a tree for its bytes, after something was done to it.

        compacted: nothing is left in it that compacting could give back.
        """
        held = self._held.get(namespace)
        if held is not None:
            nbytes, idle = held.tree.nbytes, held.tree.idle
            self._nbytes += nbytes - held.nbytes
            self._idle += idle - held.idle
            held.nbytes, held.idle = nbytes, idle
            self._measured.add(namespace)
        if compacted:
            self._measured.discard(namespace)

    def take_measured(self) -> dict[str, SuffixTree]:
        """The trees that were measured since they were last taken here: to be compacted."""
        trees = {name: self._held[name].tree for name in self._measured}
        self._measured.clear()
        return trees

    @property
    def measured(self) -> int:
        """Bytes of all trees, as they were last measured."""
        return self._nbytes

    @property
    def in_use(self) -> int:
        """The same without the bytes that trees hold and do not use."""
        return self._nbytes - self._idle

    @property
    def nbytes(self) -> int:
        """Bytes of all trees now, to the byte of what was asked of the allocator."""
        return sum(held.tree.nbytes for held in self._held.values())

    def __len__(self) -> int:
        return len(self._held)


def take_out(tree: SuffixTree, sequence: int, tokens: int = EVICT_TOKENS) -> bool:
    """Take a share of a sequence out; whether it is out, by this call or another thread's."""
    try:
        return tree.evict(sequence, tokens=tokens)
    except UnknownSequence:
        return True
