"""The requests of one engine that serves people: what every door to it holds."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from draftwood.budget.spending import Spending
from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.recall import RecallDrafter
from draftwood.index.recall import Recall
from draftwood.protocols import Feedback, TargetInfo
from draftwood.serving.engine_texts import EngineTexts, engine_texts
from draftwood.serving.figures import EngineFigures
from draftwood.serving.history import engine_drafter, unshared
from draftwood.serving.options import EngineOptions, RequestFacts, RequestOptions, Tokenize
from draftwood.sessions import DraftBatch, Sessions

_UNKNOWN = 0.0
"""A pass whose time says nothing."""


class TokenText(Protocol):
    """Tokens of a request from its beginning; what stands after its end is not looked at."""

    def __getitem__(self, part: slice, /) -> Any:
        """Some of them, as a list or an array."""


@dataclass(frozen=True, slots=True)
class EngineShape:
    """What an engine can take.

    nodes: the most tokens of a draft. context_limit: tokens of a request, its prompt included.
    vocab: token text -> id, for the fingerprint of a history file; None: not known. tokenize: for
    predictions. trees: whether it verifies trees; else drafts are chains. logger: the name of a
    logger that the engine shows. model: its name, which goes along with texts that are shared.
    """

    vocab_size: int
    context_limit: int
    nodes: int
    vocab: Mapping[str, int] | None = None
    tokenize: Tokenize | None = None
    trees: bool = False
    logger: str = "draftwood"
    model: str = ""


class EngineSessions:
    """Sessions of an engine: opened when their request is first seen, ended when it is gone.

    `draft` is called after every pass. What it gives can be handed to the engine as it is: for each
    row at most as many tokens as it verifies and as fit into its context, ids of the vocabulary. It
    never raises; what goes wrong costs drafts, is counted in `figures` and logged once for each
    kind.

    Raises:
        DraftwoodError: for options, or a history, that cannot be used.
        OSError: for a file that cannot be read or written.
    """

    def __init__(self, shape: EngineShape, options: EngineOptions) -> None:
        priced = engine_drafter(
            options,
            nodes=shape.nodes,
            trees=shape.trees,
            vocab=shape.vocab,
            vocab_size=shape.vocab_size,
        )
        self.log = logging.getLogger(shape.logger)
        self.options = options
        self.shape = shape
        self.drafter = priced.drafter
        recall = priced.drafter if isinstance(priced.drafter, RecallDrafter) else None
        self._unshared = None if recall is None else unshared(recall)
        self.recall: Recall | None = None if recall is None else recall.recall
        self._texts: EngineTexts | None = None
        if options.replicas is not None:
            info = TargetInfo(shape.vocab, shape.vocab_size)
            self._texts = engine_texts(options.replicas, priced.drafter, info, model=shape.model)
        limit = Budget(shape.nodes)
        self.spending = None if priced.cost is None else Spending.of(priced.cost, limit=limit)
        self.sessions = Sessions(
            priced.drafter,
            vocab_size=shape.vocab_size,
            context_limit=shape.context_limit,
            nodes=shape.nodes,
            spender=self.spending,
            trees=shape.trees,
        )
        self.figures = EngineFigures()
        self.closed = False
        self._requests: dict[object, _Request] = {}
        self._last: list[object] = []  # requests of the last pass whose time can be taken
        self._ended = 0.0
        self._told: set[str] = set()

    def draft(
        self,
        keys: Sequence[object | None],
        texts: Sequence[TokenText] | NDArray[np.int32],
        ends: Sequence[int],
        facts: Callable[[Any], RequestFacts],
    ) -> DraftBatch:
        """A draft for each row of the engine's next pass.

        keys: the request of each row; None: a row that is not to be drafted for, as its prompt is
        not done. texts: its tokens. ends: how many of them there are. facts: of a request that was
        not seen before.
        """
        began = perf_counter()
        try:
            return self._draft(keys, texts, ends, facts, began)
        except Exception:
            self.failed("step")
            self._lose()
            return DraftBatch.empty(len(keys))

    def keep(self, running: Container[Any]) -> None:
        """End all requests but those in `running`."""
        try:
            for key in [key for key in self._requests if key not in running]:
                self.end(key)
        except Exception:
            self.failed("end of requests")

    def end(self, key: object) -> None:
        """A request is gone: what it generated is learned, unless it is private."""
        try:
            request = self._requests.pop(key, None)
            if request is not None and request.open:
                self._close(key, request)
        except Exception:
            self.failed("end of a request")

    def close(self) -> None:
        """End everything, write history down and let go of it; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self.keep(())
        try:
            if self._texts is not None:
                self._texts.replica.close()
            if isinstance(self.drafter, RecallDrafter):
                self.drafter.close()
        except Exception:
            self.failed("close")

    def report(self) -> dict[str, Any]:
        """All figures as plain values."""
        recall, failures = self.recall, self.sessions.failures
        errors = Counter(self.figures.errors) + Counter(failures)
        return self.figures.report(
            self.spending,
            errors=dict(errors),
            error_count=sum(errors.values()),
            running=len(self),
            drafting=self.sessions.drafting,
            history_tokens=0 if recall is None else min(recall.written, recall.capacity),
            history_capacity=0 if recall is None else recall.capacity,
            history_bytes=0 if recall is None else recall.nbytes,
            shared={} if self._texts is None else self._texts.replica.report(),
        )

    def failed(self, kind: str) -> None:
        """To be called where an exception is handled: count it, and log the first of its kind."""
        self.figures.errors[kind] += 1
        self._last = []
        self.tell(f"{kind} failed: it costs drafts; logged once, then counted", traceback=True)

    def tell(self, said: str, *, traceback: bool = False) -> None:
        """Log a warning, once."""
        if said not in self._told and len(self._told) < 1000:
            self._told.add(said)
            self.log.warning("%s", said, exc_info=traceback)

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, key: object) -> bool:
        return key in self._requests

    def _draft(
        self,
        keys: Sequence[object | None],
        texts: Sequence[TokenText] | NDArray[np.int32],
        ends: Sequence[int],
        facts: Callable[[Any], RequestFacts],
        began: float,
    ) -> DraftBatch:
        asked: list[object] = []
        came: list[list[int]] = []
        rooms: list[int] = []
        places: list[int] = []
        done: list[object] = []
        timed = True
        for at, key in enumerate(keys):
            if key is None:
                timed = False
                continue
            end = int(ends[at])
            request = self._requests.get(key)
            if request is None or end < request.length:
                request = self._open(key, texts[at], end, facts(key))
                timed = False
            if not request.open:
                continue
            new = _tokens(texts[at], request.length, end)
            if request.ends_in(new):
                done.append(key)
            if request.came is not None:
                request.came += new
            self.figures.count(*request.outcome(new))
            request.length = end
            asked.append(key)
            came.append(new)
            rooms.append(0 if done and done[-1] == key else request.room(self.shape.nodes))
            places.append(at)
        timed = timed and asked == self._last
        took = began - self._ended if timed else _UNKNOWN
        drafts = self.sessions.step(asked, came, room=rooms, pass_seconds=took)
        if self.shape.trees:
            limits = [self._requests[key].options.nodes for key in asked]
            if any(limit is not None for limit in limits):
                drafts = drafts.cut([self.shape.nodes if n is None else n for n in limits])
        self._remember(asked, drafts)
        for key in done:  # the engine cuts its text here and sends no more of it
            request = self._requests[key]
            self._close(key, request)
            request.open = False
        self._last = [] if done else asked
        self._ended = perf_counter()
        self.figures.step(asked, sum(map(len, came)), took, self._ended - began)
        return drafts if len(places) == len(keys) else drafts.spread(places, len(keys))

    def _remember(self, asked: Sequence[object], drafts: DraftBatch) -> None:
        """Keep what was drafted, until it is known what of it came true."""
        if not len(drafts.tokens):
            return
        if self.shape.trees:
            for key, draft in zip(asked, drafts, strict=True):
                self._requests[key].tree = draft
            return
        offsets, sources = drafts.offsets.tolist(), drafts.source.tobytes()
        for key, (first, last) in zip(asked, pairwise(offsets), strict=True):
            self._requests[key].sources = sources[first:last]

    def _open(self, key: object, text: TokenText, end: int, facts: RequestFacts) -> _Request:
        self.end(key)
        options = RequestOptions.of(facts, self.options, self.shape.tokenize)
        for problem in options.problems:
            self.figures.errors["request option"] += 1
            self.tell(problem)
        prompt = min(facts.prompt, end)
        request = _Request(facts, options, prompt)
        request.came = None if self._texts is None or options.private else []
        self._requests[key] = request
        if options.drafts:
            self.sessions.open(
                key,
                _tokens(text, 0, prompt),
                namespace=options.namespace,
                prediction=options.prediction or None,
                drafter=self._unshared if options.private else None,
            )
            self.figures.opened(options)
        return request

    def _lose(self) -> None:
        """All requests go on without drafts: some may have missed tokens."""
        for key, request in self._requests.items():
            if request.open:
                request.open = False
                self.sessions.abandon(key)

    def _close(self, key: object, request: _Request) -> None:
        if key not in self.sessions:  # found by content, and closed as its row did not come back
            return
        if request.options.private:
            self.sessions.abandon(key)
        else:
            if self._texts is not None:
                self._texts.ends(request.came or ())
            self.sessions.close(key)


