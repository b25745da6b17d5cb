"""OpenAI: chat completions, responses, fine-tune files, and Batch input and output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from draftwood.errors import TraceError
from draftwood.logs.call import Conversation, LoggedCall, Part
from draftwood.logs.format import ANSWERS, Entry, Format, exchange, first, halves, turns
from draftwood.logs.messages import decoded, messages_of
from draftwood.logs.requests import prompt_of

_IN_ANSWERS = ("choices", "message", "content", "role", "body", "tool_calls", "text", "error")


def _is_response(value: Any) -> bool:
    return isinstance(value, dict) and (
        value.get("object") == "response"
        or (isinstance(value.get("output"), list) and "choices" not in value)
    )


def _recognizes_responses(entry: Entry) -> bool:
    if _is_response(entry) and "input" in entry:
        return True
    request, answer = halves(entry)
    asks = isinstance(request, dict) and "input" in request
    return asks and (_is_response(answer) or (isinstance(answer, list) and request is not entry))


def _read_responses(entry: Entry) -> Iterator[LoggedCall]:
    request, answer = halves(entry)
    if _is_response(entry) and request is not entry and "output" in entry:
        request, answer = entry, entry
    yield from exchange(request, answer, entry)


def _recognizes_chat(entry: Entry) -> bool:
    request, answer = halves(entry)
    if answer is None:
        return False
    if isinstance(request, list):
        return messages_of(request) is not None
    return "messages" in request and (
        isinstance(answer, str | list) or any(key in answer for key in _IN_ANSWERS)
    )


def _read_exchange(entry: Entry) -> Iterator[LoggedCall]:
    request, answer = halves(entry)
    yield from exchange(request, answer, entry)


def _recognizes_messages(entry: Entry) -> bool:
    return messages_of(entry.get("messages")) is not None and first(entry, ANSWERS) is None


def _read_messages(entry: Entry) -> Iterator[LoggedCall]:
    prompt = prompt_of(entry)
    if not isinstance(prompt, Conversation):
        raise TraceError("messages are none; give each a role and a content")
    yield from turns(prompt.messages, prompt.tools, entry)


def _recognizes_batch(entry: Entry) -> bool:
    asks = isinstance(entry.get("body"), dict)
    answers = "response" in entry or "error" in entry or "result" in entry
    return "custom_id" in entry and (asks or answers or isinstance(entry.get("params"), dict))


def _read_batch(entry: Entry) -> Iterator[Part]:
    key = str(entry["custom_id"])
    for name in ("body", "params"):  # Anthropic calls a request's body so
        if isinstance(body := decoded(entry.get(name)), Mapping):
            yield Part(key, "input", {"about": _short(entry), "request": body})
            return
    response = decoded(entry.get("response")) or decoded(entry.get("result"))
    if isinstance(response, dict) and int(response.get("status_code") or 200) >= 400:
        raise TraceError(f"the request failed with status {response['status_code']}")
    if not response:
        raise TraceError("the request failed, and has no answer")
    yield Part(key, "output", {"about": _short(entry), "response": response})


def _short(entry: Entry) -> Entry:
    return {k: v for k, v in entry.items() if k not in ("body", "params", "response", "result")}


def _join_batch(parts: Mapping[str, Sequence[Any]]) -> list[LoggedCall] | None:
    if not (parts.get("input") and parts.get("output")):
        return None
    asked, answered = parts["input"][0], parts["output"][0]
    response = answered["response"]
    return list(
        exchange(
            asked["request"], response.get("body", response), asked["about"], answered["about"]
        )
    )


RESPONSES = Format(
    "openai-responses",
    "OpenAI responses",
    _recognizes_responses,
    _read_responses,
    marks=frozenset({"input", "output", "instructions", "previous_response_id"}),
)
CHAT = Format(
    "openai-chat",
    "OpenAI chat requests and answers",
    _recognizes_chat,
    _read_exchange,
    marks=frozenset({"messages", "request", "response", "choices"}),
)
FINE_TUNE = Format(
    "openai-messages",
    "OpenAI fine-tune messages",
    _recognizes_messages,
    _read_messages,
    marks=frozenset({"messages", "tools", "parallel_tool_calls"}),
)
BATCH = Format(
    "openai-batch",
    "Batch input and output",
    _recognizes_batch,
    _read_batch,
    _join_batch,
    marks=frozenset({"custom_id", "method", "url", "body"}),
)
