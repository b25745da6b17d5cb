"""vLLM's server log with `--enable-log-requests` and `--enable-log-outputs`: lines of text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from draftwood.draft import as_tokens
from draftwood.errors import TraceError
from draftwood.logs.call import LoggedCall, Part
from draftwood.logs.format import Entry, Format

_REPR = r"""(?P<text>None|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_IDS = r"(?P<ids>None|\[[\d, ]*\]|array\([^)]*\))"
_ASKED = re.compile(rf"(?:Received request|Request) (?P<key>\S+?)(?: details)?: prompt: {_REPR}")
_ANSWERED = re.compile(
    rf"Generated response (?P<key>\S+?)(?P<way> \(streaming \w+\))?: output: {_REPR}"
)
_PROMPT_IDS = re.compile(rf"prompt_token_ids: {_IDS}")
_OUTPUT_IDS = re.compile(rf"output_token_ids: {_IDS}")
_TIME = re.compile(r"\b(?:(\d{4})-)?(\d\d)-(\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?")
_LOGGED = ("line", "log", "message", "msg", "text", "MESSAGE")


def _line(entry: Entry) -> str | None:
    """The log line, which a collector may have put into an object."""
    for key in _LOGGED:
        line = entry.get(key)
        if isinstance(line, str) and ("Received request" in line or _ANSWERED.search(line)):
            return line
        if isinstance(line, str) and _ASKED.search(line):
            return line
    return None


def _recognizes(entry: Entry) -> bool:
    return "line" in entry or _line(entry) is not None


def _read(entry: Entry) -> Iterator[Part]:
    line = _line(entry)
    if line is None:
        return
    asked, answered = _ASKED.search(line), _ANSWERED.search(line)
    if asked is not None:
        value = _said(asked, _PROMPT_IDS.search(line, asked.end()), line)
        yield Part(asked["key"], "prompt", value)
    elif answered is not None and answered["way"] != " (streaming delta)":
        value = _said(answered, _OUTPUT_IDS.search(line, answered.end()), line)
        yield Part(answered["key"], "response", value)


def _said(text: re.Match[str], ids: re.Match[str] | None, line: str) -> dict[str, Any]:
    found = ids["ids"].strip() if ids is not None else "None"
    try:
        return {
            "text": ast.literal_eval(text["text"]),
            "ids": [] if found == "None" else [int(each) for each in re.findall(r"\d+", found)],
            "time": _time(line),
        }
    except (ValueError, SyntaxError) as error:
        raise TraceError(f"a vLLM log line whose text is cut ({error})") from None


def _time(line: str) -> float | None:
    """Seconds since 1970; a log without years has this year's, since only differences count."""
    found = _TIME.search(line)
    if found is None:
        return None
    year = found[1] or datetime.now(UTC).year
    try:
        moment = datetime.fromisoformat(f"{year}-{found[2]}-{found[3]} {found[4]}")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC).timestamp() + float(found[5] or 0)


def _join(parts: Mapping[str, Sequence[Any]]) -> list[LoggedCall] | None:
    if not (parts.get("prompt") and parts.get("response")):
        return None
    asked, answered = parts["prompt"][-1], parts["response"][-1]
    in_ids = asked["ids"] and answered["ids"]
    if not in_ids and (asked["text"] is None or not answered["text"]):
        raise TraceError(
            "a request is logged without its text; vLLM logs it with --enable-log-outputs and, in "
            "newer versions, at VLLM_LOGGING_LEVEL=DEBUG"
        )
    prompt, response = (
        as_tokens(each["ids"]) if in_ids else each["text"] for each in (asked, answered)
    )
    return [LoggedCall(prompt, response, start=asked["time"], end=answered["time"])]


VLLM = Format(
    "vllm", "vLLM request logs", _recognizes, _read, _join, marks=frozenset({"line", "log"})
)
