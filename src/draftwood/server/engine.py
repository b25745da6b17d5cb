"""One thread owns the model and serves all requests; the event loop only waits for its news."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

from draftwood.draft import TokenIds
from draftwood.grammar.compiled import Grammars
from draftwood.grammar.rule import GrammarRule
from draftwood.language_model import LanguageModel
from draftwood.language_model.generation import Generation, Run
from draftwood.language_model.text_batch import TextStep
from draftwood.server.limits import ServerLimits
from draftwood.server.metrics import ServerMetrics
from draftwood.server.refusal import Refusal, busy, stopping

log = logging.getLogger(__name__)

T = TypeVar("T")

News: TypeAlias = tuple[int, TextStep]
"""Which text of a request, and what a step brought it."""


@dataclass(frozen=True, slots=True, eq=False)
class WantedText:
    """One text to generate: its prompt's ids and the options of `llm.generate`."""

    prompt: TokenIds
    options: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class _Listener:
    """Who waits for the news of one text. queue: of its request; place: of the text in that."""

    queue: asyncio.Queue[News]
    place: int
    loop: asyncio.AbstractEventLoop
    since: float = field(default_factory=perf_counter)
    last: float | None = None


class Engine:
    """Continuous batching for asyncio: one thread owns the model.

        engine = Engine(llm, limits, metrics)
        async with engine.texts([WantedText(ids, {"max_tokens": 8})]) as news:
            async for place, step in news: ...
        engine.close()

    Leaving the block ends what still runs and frees its seats. `texts`, `encode` and `news` are for
    one event loop; `drain`, `cut` and `close` for any thread.
    """

    def __init__(self, llm: LanguageModel, limits: ServerLimits, metrics: ServerMetrics) -> None:
        self.llm = llm
        self.limits = limits
        self.metrics = metrics
        self._batch = llm.batch(max_batch=limits.max_batch)
        self._listeners: dict[int, _Listener] = {}
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._encoder = ThreadPoolExecutor(1, "draftwood-encoder")
        self._compiler = ThreadPoolExecutor(1, "draftwood-grammar")  # may take its time
        self._grammars: Grammars | None = None
        self._held = 0  # texts between admission and end; of the event loop alone
        self._draining = self._cutting = self._closing = False
        self._took: deque[float] = deque([1.0], maxlen=32)  # seconds of the last texts
        self._thread = threading.Thread(target=self._serve, name="draftwood-engine", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether requests are taken and the thread lives."""
        return self._thread.is_alive() and not self._draining

    @property
    def running(self) -> int:
        """Texts that share passes now."""
        return self._batch.running

    @property
    def waiting(self) -> int:
        """Texts that have not joined yet."""
        return self._batch.waiting

    async def encode(self, prompt: Any, **how: Any) -> TokenIds:
        """The prompt's ids (`LanguageModel.encode`), worked out beside the event loop."""
        return await self._beside(lambda: self.llm.encode(prompt, **how))

    async def predictions(self, texts: Sequence[str]) -> tuple[TokenIds, ...]:
        """Likely answers as ids, in the same place."""
        return await self._beside(lambda: self.llm.prompts.predictions(list(texts)))

    async def rule(self, make: Callable[[Grammars], GrammarRule]) -> GrammarRule:
        """A grammar for one text. make: compiles it; in a thread of its own, as it may take long.

        Raises:
            Refusal: where it takes longer than `limits.grammar_seconds`.
        """
        work = asyncio.get_running_loop().run_in_executor(
            self._compiler, lambda: make(self._known_grammars())
        )
        try:
            return await asyncio.wait_for(work, self.limits.grammar_seconds)
        except TimeoutError:
            raise Refusal(
                400,
                f"the grammar is not compiled after {self.limits.grammar_seconds} s; make it "
                "simpler, or try again later",
                param="response_format",
            ) from None

    def _known_grammars(self) -> Grammars:
        if self._grammars is None:
            llm = self.llm
            self._grammars = Grammars(llm.tokenizer, llm.target.vocab_size, llm.end_tokens)
        return self._grammars

    @asynccontextmanager
    async def texts(self, wanted: Sequence[WantedText]) -> AsyncIterator[AsyncIterator[News]]:
        """Generate texts together; the block gets an iterator over their news.

        Raises:
            Refusal: where the queue is full, or the server is shutting down.
            DraftwoodError: for a prompt or an option that the model refuses.
        """
        self._admit(len(wanted))
        numbers: list[int] = []
        queue: asyncio.Queue[News] = asyncio.Queue()
        try:
            runs = [await self._beside(self._prepare(each)) for each in wanted]
            loop = asyncio.get_running_loop()
            with self._lock:
                if self._cutting:
                    raise stopping()
                for place, run in enumerate(runs):
                    number = self._batch.join(run)
                    numbers.append(number)
                    self._listeners[number] = _Listener(queue, place, loop)
                self._work.notify()
            yield _until_all_ended(queue, len(numbers))
        finally:
            self._held -= len(wanted)
            for number in numbers:
                with self._lock:
                    left = self._listeners.pop(number, None)
                if left is not None:
                    self._batch.abort(number)
                    self.metrics.ended("abort", perf_counter() - left.since)

    def drain(self) -> None:
        """Take no more requests; those that run go on."""
        self._draining = True

    def cut(self) -> None:
        """End all texts where they are; their requests get what there is."""
        with self._lock:
            self._draining = self._cutting = True
            self._work.notify()

    def close(self) -> None:
        """End everything and the thread; the model stays open."""
        self.cut()
        with self._lock:
            self._closing = True
            self._work.notify()
        self._thread.join()
        self._encoder.shutdown()
        self._compiler.shutdown(cancel_futures=True)
        self._batch.close()

    def _admit(self, count: int) -> None:
        if self._draining:
            raise stopping()
        most = self.limits.max_batch + self.limits.max_waiting
        if self._held + count > most:
            each = sum(self._took) / len(self._took)
            wait = math.ceil(each * count / self.limits.max_batch)
            self.metrics.refused()
            raise busy(max(1, min(60, wait)))
        self._held += count

    def _prepare(self, each: WantedText) -> Callable[[], Run]:
        return lambda: self._batch.prepare(each.prompt, **each.options)

    async def _beside(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._encoder, call)

    def _serve(self) -> None:
        """What the thread does."""
        while True:
            with self._lock:
                self._work.wait_for(lambda: self._batch.busy or self._cutting)
                cutting, closing = self._cutting, self._closing
                if cutting and not self._batch.busy:
                    if closing:
                        return
                    self._work.wait_for(lambda: self._closing or self._batch.busy)
                    continue
            try:
                news = self._ended() if cutting else self._batch.step()
            except Exception as error:  # a fault of ours; nobody is to wait for ever
                log.exception("a step failed")
                news = self._ended(error)
            self._deliver(news)

    def _ended(self, error: Exception | None = None) -> dict[int, TextStep]:
        """All texts, ended where they are."""
        with self._lock:
            numbers = list(self._listeners)
        ended: dict[int, TextStep] = {}
        for number in numbers:
            done = self._batch.abort(number)
            if done is not None:
                ended[number] = TextStep("", None, generation=_failed(done, error))
        return ended

    def _deliver(self, news: Mapping[int, TextStep]) -> None:
        now = perf_counter()
        told: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue[News], News]]] = {}
        for number, step in news.items():
            with self._lock:
                ends = step.generation is not None
                one = self._listeners.pop(number, None) if ends else self._listeners.get(number)
            if one is None:  # its client is gone
                continue
            if step.step is not None:
                self.metrics.stepped(step.step, since=one.since, last=one.last, now=now)
                one.last = now
            if step.generation is not None:
                self._took.append(now - one.since)
                self.metrics.finished(step.generation, now - one.since)
            told.setdefault(one.loop, []).append((one.queue, (one.place, step)))
        self.metrics.queue(running=self.running, waiting=self.waiting)
        for loop, each in told.items():
            try:
                loop.call_soon_threadsafe(_put, each)
            except RuntimeError:  # the loop has ended, and with it whoever waited
                log.debug("the event loop has ended", exc_info=True)


def _put(told: Sequence[tuple[asyncio.Queue[News], News]]) -> None:
    for queue, news in told:
        queue.put_nowait(news)


async def _until_all_ended(queue: asyncio.Queue[News], count: int) -> AsyncIterator[News]:
    while count:
        news = await queue.get()
        count -= news[1].generation is not None
        yield news


def _failed(done: Generation, error: Exception | None) -> Generation:
    """A generation that ended with an error, where there is one."""
    if error is None:
        return done
    return replace(done, error=error, finish="error")
