"""What was asked: the prompt in a request body of any provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import TraceError
from draftwood.logs.call import ChatMessage, Conversation
from draftwood.logs.messages import decoded, messages_of, text_of

_MESSAGES = ("messages", "contents", "prompt_messages", "chat_history", "chat", "conversation")
_TEXTS = ("prompt", "input", "query", "question", "text", "prompts", "inputs", "content", "message")
_NOW = ("message", "question", "query", "input", "prompt")
_SYSTEM = ("system", "instructions", "systemInstruction", "system_instruction", "system_prompt")
_INNER = (
    "body",
    "request",
    "request_body",
    "requestBody",
    "kwargs",
    "json",
    "data",
    "params",
    "inputBodyJson",
)


def prompt_of(request: Any) -> str | TokenIds | Conversation | None:
    """The prompt of a request: a body, a list of messages, a text, or token ids.

    None: nothing in it is a prompt.

    Raises:
        TraceError: ids that are none.
    """
    request = decoded(request)
    if isinstance(request, str):
        return request
    if isinstance(request, list):
        return _of_list(request)
    if not isinstance(request, dict):
        return None
    for key in _MESSAGES:
        messages = messages_of(request.get(key))
        if messages is not None:
            if key == "chat_history":  # what is said now stands apart
                messages += _now(request)
            return Conversation((*_system(request), *messages), _tools(request))
    for key in _TEXTS:
        value = decoded(request.get(key))
        if isinstance(value, dict):
            found = prompt_of(value)
        elif isinstance(value, list) and value:
            found = _of_list(value)
        else:
            found = value if isinstance(value, str) else None
        if found is None:
            continue
        system = _system(request)
        if isinstance(found, Conversation):
            return Conversation((*system, *found.messages), found.tools or _tools(request))
        asks = key == "input" and ("instructions" in request or "tools" in request)
        if isinstance(found, str) and (system or asks or key in ("query", "question")):
            user: ChatMessage = {"role": "user", "content": found}
            return Conversation((*system, user), _tools(request))
        return found
    for key in _INNER:
        if isinstance(inner := decoded(request.get(key)), Mapping | list):
            found = prompt_of(inner)
            if found is not None:
                return found
    messages = messages_of([request])
    return None if messages is None else Conversation(tuple(messages))


def _now(request: Mapping[str, Any]) -> list[ChatMessage]:
    said = next((each for key in _NOW if isinstance(each := request.get(key), str)), None)
    return [{"role": "user", "content": said}] if said else []


def _of_list(value: list[Any]) -> str | TokenIds | Conversation | None:
    messages = messages_of(value)
    if messages is not None:
        return Conversation(tuple(messages))
    if all(isinstance(each, int) for each in value) and value:
        try:
            return as_tokens(value)
        except (ValueError, OverflowError) as error:
            raise TraceError(f"prompt: {error}") from None
    if len(value) == 1:  # the form of several prompts, with one
        return prompt_of(value[0])
    if value and all(isinstance(each, str) for each in value):
        raise TraceError(
            f"one request has {len(value)} prompts, and nothing says which answer is whose; "
            "write a request for each"
        )
    return None


def _system(request: Mapping[str, Any]) -> tuple[ChatMessage, ...]:
    for key in _SYSTEM:
        text = text_of(request.get(key))
        if text:
            return ({"role": "system", "content": text},)
    return ()


def _tools(request: Mapping[str, Any]) -> tuple[Any, ...]:
    """The tools in OpenAI's form, which chat templates expect."""
    found: list[Any] = []
    config = request.get("config", request.get("optional_params"))
    tools = decoded(request.get("tools") or request.get("functions"))
    if not tools and isinstance(config, dict):
        tools = config.get("tools")
    for tool in tools if isinstance(tools, list) else []:
        if not isinstance(tool, dict):
            continue
        if isinstance(tool.get("function"), dict):
            found.append(tool)
        elif "name" in tool:
            schema = tool.get("parameters", tool.get("input_schema", {}))
            function = {
                "name": tool["name"],
                "description": tool.get("description", ""),
                "parameters": schema,
            }
            found.append({"type": "function", "function": function})
    return tuple(found)
