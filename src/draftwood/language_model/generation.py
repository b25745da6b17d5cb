"""Results: a `Generation`, and the `Run` of one text while it is generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from draftwood.batch import Request
from draftwood.draft import NO_TOKENS, Draft, TokenIds
from draftwood.errors import GenerationFailed
from draftwood.language_model.options import Settings
from draftwood.language_model.origins import NO_ORIGINS, Origins, Row, origin_rows
from draftwood.page.document import notebook_frame, run_document
from draftwood.protocols import Drafter, Rows, Top, Verdict, Verifier
from draftwood.sampling.ranking import k_likeliest
from draftwood.stats import Stats
from draftwood.step import Step
from draftwood.text.stop import Stop
from draftwood.text.stream import TextStream


@dataclass(frozen=True, slots=True, eq=False)
class Logprobs:
    """Log-probabilities of n tokens by the model's own distribution, at temperature 1.

    Options that change the distribution (temperature, penalties, bias, processors) do not change
    them. chosen: float32 [n], of the generated tokens. top_tokens, top_logprobs: int32 and float32
    [n, k], the k likeliest tokens at each position, the likeliest first.
    """

    chosen: NDArray[np.float32]
    top_tokens: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Generation:
    """What was generated.

    tokens: int32, the end token included. finish: "stop" (an end token, a stop string or a stop
    token), "length" (max_tokens), "time" (max_time), "context" (the model's limit), "error", or
    None where it was stopped by the caller before it was complete. seed: the seed of the text; None
    for greedy text. origins: where each token came from. namespace: where it learned and drafted.
    logprobs: where they were asked for. metadata: what the caller gave. error: what ended this text
    early; text and tokens are then what was generated so far.
    """

    text: str
    tokens: TokenIds
    finish: str | None
    stats: Stats
    prompt_tokens: int
    seed: int | None = None
    origins: Origins = NO_ORIGINS
    namespace: str = ""
    logprobs: Logprobs | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: Exception | None = None

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        why = f", error={self.error!r}" if self.error is not None else ""
        return (
            f"Generation({text!r}, {len(self.tokens)} tokens after {self.prompt_tokens}, "
            f"finish={self.finish!r}, {self.stats.tokens_per_step:.2f} tokens a step{why})"
        )

    def as_run(self, title: str = "Answer") -> dict[str, Any]:
        """What `draftwood.page.document.run_document` shows of it, ready for JSON."""
        stats = self.stats
        return {
            "title": title,
            "namespace": self.namespace,
            "text": self.text,
            "tokens": [each.as_dict() for each in self.origins],
            "seconds": stats.seconds,
            "metrics": {
                "seconds_saved": stats.seconds_saved,
                "speculative_decoding": {
                    "num_draft_tokens": stats.drafted,
                    "num_accepted_draft_tokens": stats.accepted,
                },
            },
        }

    def html(self, title: str = "Draftwood") -> str:
        """A page that shows where each token came from, as one HTML file without requests."""
        return run_document([self.as_run()], title=title)

    def _repr_html_(self) -> str:
        """The same in a frame, for notebooks."""
        return notebook_frame(self.html())


Generated: TypeAlias = Generation | list[Generation] | list[list[Generation]]
"""One text; a list for several prompts or several texts a prompt; lists in a list for both."""


class Run:
    """One text while it is generated, up to its `Generation`. Used by one thread at a time.

    It is also the verifier and the stop rule of its request, and keeps their results. error: what
    ended it; an error raised by `on_step` ends it with the next step.

    stop: what ends it beside its stop strings. drafter, prediction: as in `Request`.
    """

    def __init__(
        self,
        prompt: TokenIds,
        verifier: Verifier,
        text: TextStream,
        stop: Stop,
        settings: Settings,
        *,
        seed: int | None = None,
        drafter: Drafter | None = None,
        prediction: Sequence[TokenIds] = (),
    ) -> None:
        self.prompt = prompt
        self.lossless = verifier.lossless
        self.request = Request(
            prompt,
            self,
            replace(stop, ends=(text,)),
            settings.namespace,
            drafter,
            prediction,
        )
        self.error: Exception | None = None
        self.finish: str | None = None
        self._verifier = verifier
        self._text = text
        self._seed = seed
        self._settings = settings
        self._given: list[str] = []
        self._tokens: list[TokenIds] = []
        self._rows: list[Row] = []
        self._recorder = None if settings.logprobs is None else _Recorder(settings.logprobs)
        self._stats = Stats()

    @property
    def first(self) -> bool:
        """Whether no step has been made yet."""
        return not self._stats.steps

    @property
    def progress(self) -> str:
        """How far it is, in a few words."""
        state = "failed" if self.error is not None else self.finish or "unfinished"
        return f"{self._stats.tokens} tokens after {len(self.prompt)}, {state}"

    @property
    def ended(self) -> bool:
        """Whether no step follows."""
        return self.finish is not None or self.error is not None

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The verdict of its verifier."""
        if self.error is not None:
            raise self.error
        verdict = self._verifier.verify(draft, rows)
        if self._recorder is not None:
            self._recorder.record(draft, rows, verdict)
        return verdict

    def take(self, step: Step, plain: float | None = None) -> None:
        """Count a step, keep its tokens, and call `on_step`. plain: see `Stats.add`."""
        self._rows += origin_rows(step, self._stats.steps)
        self._stats.add(step, first=self.first, plain=plain)
        self._tokens.append(step.tokens)
        self.finish = step.finish
        if self._recorder is not None:
            self._recorder.keep(len(step.tokens))
        if self._settings.on_step is not None and self.error is None:
            try:
                self._settings.on_step(step)
            except Exception as error:
                self.error = error

    def fail(self, error: Exception) -> None:
        """End with an error, unless there is one already."""
        self.error = self.error or error

    def step_logprobs(self) -> Logprobs | None:
        """Of the tokens of the last step; None where none were asked for."""
        return None if self._recorder is None else self._recorder.last()

    def piece(self) -> str:
        """The new text that no later token can change."""
        return self._give(self._text.take())

    def rest(self) -> str:
        """The last text, once generation has ended."""
        return self._give(self._text.finish())

    def generation(self) -> Generation:
        """What has been generated so far."""
        if self.finish is None or self.error is not None:
            self.piece()
        else:
            self.rest()
        return Generation(
            text="".join(self._given),
            tokens=np.concatenate(self._tokens) if self._tokens else NO_TOKENS,
            finish=self.finish if self.error is None else "error",
            stats=self._stats,
            prompt_tokens=len(self.prompt),
            seed=self._seed,
            namespace=self._settings.namespace,
            origins=Origins(tuple(self._rows), self._text.decoding),
            logprobs=None if self._recorder is None else self._recorder.logprobs(),
            metadata=dict(self._settings.metadata or {}),
            error=self.error,
        )

    def _give(self, piece: str) -> str:
        self._given.append(piece)
        return piece


def refused(error: Exception, settings: Settings) -> Generation:
    """The result for a prompt that was refused before anything was generated."""
    metadata = dict(settings.metadata or {})
    return Generation("", NO_TOKENS, "error", Stats(), 0, metadata=metadata, error=error)


def raise_failure(done: Sequence[Generation]) -> None:
    """Raise the first error, with the finished texts where there are several."""
    for number, each in enumerate(done):
        if each.error is None:
            continue
        if len(done) == 1:
            raise each.error
        raise GenerationFailed(number, each.error, done) from each.error


class _Recorder:
    """Takes the log-probabilities of tokens from the rows that they were verified by."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._chosen: list[NDArray[np.float32]] = []
        self._tops: list[Top] = []

    def record(self, draft: Draft, rows: Rows, verdict: Verdict) -> None:
        tokens = verdict.tokens(draft)
        places = [0, *(verdict.path + 1).tolist()][: len(tokens)]
        logits = np.stack([rows.logits(place) for place in places]).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        self._chosen.append(logprobs[np.arange(len(tokens)), tokens].astype(np.float32))
        if self._top:
            self._tops.append(k_likeliest(logprobs, self._top))
        else:
            none = np.empty((len(tokens), 0))
            self._tops.append(Top(none.astype(np.int32), none.astype(np.float32)))

    def keep(self, count: int) -> None:
        """Forget what was recorded last beyond the first `count` tokens."""
        if self._chosen:
            top = self._tops[-1]
            self._chosen[-1] = self._chosen[-1][:count]
            self._tops[-1] = Top(top.tokens[:count], top.logprobs[:count])

    def last(self) -> Logprobs:
        """Of the last step."""
        if not self._chosen:
            return self._none()
        return Logprobs(self._chosen[-1], self._tops[-1].tokens, self._tops[-1].logprobs)

    def logprobs(self) -> Logprobs:
        """Of all steps."""
        if not self._chosen:
            return self._none()
        return Logprobs(
            np.concatenate(self._chosen),
            np.concatenate([top.tokens for top in self._tops]),
            np.concatenate([top.logprobs for top in self._tops]),
        )

    def _none(self) -> Logprobs:
        none = np.empty((0, self._top))
        return Logprobs(np.empty(0, np.float32), none.astype(np.int32), none.astype(np.float32))
