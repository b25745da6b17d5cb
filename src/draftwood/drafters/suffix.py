"""SuffixDecoding (arXiv 2411.04975): what followed here before, in this request or in any other.

Two trees are asked at each step, and the draft of the higher score is taken: one over the outputs
of all requests (never their prompts), fed token by token as they run, and one over this request's
prompt and output.
"""

from __future__ import annotations

import threading

import numpy as np

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.errors import InvalidOption
from draftwood.index.suffix_tree import Guess, SuffixPolicy, SuffixTree, check_depth
from draftwood.protocols import Feedback

OWN = 0
"""`Draft.source` of nodes from the request's own prompt and output."""
SHARED = 1
"""`Draft.source` of nodes from the outputs of all requests."""


class SuffixDrafter:
    """Drafts from suffix trees; the released code's policy by default.

    alpha, offset, floor, mode, counts: see `SuffixPolicy`. depth: tokens of a suffix that the trees
    keep; a draft behind a match of p tokens is at most depth - p long. nodes: the largest draft.

    Thread-safe: streams of one drafter may be used from several threads, each stream by one at a
    time. What a request generates is drafted for requests of its namespace only.

    Raises:
        InvalidOption: a value outside its range.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        offset: float = 0.0,
        floor: float = 0.1,
        depth: int = 64,
        mode: str = "linear",
        nodes: int = 32,
        counts: str = "code",
    ) -> None:
        if nodes < 0:
            raise InvalidOption(f"nodes is {nodes}; use 0 or more, such as 32")
        self.policy = SuffixPolicy(alpha, offset, floor, mode, counts)  # type: ignore[arg-type]
        self.depth = check_depth(depth)
        self.nodes = nodes
        self._shared: dict[str, SuffixTree] = {}
        self._lock = threading.Lock()

    def shared(self, namespace: str = "") -> SuffixTree:
        """The tree over the outputs of a namespace; an empty one at first."""
        with self._lock:
            if namespace not in self._shared:
                self._shared[namespace] = SuffixTree(self.depth)
            return self._shared[namespace]

    def open(self, prompt: TokenIds, *, namespace: str = "") -> SuffixStream:
        """A stream that stands behind `prompt`; it joins the namespace's shared tree."""
        return SuffixStream(self, self.shared(namespace), prompt)

    @property
    def nbytes(self) -> int:
        """Bytes held by the shared trees of all namespaces."""
        with self._lock:
            return sum(tree.nbytes for tree in self._shared.values())


class SuffixStream:
    """One request's trees and its place in them. Used by one thread at a time."""

    def __init__(self, drafter: SuffixDrafter, shared: SuffixTree, prompt: TokenIds) -> None:
        self._nodes = drafter.nodes
        self._policy = drafter.policy.native()
        self._own = SuffixTree(drafter.depth)
        self._own_sequence = self._own.begin(prompt)
        self._shared = shared
        self._shared_sequence = shared.begin()
        self._kept = drafter.depth - 1  # no longer suffix is ever matched
        self._context = prompt[-self._kept :]
        self._generated = 0

    def guess(self, budget: Budget) -> tuple[Guess, int]:
        """The better of the two trees' drafts and its source; equal scores: the request's own."""
        nodes = min(budget.nodes, self._nodes)
        reach = min(budget.reach, nodes)
        own = self._own.speculate(self._context, self._policy, nodes=nodes, reach=reach)
        shared = self._shared.speculate(self._context, self._policy, nodes=nodes, reach=reach)
        return (own, OWN) if own.score >= shared.score else (shared, SHARED)

    def propose(self, budget: Budget) -> Draft:
        """The draft of the highest score; the stream itself does not move."""
        guess, source = self.guess(budget)
        if not len(guess):
            return Draft.empty()
        sources = np.full(len(guess), source, dtype=np.uint8)
        return Draft(guess.tokens, guess.parents, guess.confidence, sources)

    def observe(self, feedback: Feedback) -> None:
        """Append what was generated to both trees."""
        tokens = feedback.tokens
        if not len(tokens):
            return
        self._own.extend(self._own_sequence, tokens)
        self._shared.extend(self._shared_sequence, tokens)
        self._context = np.concatenate((self._context, tokens))[-self._kept :]
        self._generated += len(tokens)

    def close(self) -> None:
        """Drop the request's own tree; its output stays in the shared one."""
        if self._generated:
            self._shared.finish(self._shared_sequence)
        else:
            self._shared.remove(self._shared_sequence)
        self._own = SuffixTree(self._own.depth)
