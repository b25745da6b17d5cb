"""Spans and events: OpenInference (Phoenix) and OpenTelemetry's conventions for generative AI.

Attributes may be flat (`llm.input_messages.0.message.role`), nested, columns of a table
(`attributes.llm.input_messages`), or OTLP's lists of keys and values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from draftwood.errors import TraceError
from draftwood.logs.call import LoggedCall, Part
from draftwood.logs.format import Entry, Format, exchange
from draftwood.logs.messages import decoded

_ASKED_EVENTS = (
    "gen_ai.system.message",
    "gen_ai.user.message",
    "gen_ai.assistant.message",
    "gen_ai.tool.message",
)
_CHOICE = "gen_ai.choice"
_NESTED = {
    "resourceSpans": "scopeSpans",
    "resource_spans": "scope_spans",
    "scopeSpans": "spans",
    "scope_spans": "spans",
    "resourceLogs": "scopeLogs",
    "resource_logs": "scope_logs",
    "scopeLogs": "logRecords",
    "scope_logs": "log_records",
}
_LEAVES = ("spans", "logRecords", "log_records", "instrumentationLibrarySpans")


def _units(entry: Entry) -> Iterator[Entry]:
    """The spans or log records of an OTLP batch; any other entry is one itself."""
    nested = [key for key in (*_NESTED, *_LEAVES) if isinstance(entry.get(key), list)]
    if not nested:
        yield entry
    for key in nested:
        for inner in entry[key]:
            if isinstance(inner, dict):
                yield from _units(inner)


def plain(value: Any) -> Any:
    """An OTLP value as JSON has it."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    kind = kind.replace("_v", "V")
    if kind in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
        return inner
    if kind == "intValue":
        return int(inner)
    if kind == "arrayValue":
        return [plain(each) for each in (inner or {}).get("values", [])]
    if kind == "kvlistValue":
        return _pairs((inner or {}).get("values", []))
    return value


def _pairs(values: Any) -> dict[str, Any]:
    if isinstance(values, dict):
        return dict(values)
    if not isinstance(values, list):
        return {}
    return {
        str(each["key"]): plain(each.get("value"))
        for each in values
        if isinstance(each, dict) and "key" in each
    }


