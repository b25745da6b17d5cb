"""ShareGPT: a list of turns with `from` and `value`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftwood.errors import TraceError
from draftwood.logs.call import ChatMessage, LoggedCall
from draftwood.logs.format import Entry, Format, turns
from draftwood.logs.messages import decoded, messages_of, text_of

_KEYS = ("conversations", "conversation", "items", "dialog", "dialogue", "dialogs", "conversion")


def _list(entry: Entry) -> list[Any] | None:
    for key in _KEYS:
        value = decoded(entry.get(key))
        if isinstance(value, list) and value:
            return value
    return None


def _recognizes(entry: Entry) -> bool:
    found = _list(entry)
    return found is not None and any(
        isinstance(each, dict) and ("from" in each or "role" in each or "human" in each)
        for each in found[:2]
    )


def _read(entry: Entry) -> Iterator[LoggedCall]:
    items = _list(entry) or []
    messages: list[ChatMessage] | None
    if isinstance(items[0], dict) and "human" in items[0] and "assistant" in items[0]:
        messages = [
            {"role": role, "content": text_of(pair.get(key))}
            for pair in items
            for role, key in (("user", "human"), ("assistant", "assistant"))
        ]
    else:
        messages = messages_of(items)
    if messages is None:
        raise TraceError(f"this looks like ShareGPT, but {_flaw(items)}")
    system = text_of(entry.get("system") or entry.get("system_prompt"))
    if system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    tools = decoded(entry.get("tools"))
    yield from turns(messages, tuple(tools) if isinstance(tools, list) else (), entry)


def _flaw(items: list[Any]) -> str:
    for number, item in enumerate(items):
        if messages_of([item]) is None:
            keys = ", ".join(map(str, item)) if isinstance(item, dict) else type(item).__name__
            who = item.get("from", item.get("role")) if isinstance(item, dict) else None
            said = f"is from {who!r}" if who is not None else f"has {keys}"
            return f"turn {number} {said}; give each a from (human or gpt) and a value"
    return "its turns cannot be read"


SHAREGPT = Format(
    "sharegpt", "ShareGPT", _recognizes, _read, marks=frozenset({"conversations", "conversation"})
)
