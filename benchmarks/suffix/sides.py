"""Ours and the peer's suffix trees behind the same few verbs, for the scripts beside.

The peer is `arctic-inference` 0.3.0, the released SuffixDecoding; run.py says how it is installed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.suffix.released import SuffixDecodingCache
from draftwood.draft import Budget, Draft, TokenIds
from draftwood.drafters.suffix import SuffixDrafter, SuffixStream
from draftwood.index.suffix_tree import Mode
from draftwood.protocols import Feedback, Verdict


@dataclass(frozen=True, slots=True)
class Setting:
    """One policy in the words of both: MAX_SPEC(p) = alpha * p + offset, at most `nodes`."""

    mode: Mode = "linear"
    alpha: float = 1.0
    offset: float = 0.0
    floor: float = 0.1
    nodes: int = 32

    def __str__(self) -> str:
        return f"{self.mode} alpha {self.alpha:g} offset {self.offset:g} floor {self.floor:g}"


RELEASED = Setting()
"""The default of the released code, and of vLLM."""
BEST_TREE = Setting("tree", alpha=4.0, floor=0.0)


@dataclass(frozen=True, slots=True)
class Guess:
    """A draft as either side gives it; probability: P(accepted) of each node."""

    tokens: list[int]
    parents: list[int]
    probability: list[float]
    score: float
    match: int


class Peer:
    """The peer's cache; its requests have numbers, which this makes up."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.cache = SuffixDecodingCache(max_tree_depth=depth)
        self._opened = 0

    def open(self, prompt: TokenIds) -> PeerRequest:
        """A request after `prompt`."""
        self._opened += 1
        self.cache.start_request(self._opened, prompt)
        return PeerRequest(self.cache, self._opened)


class PeerRequest:
    """A running request of the peer's cache."""

    def __init__(self, cache: SuffixDecodingCache, name: Hashable) -> None:
        self._cache = cache
        self._name = name

    def draft(self, context: TokenIds, setting: Setting) -> Any:
        """The peer's own draft object after `context`, the end of this request's text."""
        return self._cache.speculate(
            self._name,
            context,
            max_spec_tokens=setting.nodes,
            max_spec_factor=setting.alpha,
            max_spec_offset=setting.offset,
            min_token_prob=setting.floor,
            use_tree_spec=setting.mode == "tree",
        )

    def guess(self, context: TokenIds, setting: Setting) -> Guess:
        """The same as a value to compare."""
        draft = self.draft(context, setting)
        return Guess(draft.token_ids, draft.parents, draft.probs, draft.score, draft.match_len)

    def append(self, tokens: TokenIds) -> None:
        """The request has generated `tokens`."""
        self._cache.add_active_response(self._name, tokens)

    def close(self) -> None:
        """The request has ended."""
        self._cache.stop_request(self._name)


class Ours:
    """Our drafter under one setting."""

    def __init__(self, depth: int, setting: Setting = RELEASED) -> None:
        self.drafter = SuffixDrafter(
            depth=depth,
            mode=setting.mode,
            alpha=setting.alpha,
            offset=setting.offset,
            floor=setting.floor,
            nodes=setting.nodes,
        )
        self._budget = Budget(setting.nodes)

    def open(self, prompt: TokenIds) -> OurRequest:
        """A request after `prompt`."""
        return OurRequest(self.drafter.open(prompt), self._budget)

    def step(self, requests: Sequence[OurRequest], tokens: Sequence[TokenIds]) -> list[Draft]:
        """One decode step of a batch: each request's new tokens, then a draft each."""
        streams = [request.stream for request in requests]
        self.drafter.observe_all(streams, [_feedback(each) for each in tokens])
        return self.drafter.propose_all(streams, [self._budget] * len(streams))


class OurRequest:
    """A running request of our drafter."""

    def __init__(self, stream: SuffixStream, budget: Budget) -> None:
        self.stream = stream
        self._budget = budget

    def draft(self) -> Draft:
        """What the stream proposes."""
        return self.stream.propose(self._budget)

    def guess(self) -> Guess:
        """The same as a value to compare."""
        best = self.stream.guess(self._budget)
        return Guess(
            best.tokens.tolist(),
            best.parents.tolist(),
            best.probability.tolist(),
            best.score,
            best.match,
        )

    def append(self, tokens: TokenIds) -> None:
        """The request has generated `tokens`."""
        self.stream.observe(_feedback(tokens))

    def close(self) -> None:
        """The request has ended."""
        self.stream.close()


_NO_PATH = Verdict(np.empty(0, dtype=np.int32), None)


def _feedback(tokens: TokenIds) -> Feedback:
    return Feedback(Draft.empty(), _NO_PATH, tokens)
