"""Exports of Langfuse, LangSmith, LiteLLM and Helicone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftwood.errors import TraceError
from draftwood.logs.call import LoggedCall
from draftwood.logs.format import Entry, Format, exchange, first
from draftwood.logs.messages import decoded

_KINDS = frozenset(
    [
        "GENERATION",
        "SPAN",
        "EVENT",
        "AGENT",
        "TOOL",
        "CHAIN",
        "RETRIEVER",
        "EVALUATOR",
        "EMBEDDING",
        "GUARDRAIL",
    ]
)


def _observations(entry: Entry) -> list[Any]:
    found = decoded(entry.get("observations"))
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _recognizes_langfuse(entry: Entry) -> bool:
    if _observations(entry):
        return True
    if isinstance(entry.get("traces"), list):  # the export of a session
        return any(isinstance(each, dict) and "id" in each for each in entry["traces"])
    observed = "traceId" in entry or "trace_id" in entry or "traceName" in entry
    return (observed and str(entry.get("type", "")).upper() in _KINDS) or (
        "input" in entry and "output" in entry and ("htmlPath" in entry or "bookmarked" in entry)
    )


def _read_langfuse(entry: Entry) -> Iterator[LoggedCall]:
    for trace in entry.get("traces") or ():
        if isinstance(trace, dict):
            yield from _read_langfuse({"sessionId": entry.get("id"), **trace})
    inner = _observations(entry)
    session = {
        "sessionId": entry.get("sessionId", entry.get("session_id")) or entry.get("id"),
        "userId": entry.get("userId", entry.get("user_id")),
    }
    for each in inner:
        if _is_generation(each):
            yield from exchange(each.get("input"), each.get("output"), each | _known(session, each))
    if inner or entry.get("traces"):
        return
    kind = str(entry.get("type", "")).upper()
    if kind and not _is_generation(entry):
        return
    request = first(entry, ("input",))
    answer = first(entry, ("output",))
    if request is None or answer is None:
        raise TraceError(
            "this looks like Langfuse, but a generation has no input or no output; export it with "
            "fields=core,basic,io"
        )
    yield from exchange(request, answer, entry)


def _is_generation(entry: Entry) -> bool:
    return str(entry.get("type", "")).upper() == "GENERATION"


def _known(session: dict[str, Any], entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in session.items() if value and not entry.get(key)}


_MODEL_RUNS = ("llm", "chat_model")


def _recognizes_langsmith(entry: Entry) -> bool:
    return isinstance(entry.get("run_type"), str) and ("inputs" in entry or "outputs" in entry)


def _read_langsmith(entry: Entry) -> Iterator[LoggedCall]:
    if entry["run_type"] not in _MODEL_RUNS:  # a chain's input and output are its model's again
        return
    if entry.get("error") and not entry.get("outputs"):
        raise TraceError(f"the run failed ({str(entry['error'])[:60]})")
    extra = decoded(entry.get("extra"))
    named = extra.get("metadata") if isinstance(extra, dict) else None
    told = {key: value for key, value in entry.items() if key != "session_id"}  # the project's
    request = first(entry, ("inputs",))
    options = extra.get("invocation_params") if isinstance(extra, dict) else None
    if isinstance(request, dict) and isinstance(options, dict) and options.get("tools"):
        request = {"tools": options["tools"], **request}
    yield from exchange(request, first(entry, ("outputs",)), named or {}, told)


def _standard(entry: Entry) -> Entry:
    """The payload of LiteLLM's callbacks, which some of them put inside others."""
    for key in ("kwargs", "standard_logging_object", "standard_logging_payload"):
        inner = decoded(entry.get(key))
        if isinstance(inner, dict):
            return _standard(inner)
    return entry


def _recognizes_litellm(entry: Entry) -> bool:
    marks = ("call_type", "litellm_call_id", "litellm_params", "litellm_trace_id", "model_group")
    inner = _standard(entry)
    return any(key in inner for key in marks) and ("response" in inner or "messages" in inner)


def _read_litellm(entry: Entry) -> Iterator[LoggedCall]:
    inner = _standard(entry)
    if str(inner.get("status", "")).startswith("fail"):
        raise TraceError(f"the request failed ({str(inner.get('error_str', ''))[:60]})")
    request: Any = first(inner, ("messages", "input"))
    if request is None or (isinstance(request, str) and request == "{}"):
        request = first(inner, ("proxy_server_request",))
        request = request.get("body", request) if isinstance(request, dict) else request
    if isinstance(request, list):
        options = first(inner, ("model_parameters", "optional_params"))
        tools = options.get("tools") if isinstance(options, dict) else None
        request = {"messages": request, "tools": tools}
    if request is None:
        raise TraceError(
            "this looks like LiteLLM, but has no messages; set store_prompts_in_spend_logs"
        )
    yield from exchange(request, first(inner, ("response",)), inner, entry)


def _recognizes_helicone(entry: Entry) -> bool:
    marks = ("request_created_at", "request_path", "request_properties", "signed_body_url")
    more = ("response_status", "delay_ms", "response_created_at", "helicone_user", "request_model")
    bodies = "request_body" in entry and "response_body" in entry
    return (bodies and ("request_id" in entry or "response_id" in entry)) or (
        sum(key in entry for key in (*marks, *more)) >= 2
    )


def _read_helicone(entry: Entry) -> Iterator[LoggedCall]:
    request = first(entry, ("request_body", "requestBody", "request"))
    answer = first(entry, ("response_body", "responseBody", "response"))
    if request is None or answer is None:
        raise TraceError(
            "this looks like Helicone, but without bodies; export it with --include-body"
        )
    status = entry.get("response_status")
    if isinstance(status, int) and status >= 400:
        raise TraceError(f"the request failed with status {status}")
    if isinstance(answer, dict) and answer.get("streamed_data") and "choices" not in answer:
        answer = decoded(answer["streamed_data"])
    yield from exchange(request, answer, entry)


LANGFUSE = Format(
    "langfuse",
    "Langfuse",
    _recognizes_langfuse,
    _read_langfuse,
    marks=frozenset({"traceId", "observations", "startTime", "input", "output"}),
)
LANGSMITH = Format(
    "langsmith",
    "LangSmith",
    _recognizes_langsmith,
    _read_langsmith,
    marks=frozenset({"run_type", "inputs", "outputs", "trace_id"}),
)
LITELLM = Format(
    "litellm",
    "LiteLLM",
    _recognizes_litellm,
    _read_litellm,
    marks=frozenset({"call_type", "spend", "messages", "response", "model_group"}),
)
HELICONE = Format(
    "helicone",
    "Helicone",
    _recognizes_helicone,
    _read_helicone,
    marks=frozenset({"request_body", "response_body", "request_created_at", "delay_ms"}),
)
