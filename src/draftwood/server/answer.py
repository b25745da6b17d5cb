"""From the news of texts to the choices of an answer."""

from __future__ import annotations

from draftwood.language_model import LanguageModel
from draftwood.language_model.generation import Generation
from draftwood.language_model.origins import OriginTeller, origin_rows
from draftwood.language_model.text_batch import TextStep
from draftwood.server.forms import Piece
from draftwood.server.metrics import speculation
from draftwood.server.refusal import Refusal
from draftwood.server.shapes import (
    ChoiceExtension,
    CompletionTokens,
    RequestMetrics,
    SpeculativeDecoding,
    TokenShape,
    Usage,
)
from draftwood.server.work import Work
from draftwood.stats import Stats


class ChoiceWriter:
    """One choice while its text comes in."""

    def __init__(self, llm: LanguageModel, *, origins: bool) -> None:
        self._llm = llm
        self._teller = OriginTeller(llm.decoding) if origins else None
        self._steps = 0
        self._sent = 0
        self.pieces: list[Piece] = []
        self.generation: Generation | None = None

    def take(self, news: TextStep) -> Piece:
        """What a step adds.

        Raises:
            Refusal: where an error ended the text.
        """
        done = news.generation
        if done is not None and done.error is not None:
            raise Refusal.of(done.error) from done.error
        text, offset = news.piece, self._sent
        if done is not None:
            text = done.text[self._sent :]
        self._sent += len(text)
        chosen = [] if news.step is None else news.step.tokens.tolist()
        piece = Piece(text, offset, news.logprobs, chosen, self._tell(news))
        if done is not None:
            piece.finish = "stop" if done.finish == "stop" else "length"
            self.generation = done
        return piece

    @property
    def cut_short(self) -> bool:
        """Whether the server ended it."""
        return self.generation is not None and self.generation.finish is None

    def _tell(self, news: TextStep) -> list[TokenShape] | None:
        if self._teller is None:
            return None
        rows = [] if news.step is None else origin_rows(news.step, self._steps)
        self._steps += 1
        told = self._teller.tell(rows, last=news.generation is not None)
        return [TokenShape(**each.as_dict()) for each in told]


def usage_of(work: Work, generations: list[Generation]) -> Usage:
    """The tokens of a request."""
    generated = sum(len(each.tokens) for each in generations)
    details = None
    if work.predicted:
        details = CompletionTokens(
            accepted_prediction_tokens=sum(
                each.stats.accepted_prediction_tokens for each in generations
            ),
            rejected_prediction_tokens=sum(
                each.stats.rejected_prediction_tokens for each in generations
            ),
        )
    return Usage(
        prompt_tokens=work.prompt_tokens,
        completion_tokens=generated,
        total_tokens=work.prompt_tokens + generated,
        completion_tokens_details=details,
    )


def figures_of(generations: list[Generation]) -> RequestMetrics:
    """How drafts went in all texts of a request."""
    together = Stats.together(each.stats for each in generations)
    return RequestMetrics(
        speculative_decoding=SpeculativeDecoding(**speculation(together)),
        tokens_per_step=together.tokens_per_step,
        steps=together.steps,
        generation_time_ms=together.seconds * 1000,
        seconds_saved=together.seconds_saved,
    )


def extension_of(
    work: Work, writer: ChoiceWriter, tokens: list[TokenShape] | None
) -> ChoiceExtension | None:
    """What only this server tells, where it was asked for or there is something to tell."""
    ended_by = "shutdown" if writer.cut_short else None
    if tokens is None:
        return None if ended_by is None else ChoiceExtension(ended_by="shutdown")
    return ChoiceExtension(
        tokens=tokens,
        namespace=work.namespace,
        ended_by=None if ended_by is None else "shutdown",
    )
