"""What an entry of a log says besides its texts: session, times, fields to split by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from draftwood.logs.messages import decoded

_SESSION = (
    *("session", "session_id", "sessionId", "conversation_id", "conversationId", "conversation"),
    *("thread_id", "threadId", "thread", "chat_id", "chatId", "dialog_id", "session.id"),
    *("gen_ai.conversation.id", "request_session_id", "Helicone-Session-Id", "langfuse_session_id"),
    *("litellm_session_id", "prompt_cache_key"),
)
_RUN = (
    "trace_id",
    "traceId",
    "trace.id",
    "run_id",
    "runId",
    "litellm_trace_id",
    "episode",
    "context.trace_id",
)
_START = (
    *("start_time", "startTime", "request_created_at", "start_timestamp", "startTimeUnixNano"),
    *("timeUnixNano", "created_at", "createdAt", "timestamp", "ts", "time", "created", "date"),
    *("datetime", "datetime_utc", "request_time", "requested_at", "start", "@timestamp"),
)
_END = (
    *("end_time", "endTime", "response_created_at", "end_timestamp", "endTimeUnixNano", "end"),
    *("completed_at", "completedAt", "finished_at", "end_datetime", "response_time_utc"),
)
_SECONDS = ("latency", "duration", "response_time", "duration_s", "latency_s", "elapsed")
_MILLISECONDS = (
    *("latency_ms", "duration_ms", "delay_ms", "request_duration_ms", "elapsed_ms", "latencyMs"),
    *("response_latency_ms", "durationMs", "request_latency_ms"),
)
_STAGE = (
    *("stage", "step_name", "name", "span_name", "agent", "agent_name", "node", "task", "family"),
    *("operation", "category", "Helicone-Session-Name", "generation_name", "promptName", "kind"),
)
_USER = (
    *("user", "user_id", "userId", "end_user", "tenant", "tenant_id", "customer", "customer_id"),
    *("user.id", "team_id", "cache_salt", "namespace", "request_user_id", "gen_ai.user.id"),
)
_MODEL = (
    *("model", "model_name", "modelId", "providedModelName", "model_id", "request_model"),
    *("llm.model_name", "gen_ai.request.model", "gen_ai.response.model", "model_group"),
)
_PLACES = ("metadata", "request_metadata", "properties", "request_properties", "attributes", "tags")
_LONGEST_FIELD = 80
_MOST_FIELDS = 24


def about(*sources: Any) -> dict[str, Any]:
    """The keyword arguments of `LoggedCall` that entries say, the first source first.

    Nested metadata, properties and attributes are searched as well.
    """
    flat = [each for source in sources for each in _flat(decoded(source))]
    session = _first(flat, _SESSION) or _first(flat, _RUN)
    start, end = _time(flat, _START), _time(flat, _END)
    if start is not None and end is None:
        seconds = _number(flat, _SECONDS)
        if seconds is None and (milliseconds := _number(flat, _MILLISECONDS)) is not None:
            seconds = milliseconds / 1e3
        end = None if seconds is None or seconds < 0 else start + seconds
    named = {"model": _MODEL, "stage": _STAGE, "user": _USER}
    fields = dict(_scalars(flat))
    fields |= {name: text for name, keys in named.items() if (text := _first(flat, keys))}
    return {"session": session, "start": start, "end": end, "fields": fields}


def time_of(value: Any) -> float | None:
    """Seconds since 1970 from a number of (milli-, micro-, nano-) seconds or an ISO date."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, str):
        try:
            return time_of(float(value))
        except ValueError:
            pass
        try:
            return time_of(datetime.fromisoformat(value.strip().replace(" UTC", "+00:00")))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    for size in (1e17, 1e14, 1e11):  # nano-, micro-, milliseconds of our days
        if value >= size:
            return float(value) / (size / 1e8)
    return float(value) if value >= 1e8 else None


def _flat(source: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(source, dict):
        return
    yield source
    headed = {
        k: v for k, v in source.items() if isinstance(k, str) and (" " in k or k[:1].isupper())
    }
    if headed:  # of a table for people: "Created At", "Model Name"
        yield {k.lower().replace(" ", "_"): v for k, v in headed.items()}
    for place in _PLACES:
        inner = decoded(source.get(place))
        if isinstance(inner, dict):
            yield inner
            nested = inner.get("metadata")
            if isinstance(nested, dict):
                yield nested


def _first(sources: Iterable[Mapping[str, Any]], keys: Iterable[str]) -> str | None:
    for source in sources:
        for key in keys:
            value = source.get(key)
            if value is None:
                continue
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                return str(value)
            if isinstance(value, dict) and isinstance(value.get("id"), str | int):
                return str(value["id"])
    return None


def _time(sources: Iterable[Mapping[str, Any]], keys: Iterable[str]) -> float | None:
    for source in sources:
        for key in keys:
            value = source.get(key)
            found = None if value is None else time_of(value)
            if found is not None:
                return found
    return None


def _number(sources: Iterable[Mapping[str, Any]], keys: Iterable[str]) -> float | None:
    for source in sources:
        for key in keys:
            value = source.get(key)
            if isinstance(value, str):
                try:
                    return float(value)
                except ValueError:
                    continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
    return None


def _scalars(sources: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Short values under their own names, the first sources last: those win in a dict."""
    seen = 0
    for source in reversed(list(sources)):
        for key, value in source.items():
            short = isinstance(value, str) and 0 < len(value) <= _LONGEST_FIELD
            if (short or isinstance(value, bool | int)) and seen < _MOST_FIELDS:
                seen += 1
                yield str(key), str(value)
