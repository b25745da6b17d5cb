"""One message an entry, with the conversation that it is of: chat tables, sessions of agents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from draftwood.errors import TraceError
from draftwood.logs.about import about
from draftwood.logs.call import LoggedCall, Part
from draftwood.logs.format import Entry, Format
from draftwood.logs.messages import messages_of
from draftwood.logs.rows import ROW

_CONVERSATIONS = (
    *("sessionId", "session_id", "conversation_id", "conversationId", "thread_id", "threadId"),
    *("chat_id", "chatId", "dialog_id", "dialogue_id", "session", "conversation", "thread"),
)


def _conversation(entry: Entry) -> str | None:
    for name in _CONVERSATIONS:
        value = entry.get(name)
        if isinstance(value, str | int) and value != "":
            return str(value)
    return None


def _message(entry: Entry) -> Mapping[str, Any]:
    inner = entry.get("message")
    return inner if isinstance(inner, dict) and "role" in inner else entry


def _recognizes(entry: Entry) -> bool:
    if _conversation(entry) is None:
        return False
    message = _message(entry)
    said = any(name in message for name in ("content", "text", "value", "utterance", "tool_calls"))
    return said and messages_of([message]) is not None


def _read(entry: Entry) -> Iterator[Part]:
    key, found = _conversation(entry), messages_of([_message(entry)])
    if key is None or not found:
        raise TraceError("no message with a role and a content")
    told = about({name: each for name, each in entry.items() if name != "message"})
    for each in found:
        yield Part(key, ROW, (each, LoggedCall("", "", **{**told, "session": key})))


MESSAGE_ROWS = Format(
    "message-rows",
    "one message an entry",
    _recognizes,
    _read,
    marks=frozenset({"role", "content", "conversation_id", "sessionId"}),
)
