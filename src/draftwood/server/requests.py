"""The two kinds of request: chat and completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from draftwood.server.fields import GenerationFields, TextPart, TokenId, joined


class ChatTurn(BaseModel):
    """One turn of a chat; what else it holds goes to the chat template as it is."""

    model_config = ConfigDict(extra="allow", strict=True)
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None

    def turn(self) -> dict[str, Any]:
        """As a chat template takes it."""
        return {**(self.model_extra or {}), "role": self.role, "content": joined(self.content)}


class ChatRequest(GenerationFields):
    """`POST /v1/chat/completions`.

    tools go to the chat template; what the model writes comes back as text. logprobs, top_logprobs,
    max_completion_tokens: as OpenAI has them. chat_template_kwargs: passed on to the template.
    """

    messages: Annotated[list[ChatTurn], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=1000)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    modalities: list[Literal["text"]] | None = None


class CompletionRequest(GenerationFields):
    """`POST /v1/completions`. prompt: a text, token ids, or a list of such. logprobs: 0 to 20."""

    prompt: (
        str
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1)]
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Literal[False] | None = None
    suffix: None = None
    best_of: Annotated[int, Field(ge=1)] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one by one."""
        prompt: Any = self.prompt
        if isinstance(prompt, str) or isinstance(prompt[0], int):
            return [prompt]
        return list(prompt)
