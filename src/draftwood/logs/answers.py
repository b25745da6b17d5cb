"""What was answered: the messages in a response body of any provider, streamed ones as well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import TraceError
from draftwood.logs.call import ChatMessage
from draftwood.logs.messages import assistant, decoded, is_message, messages_of, text_of

_INNER = (
    *("body", "response", "response_body", "responseBody", "message", "output", "result", "data"),
    *("completion", "answer", "generation", "generated_text", "output_text", "raw_output", "value"),
    "outputBodyJson",
)


def answers_of(response: Any) -> list[str | TokenIds | ChatMessage]:
    """The answers of a response, one for each choice: messages, texts or token ids.

    Empty: nothing in it is an answer.

    Raises:
        TraceError: an error stands in the answer's place, or ids are none.
    """
    response = decoded(response)
    if isinstance(response, str):
        return [_streamed_text(response)] if response else []
    if isinstance(response, list):
        return _of_list(response)
    if not isinstance(response, dict):
        return []
    choices = response.get("choices")
    if isinstance(choices, list) and choices:
        found = [answer for choice in choices for answer in _of_choice(choice)]
        if found:
            return found
    if isinstance(response.get("output"), list):  # OpenAI's Responses
        return _of_list(response["output"])
    if isinstance(response.get("candidates"), list):  # Gemini
        return [
            answer for each in response["candidates"] for answer in answers_of(each.get("content"))
        ]
    if isinstance(response.get("generations"), list):  # LangChain
        return [answer for each in response["generations"] for answer in _of_list(each, many=True)]
    if is_message(response):
        return list(messages_of([response]) or [])
    if isinstance(response.get("content"), list):  # Anthropic's, without its role
        return list(messages_of([{"role": "assistant", "content": response["content"]}]) or [])
    if response.get("tool_calls") or response.get("function_call"):
        return list(messages_of([{"role": "assistant", **response}]) or [])
    if isinstance(response.get("messages"), list):
        return _of_list(response["messages"])
    failed = response.get("error")
    if failed and not any(response.get(key) for key in _INNER):
        raise TraceError(f"an error was recorded instead of an answer ({text_of(failed)[:80]})")
    for key in (*_INNER, "text", "content"):
        if response.get(key) not in (None, "", []):
            found = answers_of(response[key])
            if found:
                return found
    return []


def _of_choice(choice: Any) -> list[str | TokenIds | ChatMessage]:
    if not isinstance(choice, dict):
        return []
    for key in ("message", "delta"):
        message = choice.get(key)
        if isinstance(message, dict):
            return list(messages_of([{"role": "assistant", "content": "", **message}]) or [])
    if isinstance(choice.get("token_ids"), list):
        return [_ids(choice["token_ids"])]
    text = choice.get("text", choice.get("content"))
    return [text] if isinstance(text, str) else []


def _of_list(value: list[Any], *, many: bool = False) -> list[str | TokenIds | ChatMessage]:
    """The answers of a list: chunks of a stream, ids, items of one answer, or several answers."""
    if value and all(isinstance(each, int) and not isinstance(each, bool) for each in value):
        return [_ids(value)]
    chunks = [decoded(each) for each in value]
    if chunks and all(isinstance(each, dict) and _is_chunk(each) for each in chunks):
        return _streamed(chunks)
    messages = messages_of(chunks)
    if messages is not None and not many:
        return [each for each in messages if each["role"] == "assistant"]
    return [answer for each in chunks for answer in answers_of(each)]


def _ids(value: list[int]) -> TokenIds:
    try:
        return as_tokens(value)
    except (ValueError, OverflowError) as error:
        raise TraceError(f"response: {error}") from None


def _is_chunk(value: Mapping[str, Any]) -> bool:
    choices = value.get("choices")
    if isinstance(choices, list):
        return not choices or (isinstance(choices[0], dict) and "delta" in choices[0])
    kind = str(value.get("type", ""))
    return kind.startswith(("content_block_", "message_", "response.", "ping"))


def _streamed_text(text: str) -> str | ChatMessage:
    """The answer of recorded server-sent events; any other text is the answer itself."""
    if not text.startswith(("data:", "event:")):
        return text
    lines = (line[5:].strip() for line in text.splitlines() if line.startswith("data:"))
    chunks = [decoded(line) for line in lines]
    found = _streamed([each for each in chunks if isinstance(each, dict)])
    return found[0] if found else text


def _streamed(chunks: Iterable[Mapping[str, Any]]) -> list[Any]:
    """One message from the chunks of a stream of OpenAI's or Anthropic's."""
    texts: list[str] = []
    calls: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        if chunk.get("type") == "response.completed":
            return answers_of(chunk.get("response"))
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            texts.append(text_of(delta.get("content", choice.get("text"))))
            for call in delta.get("tool_calls") or ():
                _add_call(calls, int(call.get("index", 0)), call.get("function") or {})
        index = int(chunk.get("index") or 0)
        block, delta = chunk.get("content_block") or {}, chunk.get("delta") or {}
        if chunk.get("type") == "content_block_start" and block.get("type") == "tool_use":
            _add_call(calls, index, {"name": block.get("name"), "arguments": ""})
        elif chunk.get("type") == "content_block_delta":
            texts.append(delta.get("text") or "")
            if "partial_json" in delta:
                _add_call(calls, index, {"arguments": delta["partial_json"]})
    text = "".join(texts)
    if not calls:
        return [assistant(text)] if text else []
    made = [{"type": "function", "function": calls[at]} for at in sorted(calls)]
    return list(messages_of([{"role": "assistant", "content": text, "tool_calls": made}]) or [])


def _add_call(calls: dict[int, dict[str, Any]], at: int, new: Mapping[str, Any]) -> None:
    call = calls.setdefault(at, {"name": "", "arguments": ""})
    call["name"] += new.get("name") or ""
    arguments = new.get("arguments") or ""
    call["arguments"] += arguments if isinstance(arguments, str) else ""
