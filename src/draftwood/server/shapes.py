"""Answers, as OpenAI's clients read them, for whole answers and for their chunks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Finish = Literal["stop", "length"]


class CompletionTokens(BaseModel):
    """Of the generated tokens. The two counts are there where a prediction was sent."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokens | None = None


class SpeculativeDecoding(BaseModel):
    """How drafts went, under vLLM's names; mean_acceptance_length includes the target's token."""

    mean_acceptance_length: float
    draft_acceptance_rate: float
    acceptance_histogram: list[int]
    num_spec_steps: int
    num_accepted_draft_tokens: int
    num_draft_tokens: int


class RequestMetrics(BaseModel):
    """Figures of a request. seconds_saved: against plain decoding; null where that is not known."""

    speculative_decoding: SpeculativeDecoding
    tokens_per_step: float
    steps: int
    generation_time_ms: float
    seconds_saved: float | None


class OriginShape(BaseModel):
    """Where a drafted token came from (`Source`), and how sure its drafter was."""

    drafter: str
    kind: str
    confidence: float


class RefusedShape(OriginShape):
    """A drafted token that the target did not take."""

    text: str


class TokenShape(BaseModel):
    """A token of the text. accepted: its draft; null: the target's own token."""

    id: int
    text: str
    step: int
    accepted: OriginShape | None = None
    refused: RefusedShape | None = None


class ChoiceExtension(BaseModel):
    """What only this server tells of a choice."""

    model_config = ConfigDict(extra="forbid")
    tokens: list[TokenShape] | None = None
    namespace: str | None = None
    ended_by: Literal["shutdown"] | None = None


class TopLogprob(BaseModel):
    """A token that could have stood here."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the text."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Of a chat answer."""

    content: list[TokenLogprob]


class CompletionLogprobs(BaseModel):
    """Of a completion."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class AssistantMessage(BaseModel):
    """What the model answered."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Delta(BaseModel):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChoice(BaseModel):
    """An answer to a chat."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish
    draftwood: ChoiceExtension | None = None


class ChatChunkChoice(BaseModel):
    """A piece of an answer to a chat."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish | None = None
    draftwood: ChoiceExtension | None = None


class CompletionChoice(BaseModel):
    """A completion, or a piece of one; then finish_reason is null until the last."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Finish | None = None
    draftwood: ChoiceExtension | None = None


class _Answer(BaseModel):
    id: str
    created: int
    model: str
    system_fingerprint: str | None = None
    usage: Usage | None = None
    metrics: RequestMetrics | None = None


class ChatCompletion(_Answer):
    """The answer to `POST /v1/chat/completions`."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice]


class ChatCompletionChunk(_Answer):
    """A chunk of it."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChatChunkChoice]


class TextCompletion(_Answer):
    """The answer to `POST /v1/completions`, or a chunk of it."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChoice]


class ModelCard(BaseModel):
    """The model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "draftwood"
    max_model_len: int | None


class ModelList(BaseModel):
    """The answer to `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class ErrorShape(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The answer to a request that failed."""

    error: ErrorShape


def dumped(answer: BaseModel) -> dict[str, Any]:
    """As JSON: null where OpenAI's clients expect a field, our own fields only where they are."""
    shown: dict[str, Any] = answer.model_dump(mode="json", exclude_none=True)
    for choice in shown.get("choices", ()):
        choice.setdefault("logprobs", None)
        choice.setdefault("finish_reason", None)
    return shown
