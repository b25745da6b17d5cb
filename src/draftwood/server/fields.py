"""Requests: the fields that chat and completions share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from draftwood.errors import InvalidOption

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]


class TextPart(BaseModel):
    """A piece of text in a list of contents; other kinds (images, sound) are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: str


class PredictedContent(BaseModel):
    """A likely answer. Parts are joined; several answers are a list of these."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["content"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The answer."""
        return joined(self.content)


class JsonSchema(BaseModel):
    """The schema of a `json_schema` response format."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """What the text has to be: anything, JSON, JSON of a schema, or what a regex matches."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchema | None = None
    regex: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with type json_schema, and with no other")
        if (self.type == "regex") != (self.regex is not None):
            raise ValueError("regex goes with type regex, and with no other")
        return self


class StreamOptions(BaseModel):
    """Of a streamed answer. include_usage: a last chunk with the usage."""

    model_config = ConfigDict(extra="ignore", strict=True)
    include_usage: bool = False


class Extension(BaseModel):
    """What only this server knows.

    drafts: whether to draft. origins: whether to tell where each token came from.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    drafts: bool = True
    origins: bool = False


class GenerationFields(BaseModel):
    """What both kinds of request may say; unknown fields are refused.

    cache_salt, else user: the namespace, within that of the API key. top_k, min_p,
    repetition_penalty, stop_token_ids, cache_salt: as vLLM has them.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=1e-6, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Seed | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stop: (
        Annotated[str, Field(min_length=1, max_length=1000)]
        | Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=16)
        ]
        | None
    ) = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    response_format: ResponseFormat | None = None
    prediction: (
        PredictedContent | Annotated[list[PredictedContent], Field(max_length=16)] | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    cache_salt: Annotated[str, Field(max_length=256)] | None = None
    draftwood: Extension = Extension()

    # Taken, since clients send them, and without effect here.
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_unicode(cls, data: Any) -> Any:
        """Half of a surrogate pair, which JSON can spell, is no text."""
        waiting = [data]
        while waiting:
            each = waiting.pop()
            if isinstance(each, str):
                try:
                    each.encode()
                except UnicodeEncodeError as error:
                    raise ValueError(
                        f"a text holds {each[error.start]!r}, half of a surrogate pair; send whole "
                        "characters"
                    ) from None
            elif isinstance(each, dict):
                waiting += [*each.keys(), *each.values()]
            elif isinstance(each, list):
                waiting += each
        return data

    def options(self, vocab_size: int) -> dict[str, Any]:
        """What they come to as options of `llm.generate`.

        Raises:
            InvalidOption: for a bias of what is no token id below `vocab_size`.
        """
        given: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": 0 if self.top_k == -1 else self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "stop_token_ids": self.stop_token_ids,
            "stop": self.stop,
            "logit_bias": self._bias(vocab_size),
        }
        options = {name: value for name, value in given.items() if value is not None}
        if not self.draftwood.drafts:
            options["drafter"] = "none"
        if self.prediction is not None:
            several = self.prediction if isinstance(self.prediction, list) else [self.prediction]
            options["prediction"] = [each.text for each in several]
        return options

    def _bias(self, vocab_size: int) -> dict[int, float] | None:
        if self.logit_bias is None:
            return None
        for token in self.logit_bias:
            if not token.isascii() or not token.isdecimal() or len(token) > 9:
                raise InvalidOption(f"logit_bias has the key {token!r}; give token ids")
            if int(token) >= vocab_size:
                raise InvalidOption(
                    f"logit_bias names token {token}, and the model has {vocab_size}; give ids "
                    "below that"
                )
        return {int(token): bias for token, bias in self.logit_bias.items()}


def joined(content: str | list[TextPart] | None) -> str:
    """The text of a content."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)
