"""Recall, our suffix tree and the released one behind the same few verbs, for `cost.py`.

A side holds the output of all requests (`add`), opens requests, and takes a decode step of many.
The released tree is that of `arctic-inference` 0.3.0; suffix/run.py says how it is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from importlib.util import find_spec
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from draftwood.draft import ROOT, Budget, Draft, TokenIds, as_tokens
from draftwood.drafters.suffix import SuffixDrafter, SuffixStream
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallPolicy, RecallStream, observe_all, propose_all
from draftwood.index.suffix_tree import Mode
from draftwood.protocols import Feedback, Verdict

DEPTH = 24
"""Of both suffix trees: what the released code keeps by default."""
FLOORS = {"linear": 0.1, "tree": 0.0}
ALPHAS = {"linear": 1.0, "tree": 4.0}
"""The released default, and the best of its tree settings."""
THREADS = 2

AnyStream = TypeVar("AnyStream", RecallStream, SuffixStream)

PEER_INSTALLED = find_spec("arctic_inference") is not None


class Request(Protocol):
    """A running request."""

    def draft(self, nodes: int) -> object:
        """The side's own draft object."""

    def append(self, tokens: TokenIds) -> None:
        """The request has generated `tokens`."""

    def close(self) -> None:
        """The request has ended."""


class Side(Protocol):
    """An index over history."""

    name: str

    def bytes_per_token(self, tokens: int) -> float | None:
        """Bytes of memory a token of history, `tokens` being stored; None: the side cannot say."""

    def add(self, text: TokenIds) -> None:
        """A whole output, as if a request had generated it."""

    def open(self, prompt: TokenIds) -> Request:
        """A request that stands after `prompt`."""

    def step(self, requests: Sequence[Any], tokens: Sequence[TokenIds], nodes: int) -> None:
        """A decode step of different requests: each one's new tokens, then a draft each."""


class RecallSide:
    """`Recall` of so many slots; drafts no node below `floor`."""

    name = "recall"

    def __init__(self, tokens: int, floor: float = 0.0) -> None:
        self.recall = Recall(tokens)
        self._policy = RecallPolicy(floor=floor)

    def with_floor(self, floor: float) -> RecallSide:
        """The same history under another floor."""
        side = copy(self)
        side._policy = RecallPolicy(floor=floor)
        return side

    def bytes_per_token(self, tokens: int) -> float:
        """Bytes a slot, whatever is stored."""
        del tokens
        return self.recall.nbytes / self.recall.capacity

    def add(self, text: TokenIds) -> None:
        """Into the ring."""
        self.recall.add(text)

    def open(self, prompt: TokenIds) -> StreamRequest[RecallStream]:
        """A stream."""
        stream = RecallStream(self.recall, prompt, policy=self._policy)
        return StreamRequest(stream, stream.native)

    def step(
        self,
        requests: Sequence[StreamRequest[RecallStream]],
        tokens: Sequence[TokenIds],
        nodes: int,
    ) -> None:
        """Two native calls."""
        streams = [request.stream for request in requests]
        observe_all(streams, tokens, threads=THREADS)
        propose_all(streams, [Budget(nodes)] * len(streams), threads=THREADS)


class StreamRequest(Generic[AnyStream]):
    """A stream of ours, by the native calls that an engine's adapter makes."""

    def __init__(self, stream: AnyStream, native: Any) -> None:
        self.stream: AnyStream = stream
        self._native = native

    def draft(self, nodes: int) -> object:
        """A draft in native memory, or None."""
        return self._native.propose(nodes, nodes, 0.0)

    def append(self, tokens: TokenIds) -> None:
        """Move past tokens and learn from them."""
        self._native.observe(tokens)

    def close(self) -> None:
        """End the request."""
        self.stream.close()


class SuffixSide:
    """Our suffix tree with the released policy."""

    name = "suffix"

    def __init__(self, mode: Mode = "tree") -> None:
        self.drafter = SuffixDrafter(
            depth=DEPTH, mode=mode, alpha=ALPHAS[mode], floor=FLOORS[mode], threads=THREADS
        )
        self._shared = self.drafter.shared()

    def bytes_per_token(self, tokens: int) -> float:
        """Of the shared tree."""
        return self.drafter.nbytes / tokens

    def add(self, text: TokenIds) -> None:
        """Into the shared tree."""
        self._shared.finish(self._shared.begin(text))

    def open(self, prompt: TokenIds) -> StreamRequest[SuffixStream]:
        """A stream with a tree of its own."""
        stream = self.drafter.open(prompt)
        return StreamRequest(stream, stream.native)

    def step(
        self,
        requests: Sequence[StreamRequest[SuffixStream]],
        tokens: Sequence[TokenIds],
        nodes: int,
    ) -> None:
        """Two native calls."""
        streams = [request.stream for request in requests]
        self.drafter.observe_all(streams, [_feedback(each) for each in tokens])
        self.drafter.propose_all(streams, [Budget(nodes)] * len(streams))


