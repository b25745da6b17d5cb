"""The two forms of an answer: a chat's and a completion's, whole and in chunks."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

from draftwood.language_model import LanguageModel
from draftwood.language_model.generation import Logprobs
from draftwood.server.shapes import (
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatLogprobs,
    CompletionChoice,
    CompletionLogprobs,
    Delta,
    Finish,
    RequestMetrics,
    TextCompletion,
    TokenLogprob,
    TokenShape,
    TopLogprob,
    Usage,
)


@dataclass(slots=True, eq=False)
class Piece:
    """What a step adds to a choice. logprobs: of its tokens; tokens: where each came from."""

    text: str
    offset: int
    logprobs: Logprobs | None
    chosen: list[int]
    tokens: list[TokenShape] | None
    finish: Finish | None = None


@dataclass(slots=True, eq=False)
class Heading:
    """What all chunks of an answer have in common."""

    model: str
    prefix: str
    id: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = f"{self.prefix}-{uuid.uuid4().hex}"

    def fields(self) -> dict[str, Any]:
        """As the answer's fields."""
        return {"id": self.id, "created": self.created, "model": self.model}


class AnswerForm(Protocol):
    """How one kind of request is answered."""

    prefix: str

    def opening(self, heading: Heading, index: int) -> Any | None:
        """The first chunk of a choice, where there is one."""

    def chunk(self, heading: Heading, index: int, piece: Piece, extension: Any) -> Any:
        """A chunk with one piece."""

    def closing(self, heading: Heading, usage: Usage, metrics: RequestMetrics) -> Any:
        """The last chunk, without choices."""

    def whole(self, heading: Heading, choices: list[Any], usage: Usage, figures: Any) -> Any:
        """The whole answer."""

    def choice(self, index: int, text: str, pieces: list[Piece], extension: Any) -> Any:
        """A whole choice."""


class ChatForm:
    """Of `/v1/chat/completions`."""

    prefix = "chatcmpl"

    def __init__(self, llm: LanguageModel) -> None:
        self._llm = llm

    def opening(self, heading: Heading, index: int) -> ChatCompletionChunk:
        """The role, before any text."""
        delta = Delta(role="assistant", content="")
        choice = ChatChunkChoice(index=index, delta=delta)
        return ChatCompletionChunk(**heading.fields(), choices=[choice])

    def chunk(self, heading: Heading, index: int, piece: Piece, extension: Any) -> Any:
        """A chunk with one piece."""
        choice = ChatChunkChoice(
            index=index,
            delta=Delta(content=piece.text),
            logprobs=self._logprobs([piece]),
            finish_reason=piece.finish,
            draftwood=extension,
        )
        return ChatCompletionChunk(**heading.fields(), choices=[choice])

    def closing(self, heading: Heading, usage: Usage, metrics: RequestMetrics) -> Any:
        """Usage and figures."""
        return ChatCompletionChunk(**heading.fields(), choices=[], usage=usage, metrics=metrics)

    def choice(self, index: int, text: str, pieces: list[Piece], extension: Any) -> ChatChoice:
        """A whole choice."""
        return ChatChoice(
            index=index,
            message=AssistantMessage(content=text),
            logprobs=self._logprobs(pieces),
            finish_reason=pieces[-1].finish or "length",
            draftwood=extension,
        )

    def whole(self, heading: Heading, choices: list[Any], usage: Usage, figures: Any) -> Any:
        """The whole answer."""
        return ChatCompletion(**heading.fields(), choices=choices, usage=usage, metrics=figures)

    def _logprobs(self, pieces: list[Piece]) -> ChatLogprobs | None:
        if not pieces or pieces[0].logprobs is None:
            return None
        content: list[TokenLogprob] = []
        for piece in pieces:
            if piece.logprobs is None:
                continue
            of = piece.logprobs
            for at, token in enumerate(piece.chosen):
                top = zip(of.top_tokens[at].tolist(), of.top_logprobs[at].tolist(), strict=True)
                content.append(
                    TokenLogprob(
                        **_named(self._llm, token, float(of.chosen[at])),
                        top_logprobs=[
                            TopLogprob(**_named(self._llm, each, logprob)) for each, logprob in top
                        ],
                    )
                )
        return ChatLogprobs(content=content)


class CompletionForm:
    """Of `/v1/completions`."""

    prefix = "cmpl"

    def __init__(self, llm: LanguageModel) -> None:
        self._llm = llm

    def opening(self, heading: Heading, index: int) -> None:
        """A completion begins with its text."""

    def chunk(self, heading: Heading, index: int, piece: Piece, extension: Any) -> TextCompletion:
        """A chunk with one piece."""
        choice = self._choice(index, piece.text, [piece], extension)
        return TextCompletion(**heading.fields(), choices=[choice])

    def closing(self, heading: Heading, usage: Usage, metrics: RequestMetrics) -> TextCompletion:
        """Usage and figures."""
        return TextCompletion(**heading.fields(), choices=[], usage=usage, metrics=metrics)

    def choice(self, index: int, text: str, pieces: list[Piece], extension: Any) -> Any:
        """A whole choice."""
        return self._choice(index, text, pieces, extension)

    def whole(self, heading: Heading, choices: list[Any], usage: Usage, figures: Any) -> Any:
        """The whole answer."""
        return TextCompletion(**heading.fields(), choices=choices, usage=usage, metrics=figures)

    def _choice(self, index: int, text: str, pieces: list[Piece], extension: Any) -> Any:
        return CompletionChoice(
            index=index,
            text=text,
            logprobs=self._logprobs(pieces),
            finish_reason=pieces[-1].finish,
            draftwood=extension,
        )

    def _logprobs(self, pieces: list[Piece]) -> CompletionLogprobs | None:
        if pieces[0].logprobs is None:
            return None
        shown = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=None, text_offset=[])
        tops: list[dict[str, float]] = []
        for piece in pieces:
            of, offset = piece.logprobs, piece.offset
            if of is None:
                continue
            for at, token in enumerate(piece.chosen):
                text = self._llm.decode([token])
                shown.tokens.append(text)
                shown.token_logprobs.append(_finite(float(of.chosen[at])))
                shown.text_offset.append(offset)
                offset += len(text)
                top = zip(of.top_tokens[at].tolist(), of.top_logprobs[at].tolist(), strict=True)
                tops.append({self._llm.decode([each]): _finite(value) for each, value in top})
        if tops and tops[0]:
            shown.top_logprobs = tops
        return shown


def _named(llm: LanguageModel, token: int, logprob: float) -> dict[str, Any]:
    """A token and its log-probability; its bytes where its text alone tells them."""
    text = llm.decode([token])
    whole = "\ufffd" not in text
    return {
        "token": text,
        "logprob": _finite(logprob),
        "bytes": list(text.encode()) if whole else None,
    }


def _finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI writes -9999 for what cannot be."""
    return max(logprob, -9999.0)
