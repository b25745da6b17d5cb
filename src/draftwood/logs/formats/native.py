"""Our own: `prompt` and `response` as text or token ids, `session`, `prompt_mode`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import TraceError
from draftwood.logs.about import about
from draftwood.logs.call import LoggedCall
from draftwood.logs.format import Entry, Format


def _simple(value: Any) -> bool:
    """Text, or a list that holds no objects: what the other formats do not know better."""
    return isinstance(value, str) or (
        isinstance(value, list) and not any(isinstance(each, dict | str) for each in value)
    )


def _recognizes(entry: Entry) -> bool:
    prompt, response = (
        entry.get(f"{name}_tokens", entry.get(name)) for name in ("prompt", "response")
    )
    return _simple(prompt) and _simple(response) and not entry.get("system")


def _read(entry: Entry) -> Iterator[LoggedCall]:
    told = about(entry)
    session = entry.get("session")
    yield LoggedCall(
        _content(entry, "prompt"),
        _content(entry, "response"),
        session=told["session"] if session is None else str(session),
        start=told["start"],
        end=told["end"],
        fields=told["fields"],
        delta="delta" in str(entry.get("prompt_mode", "")),
    )


def _content(entry: Entry, name: str) -> str | TokenIds:
    value = entry.get(f"{name}_tokens", entry.get(name))
    if value is None:
        raise TraceError(f"no {name}; give {name} as text or {name}_tokens as token ids")
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise TraceError(f"{name} is {value!r}; give text or a list of token ids")
    try:
        return as_tokens(value)
    except (ValueError, OverflowError) as error:  # ragged lists are a ValueError of numpy
        raise TraceError(f"{name}: {error}") from None


DRAFTWOOD = Format(
    "draftwood",
    "prompts and responses",
    _recognizes,
    _read,
    marks=frozenset({"prompt", "response", "prompt_tokens", "response_tokens", "prompt_mode"}),
)
