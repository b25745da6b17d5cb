"""Requests and answers as entries of their own, which share an id: events of a program's log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from draftwood.errors import TraceError
from draftwood.logs.answers import answers_of
from draftwood.logs.call import LoggedCall, Part
from draftwood.logs.format import Entry, Format, exchange
from draftwood.logs.messages import decoded
from draftwood.logs.requests import prompt_of

_IDS = (
    *("request_id", "requestId", "req_id", "call_id", "callId", "correlation_id", "correlationId"),
    *("completion_id", "generation_id", "span_id", "spanId", "x_request_id"),
)
_SAID = frozenset({"event", "event_type", "event_name", "type", "kind", "direction", "phase"})
"""Names that say which half an entry is: with one of them, `id` is the call's, too."""
_BODIES = (
    *("payload", "body", "data", "message", "request", "response", "content", "event_data"),
    *("input", "output", "messages", "prompt", "completion", "choices", "details", "params"),
)
_ASKS = ("messages", "prompt", "input", "contents")
_ANSWERS = ("choices", "candidates", "completion", "output", "generations", "content")


def _key(entry: Entry) -> str | None:
    for name in (*_IDS, "id", "uuid") if _SAID & set(entry) else _IDS:
        value = entry.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return f"{name} {value}"
    return None


def _bodies(entry: Entry) -> Iterator[Mapping[str, Any]]:
    yield entry
    for name in _BODIES:
        body = decoded(entry.get(name))
        if isinstance(body, dict):
            yield body


def _half(entry: Entry) -> tuple[str, Mapping[str, Any]] | None:
    """Which half of a call an entry is, and where that stands."""
    for body in _bodies(entry):
        if any(name in body for name in _ANSWERS) and "messages" not in body:
            try:
                if answers_of(body):
                    return "response", body
            except TraceError:
                return None
    for body in _bodies(entry):
        if any(name in body for name in _ASKS) and prompt_of(body) is not None:
            return "prompt", body
    return None


def _recognizes(entry: Entry) -> bool:
    return _key(entry) is not None and _half(entry) is not None


def _read(entry: Entry) -> Iterator[Part]:
    key, half = _key(entry), _half(entry)
    if key is None or half is None:
        raise TraceError("no id that a request and its answer share; record request_id in both")
    kind, body = half
    about = {name: value for name, value in entry.items() if decoded(value) is not body}
    yield Part(key, kind, {"about": about, "body": dict(body)})


def _join(parts: Mapping[str, Sequence[Any]]) -> list[LoggedCall] | None:
    if not (parts.get("prompt") and parts.get("response")):
        return None
    asked, answered = parts["prompt"][0], parts["response"][0]
    told = {**asked["about"]}
    times = [
        (name, each["about"][name])
        for each in (asked, answered)
        for name in ("time", "timestamp", "ts", "created_at", "@timestamp", "date")
        if name in each["about"]
    ]
    if len(times) == 2 and times[0][0] == times[1][0]:
        told |= {"start_time": times[0][1], "end_time": times[1][1]}
    return list(exchange(asked["body"], answered["body"], told))


EVENTS = Format(
    "events",
    "requests and answers apart",
    _recognizes,
    _read,
    _join,
    marks=frozenset({"request_id", "event", "payload"}),
)
