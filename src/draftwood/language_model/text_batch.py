"""Texts that join and leave while others are generated, as a server needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, Unpack

from draftwood.batch import BatchDecoder
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.language_model.drafting import Drafting
from draftwood.language_model.generation import Generation, Logprobs, Run
from draftwood.language_model.options import Options, Settings, takes
from draftwood.language_model.prompts import Prompt
from draftwood.protocols import Target
from draftwood.step import Step

_SHARED = ("cost", "nodes")
"""Options that all texts of a pass have in common."""

Prepare: TypeAlias = Callable[[Any, Settings], Run]
"""Makes a text ready: `LanguageModel` does it."""

Count: TypeAlias = Callable[[Run, Step, float | None], None]
"""Enters a step into the figures of its text and of the model."""


@dataclass(frozen=True, slots=True, eq=False)
class TextStep:
    """What one step brought one text.

    piece: its new text that no later token can change; "" where there is none yet. step: the step;
    None where an error ended the text. logprobs: of the step's tokens, where they were asked for.
    generation: the whole text, once it has ended.
    """

    piece: str
    step: Step | None
    logprobs: Logprobs | None = None
    generation: Generation | None = None


class TextBatch:
    """Continuous batching of texts: they join, share passes and leave, each with its own options.

        batch = llm.batch(max_batch=8)
        number = batch.submit("List all open orders.", max_tokens=48)
        while batch.busy:
            for number, news in batch.step().items():
                print(number, news.piece, end="")     # and news.generation, when it has ended

    Every text equals that of `llm.generate` with the same options, whoever shares its passes
    (`BatchDecoder` says how far). `llm.batch` makes it. `submit`, `abort` and the properties may be
    used from any thread at any time, `step` and `close` by one thread at a time.
    """

    def __init__(
        self, target: Target, drafting: Drafting, prepare: Prepare, count: Count, *, max_batch: int
    ) -> None:
        self._drafting = drafting
        self._prepare = prepare
        self._count = count
        self._decoder = BatchDecoder(
            target, drafting.drafter, max_batch=max_batch, budget=drafting.budget
        )
        self._runs: dict[int, Run] = {}
        self._lock = fork_lock()

    def __repr__(self) -> str:
        return f"TextBatch({self.running} running, {self.waiting} waiting)"

    @takes(Options)
    def submit(self, prompt: Prompt, **options: Unpack[Options]) -> int:
        """Queue a text; returns its number: 0, 1, 2, ..

        prompt, options: as for `llm.stream`. `cost` and `nodes` are those of the batch.

        Raises:
            DraftwoodError: what `llm.generate` raises before anything is generated; nothing is
                queued then.
        """
        return self.join(self.prepare(prompt, **options))

    @takes(Options)
    def prepare(self, prompt: Prompt, **options: Unpack[Options]) -> Run:
        """The slow half of `submit`: tokens and checks. For one `join`; from any thread."""
        settings = Settings.of(options, several=False)
        for name in _SHARED:
            if name in settings.given:
                raise InvalidOption(
                    f"{name} is given for one text, and texts that share passes have one {name}; "
                    "load the model with it"
                )
        return self._prepare(prompt, settings)

    def join(self, run: Run) -> int:
        """The quick half of `submit`: queue a prepared text; returns its number."""
        with self._lock:
            number = self._decoder.submit(run.request)
            self._runs[number] = run
        return number

    def abort(self, number: int) -> Generation | None:
        """End a text, waiting or running, and free its seat; returns what was generated of it.

        None for a text that has ended or never existed. No later step reports it.
        """
        if not self._decoder.abort(number):
            return None
        with self._lock:
            run = self._runs.pop(number, None)
        return None if run is None else run.generation()

    @property
    def running(self) -> int:
        """Texts that share passes now."""
        return self._decoder.running

    @property
    def waiting(self) -> int:
        """Texts that have not joined yet."""
        return self._decoder.waiting

    @property
    def busy(self) -> bool:
        """Whether any text runs or waits."""
        return self._decoder.busy

    def step(self) -> dict[int, TextStep]:
        """One pass for all that run; what it brought, by the number of the text.

        An error of one text ends that text only: its `generation` then has an `error`.
        """
        running = max(1, min(self.running + self.waiting, self._decoder.max_batch))
        turn = self._decoder.step()
        plain = self._drafting.plain_seconds(running)
        news: dict[int, TextStep] = {}
        for number, error in turn.failed.items():
            run = self._taken(number, ends=True)
            if run is not None:
                run.fail(error)
                news[number] = _ended(run, None)
        for number, step in turn.steps.items():
            run = self._taken(number, ends=step.finish is not None)
            if run is None:  # aborted since
                continue
            self._count(run, step, plain)
            if run.error is not None and step.finish is None:  # `on_step` raised
                self.abort(number)
            news[number] = (
                _ended(run, step) if run.ended else TextStep(run.piece(), step, run.step_logprobs())
            )
        return news

    def close(self) -> None:
        """End all texts and free their caches."""
        self._decoder.close()
        with self._lock:
            self._runs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _taken(self, number: int, *, ends: bool) -> Run | None:
        with self._lock:
            return self._runs.pop(number, None) if ends else self._runs.get(number)


def _ended(run: Run, step: Step | None) -> TextStep:
    last = run.piece() if run.error is not None else run.rest()
    return TextStep(last, step, run.step_logprobs(), run.generation())