def _attributes(unit: Entry) -> dict[str, Any]:
    """The attributes of a span or a record, nested by their dots, lists where names are numbers."""
    given = _pairs(decoded(unit.get("attributes")))
    given |= {
        key.removeprefix("attributes."): value
        for key, value in unit.items()
        if key.startswith(("attributes.", "llm.", "gen_ai.")) and value is not None
    }
    nested: dict[str, Any] = {}
    for key, value in given.items():
        place = nested
        *way, last = str(key).split(".")
        for step in way:
            inner = place.setdefault(step, {})
            place = inner if isinstance(inner, dict) else {}
        known = place.get(last)
        place[last] = (
            known | value if isinstance(known, dict) and isinstance(value, dict) else value
        )
    listed = _listed(nested)
    return listed if isinstance(listed, dict) else {}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(each) for key, each in value.items()}
    if inner and all(str(key).isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def _at(attributes: Any, *way: str) -> Any:
    for step in way:
        if not isinstance(attributes, dict):
            return None
        attributes = attributes.get(step)
    return decoded(attributes)


def _unwrapped(messages: Any) -> Any:
    """OpenInference puts each message, content and tool call into an object of one key."""
    if isinstance(messages, list):
        return [_unwrapped(each) for each in messages]
    if isinstance(messages, dict):
        for key in ("message", "message_content", "tool_call", "tool"):
            if isinstance(messages.get(key), dict) and len(messages) == 1:
                return _unwrapped(messages[key])
        short = {str(key).removeprefix("message."): value for key, value in messages.items()}
        if "contents" in short and not short.get("content"):
            short["content"] = short.pop("contents")
        return {key: _unwrapped(value) for key, value in short.items()}
    return messages


def _openinference(attributes: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """What was asked and answered, where the span is a model's call."""
    llm = attributes.get("llm")
    kind = _at(attributes, "openinference", "span", "kind")
    if not isinstance(llm, dict) and kind != "LLM":
        return None
    if kind not in (None, "LLM"):
        return None
    asked = _unwrapped(_at(llm, "input_messages")) or _at(llm, "prompts")
    answered = _unwrapped(_at(llm, "output_messages"))
    tools = [
        found
        for each in _at(llm, "tools") or ()
        if (found := decoded(_at(each, "tool", "json_schema") or _at(each, "json_schema")))
    ]
    request: Any = asked or _at(attributes, "input", "value")
    if isinstance(request, list):
        request = {"messages": request, "tools": tools}
    return request, answered or _at(attributes, "output", "value")


def _gen_ai(attributes: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """The same of a span or event with gen_ai attributes, of old conventions as well."""
    found = attributes.get("gen_ai")
    if not isinstance(found, dict):
        return None
    asked = _at(found, "input", "messages") or _at(found, "prompt")
    answered = _at(found, "output", "messages") or _at(found, "completion")
    if asked is None and answered is None:
        return None
    request: Any = asked
    if isinstance(asked, list):
        system = _at(found, "system_instructions")
        tools = _at(found, "tool", "definitions")
        request = {"messages": asked, "system": system, "tools": tools}
    return request, answered


def _event(unit: Entry) -> str:
    name = unit.get("eventName") or unit.get("event_name") or unit.get("name") or ""
    given = _pairs(decoded(unit.get("attributes")))
    name = given.get("event.name", name)
    return name if isinstance(name, str) else ""


def _body(unit: Entry) -> Any:
    body = plain(decoded(unit.get("body")))
    if isinstance(body, dict):
        return body
    given = _pairs(decoded(unit.get("attributes")))
    return {key: value for key, value in given.items() if not key.startswith(("gen_ai.", "event."))}


def _key(unit: Entry) -> str:
    context = unit.get("context")
    source = context if isinstance(context, dict) else unit
    names = (("traceId", "trace_id"), ("spanId", "span_id"))
    return ":".join(str(source.get(a, source.get(b, ""))) for a, b in names)


def _message_of_event(name: str, unit: Entry) -> dict[str, Any]:
    body = _body(unit)
    return {
        "role": name.split(".")[1],
        **(body if isinstance(body, dict) else {"content": body}),
    }


def _is_genai(entry: Entry) -> bool:
    for unit in _units(entry):
        if _event(unit).startswith("gen_ai.") or "gen_ai" in _attributes(unit):
            return True
        events = unit.get("events")
        if isinstance(events, list) and any(
            _event(e).startswith("gen_ai.") for e in events if isinstance(e, dict)
        ):
            return True
    return False


def _is_openinference(entry: Entry) -> bool:
    for unit in _units(entry):
        found = _attributes(unit)
        if "openinference" in found or isinstance(found.get("llm"), dict):
            return True
    return False


def _is_span(entry: Entry) -> bool:
    """A span of whatever kind: those that are no model's call are passed over."""
    return any(key in entry for key in ("resourceSpans", "resourceLogs")) or (
        isinstance(entry.get("attributes"), dict | list) and bool(_key(entry).strip(":"))
    )


def _read(entry: Entry) -> Iterator[LoggedCall | Part]:
    for unit in _units(entry):
        attributes = _attributes(unit)
        found = _openinference(attributes) or _gen_ai(attributes) or _of_events(unit)
        name = _event(unit)
        if found is not None and name != _CHOICE and name not in _ASKED_EVENTS:
            request, answer = found
            if request is None or answer is None:
                raise TraceError(
                    "a span of a model's call has no messages; switch on the capture of message "
                    "content"
                )
            yield from exchange(request, answer, _told(unit, attributes))
        elif name in _ASKED_EVENTS:
            yield Part(_key(unit), "message", _message_of_event(name, unit))
        elif name == _CHOICE:
            told = _told(unit, attributes)
            yield Part(_key(unit), "choice", {"answer": _body(unit), "about": told})


def _of_events(unit: Entry) -> tuple[Any, Any] | None:
    """A span whose events hold the messages."""
    messages: list[Any] = []
    answers: list[Any] = []
    events: Iterable[Any] = decoded(unit.get("events")) or ()
    for event in events:
        if not isinstance(event, dict):
            continue
        name, given = _event(event), _attributes(event)
        if name in _ASKED_EVENTS:
            messages.append(_message_of_event(name, event))
        elif name == _CHOICE:
            answers.append(_choice(_body(event)))
        elif name == "gen_ai.content.prompt":
            messages = list(_at(given, "gen_ai", "prompt") or ())
        elif name == "gen_ai.content.completion":
            answers = list(_at(given, "gen_ai", "completion") or ())
        elif (inner := _gen_ai(given)) is not None:
            return inner
    return ({"messages": messages}, answers) if messages or answers else None


def _choice(body: Any) -> Any:
    if isinstance(body, dict) and "message" in body:
        message = decoded(body["message"])
        if isinstance(message, dict):
            return {"role": "assistant", "content": "", **message}
        return {"role": "assistant", "content": message}
    return {"role": "assistant", **body} if isinstance(body, dict) else body


def _told(unit: Entry, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Keys as `about` knows them."""
    given = _pairs(decoded(unit.get("attributes")))
    flat = {key: value for key, value in given.items() if not isinstance(value, dict | list)}
    session = (
        _at(attributes, "session", "id")
        or _at(attributes, "gen_ai", "conversation", "id")
        or _key(unit).partition(":")[0]
    )
    named = {
        "model": _at(attributes, "llm", "model_name")
        or _at(attributes, "gen_ai", "request", "model"),
        "user": _at(attributes, "user", "id"),
    }
    short = {key: value for key, value in unit.items() if isinstance(value, str | int | float)}
    known = {key: value for key, value in named.items() if isinstance(value, str)}
    return {**short, **known, "attributes": flat, "session": str(session) or None}


def _join(parts: Mapping[str, Sequence[Any]]) -> list[LoggedCall] | None:
    if not (parts.get("message") and parts.get("choice")):
        return None
    answers = [_choice(each["answer"]) for each in parts["choice"]]
    about = parts["choice"][0]["about"]
    return list(exchange({"messages": list(parts["message"])}, answers, about))


OPENINFERENCE = Format(
    "openinference",
    "OpenInference spans",
    _is_openinference,
    _read,
    _join,
    marks=frozenset({"attributes", "span_kind", "context", "parent_id"}),
)
OTEL = Format(
    "otel",
    "OpenTelemetry generative AI",
    lambda entry: _is_genai(entry) or _is_span(entry),
    _read,
    _join,
    marks=frozenset({"attributes", "traceId", "spanId", "events", "body"}),
)