class PeerSide:
    """The released cache; its requests have numbers, which this makes up."""

    name = "arctic"

    def __init__(self, mode: str = "tree") -> None:
        from arctic_inference.suffix_decoding import SuffixDecodingCache

        self.cache = SuffixDecodingCache(max_tree_depth=DEPTH)
        self.mode = mode
        self._numbers = 0
        self._added = 1 << 30  # the cache gives its own requests low numbers

    def bytes_per_token(self, tokens: int) -> None:
        """Not known: its allocator's share is in no count."""

    def add(self, text: TokenIds) -> None:
        """Into the global tree."""
        self._added += 1
        self.cache._global_tree.extend_ndarray(self._added, text)

    def open(self, prompt: TokenIds) -> PeerRequest:
        """A request by its number."""
        self._numbers += 1
        self.cache.start_request(self._numbers, prompt)
        return PeerRequest(self, self._numbers, prompt)

    def step(self, requests: Sequence[PeerRequest], tokens: Sequence[TokenIds], nodes: int) -> None:
        """A call for each request: the released code has none for many."""
        for request, part in zip(requests, tokens, strict=True):
            request.append(part)
        for request in requests:
            request.draft(nodes)


class PeerRequest:
    """A running request of the peer's cache, and the end of its text."""

    def __init__(self, side: PeerSide, number: int, prompt: TokenIds) -> None:
        self._cache, self._mode, self._number = side.cache, side.mode, number
        self._context = prompt[-DEPTH:]

    def draft(self, nodes: int) -> Any:
        """The peer's own draft object."""
        return self._cache.speculate(
            self._number,
            self._context,
            max_spec_tokens=nodes,
            max_spec_factor=ALPHAS[self._mode],
            min_token_prob=FLOORS[self._mode],
            use_tree_spec=self._mode == "tree",
        )

    def append(self, tokens: TokenIds) -> None:
        """Into both trees."""
        self._cache.add_active_response(self._number, tokens)
        self._context = np.concatenate((self._context, tokens))[-DEPTH:]

    def close(self) -> None:
        """Drop the request's tree."""
        self._cache.stop_request(self._number)


class PeerDrafter:
    """The released cache as a drafter of ours, for replays. nodes: the largest draft."""

    def __init__(self, mode: str, nodes: int) -> None:
        self._side, self._nodes = PeerSide(mode), nodes

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> PeerStream:
        """A request; the peer knows neither namespaces nor predictions."""
        del namespace, prediction
        return PeerStream(self._side.open(prompt), self._nodes)

    def close(self) -> None:
        """Nothing is held outside of memory."""


class PeerStream:
    """A request as a stream."""

    def __init__(self, request: PeerRequest, nodes: int) -> None:
        self._request, self._nodes = request, nodes

    def propose(self, budget: Budget) -> Draft:
        """The peer's draft in our arrays."""
        guess = self._request.draft(min(budget.reach, self._nodes))
        if not guess.token_ids:
            return Draft.empty()
        above = [1.0 if parent == ROOT else guess.probs[parent] for parent in guess.parents]
        confidence = np.array(guess.probs, dtype=np.float32) / np.array(above, dtype=np.float32)
        return Draft.tree(guess.token_ids, guess.parents, confidence=np.minimum(confidence, 1.0))

    def observe(self, feedback: Feedback) -> None:
        """Move past what was generated."""
        self._request.append(as_tokens(feedback.tokens))

    def close(self) -> None:
        """End the request."""
        self._request.close()


def size_of(draft: Any) -> int:
    """How many tokens a side's own draft object holds."""
    if draft is None:
        return 0
    if isinstance(draft, tuple):  # arrays, tokens first
        return len(draft[0])
    return len(draft.token_ids if hasattr(draft, "token_ids") else draft.tokens)


_NO_PATH = Verdict(np.empty(0, dtype=np.int32), None)


def _feedback(tokens: TokenIds) -> Feedback:
    return Feedback(Draft.empty(), _NO_PATH, tokens)
