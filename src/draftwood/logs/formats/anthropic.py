"""Anthropic's Messages API: `system` and content blocks, answers of type `message`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftwood.logs.call import LoggedCall
from draftwood.logs.format import Entry, Format, exchange, halves


def _is_answer(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    content = value.get("content")
    return value.get("type") == "message" or (
        isinstance(content, list) and ("stop_reason" in value or "role" in value)
    )


def _recognizes(entry: Entry) -> bool:
    request, answer = halves(entry)
    if isinstance(answer, list):  # the events of a stream
        return any(isinstance(e, dict) and e.get("type") == "message_start" for e in answer)
    body = answer.get("body", answer) if isinstance(answer, dict) else None
    return isinstance(request, dict) and "messages" in request and _is_answer(body)


def _read(entry: Entry) -> Iterator[LoggedCall]:
    request, answer = halves(entry)
    yield from exchange(request, answer, entry)


ANTHROPIC = Format(
    "anthropic",
    "Anthropic messages",
    _recognizes,
    _read,
    marks=frozenset({"messages", "system", "stop_reason", "anthropic_version"}),
)
