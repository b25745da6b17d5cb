"""Recall: what followed here before, in this request or in any other, from a ring of tokens.

The question that SuffixDecoding asks (arXiv 2411.04975), answered from the most recent places that
match instead of a suffix tree, with an estimate that learns as it drafts (docs/recall.md).
"""

from __future__ import annotations

import os
from typing import Literal

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.errors import InvalidOption
from draftwood.index.recall import Recall, RecallPolicy, RecallStream
from draftwood.protocols import Feedback

FLOORS = {"tree": 0.005, "chain": 0.17}
"""Default floor of each mode: what a drafted token must be worth."""


class RecallDrafter:
    """Drafts from a `Recall`.

    max_tokens: slots of shared history (25 bytes each, taken at once; the oldest tokens make room).
    nodes: the largest draft. mode: "tree", or "chain" for targets that check no trees. floor: no
    node less likely to be accepted than this is drafted; None: 0.005 for a tree, 0.17 for a chain.
    prompts: whether prompts are shared too. share: generated tokens after which they are shared.
    path: keep the history in this file, created where there is none. recall: use this one instead.

    Thread-safe: streams may be used from several threads, each stream by one at a time. What a
    request generates is drafted for requests of its namespace only.

    Raises:
        InvalidOption: a value outside its range.
        HistoryError: a file that cannot be used.
    """

    def __init__(
        self,
        *,
        max_tokens: int = 1_000_000,
        nodes: int = 32,
        mode: Literal["tree", "chain"] = "tree",
        floor: float | None = None,
        prompts: bool = False,
        share: int = 256,
        path: str | None = None,
        recall: Recall | None = None,
    ) -> None:
        if not 0 <= nodes < 2**16:
            raise InvalidOption(f"nodes is {nodes}; use 0 to 65535, such as 32")
        limit = FLOORS.get(mode, 0.0) if floor is None else floor
        self.policy = RecallPolicy(mode, limit, share)
        self.nodes = nodes
        self.prompts = prompts
        if recall is not None:
            self.recall = recall
        elif path is not None:
            self.recall = Recall.open(os.path.expanduser(path), max_tokens=max_tokens)
        else:
            self.recall = Recall(max_tokens)

    def open(self, prompt: TokenIds, *, namespace: str = "") -> RecallDraftStream:
        """A stream that stands behind `prompt`."""
        if self.prompts:
            self.recall.add(prompt, namespace=namespace)
        stream = RecallStream(self.recall, prompt, namespace=namespace, policy=self.policy)
        return RecallDraftStream(stream, self.nodes)

    @property
    def nbytes(self) -> int:
        """Bytes of shared history, fixed at creation."""
        return self.recall.nbytes


class RecallDraftStream:
    """One request's stream. Used by one thread at a time."""

    def __init__(self, stream: RecallStream, nodes: int) -> None:
        self.stream = stream
        self._nodes = nodes

    def propose(self, budget: Budget) -> Draft:
        """The nodes most likely to be accepted, best first; the stream itself does not move."""
        nodes = min(budget.nodes, self._nodes)
        guess = self.stream.propose(nodes, min(budget.reach, nodes))
        if not len(guess):
            return Draft.empty()
        return Draft(guess.tokens, guess.parents, guess.confidence, guess.sources)

    def observe(self, feedback: Feedback) -> None:
        """Move past what was generated, and learn from how the draft went."""
        self.stream.observe(feedback.tokens)

    def close(self) -> None:
        """Share what is left of the output."""
        self.stream.close()