class _Request:
    """A request of the engine's.

    length: of its text. came: what it has generated, where that is shared. Of its last draft:
    sources of a chain's tokens, or the tree.
    """

    __slots__ = ("came", "end", "length", "open", "options", "sources", "stops", "tree")

    def __init__(self, facts: RequestFacts, options: RequestOptions, length: int) -> None:
        self.length = length
        self.came: list[int] | None = None
        self.end = facts.end
        self.stops = facts.stops
        self.options = options
        self.open = options.drafts
        self.sources = b""
        self.tree: Draft | None = None

    def outcome(self, new: list[int]) -> tuple[bytes, bytes]:
        """Sources of what was drafted, and of what of it came true, as `new` came."""
        drafted, self.sources = self.sources, b""
        if self.tree is None:
            return drafted, drafted[: max(0, len(new) - 1)]
        tree, self.tree = self.tree, None
        path = Feedback.of(tree, as_tokens(new)).verdict.path if new else ()
        return tree.source.tobytes(), bytes(int(tree.source[node]) for node in path)

    def ends_in(self, new: list[int]) -> bool:
        """Whether the request ends within these tokens, which are then cut there."""
        if not self.stops.isdisjoint(new):
            last = next(at for at, token in enumerate(new) if token in self.stops)
            del new[last + 1 :]
            return True
        if self.end is not None and self.length + len(new) >= self.end:
            del new[max(0, self.end - self.length) :]
            return True
        return False

    def room(self, nodes: int) -> int:
        """Tokens that a step may still bring, the target's own included."""
        if self.options.nodes is not None:
            nodes = min(nodes, self.options.nodes)
        room = nodes + 1
        return room if self.end is None else min(room, self.end - self.length)


def _tokens(text: TokenText, first: int, last: int) -> list[int]:
    part = text[first:last]
    return part.tolist() if isinstance(part, np.ndarray) else list(part)
