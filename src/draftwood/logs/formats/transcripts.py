"""Conversations that stand under any name: lists of messages, and ChatGPT's own exports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from draftwood.errors import TraceError
from draftwood.logs.call import ChatMessage, LoggedCall
from draftwood.logs.format import Entry, Format, turns
from draftwood.logs.messages import decoded, messages_of

_FEWEST = 2
"""Messages of a conversation: one turn, and its answer."""


def _listed(entry: Entry) -> tuple[list[ChatMessage], Any] | None:
    """The longest list of messages among an entry's values, and whatever it stands in."""
    found: list[tuple[list[ChatMessage], Any]] = []
    for place in (entry, *(decoded(each) for each in entry.values())):
        if not isinstance(place, Mapping):
            continue
        for value in place.values():
            value = decoded(value)
            if isinstance(value, list) and len(value) >= _FEWEST:
                messages = messages_of(value)
                if messages and any(each["role"] == "assistant" for each in messages[1:]):
                    found.append((messages, place))
    return max(found, key=lambda each: len(each[0]), default=None)


def _recognizes(entry: Entry) -> bool:
    return _listed(entry) is not None


def _read(entry: Entry) -> Iterator[LoggedCall]:
    found = _listed(entry)
    if found is None:
        raise TraceError("no list of messages with an assistant's; record who said what")
    messages, place = found
    tools = decoded(place.get("tools"))
    yield from turns(messages, tuple(tools) if isinstance(tools, list) else (), entry)


def _recognizes_tree(entry: Entry) -> bool:
    nodes = entry.get("mapping")
    return isinstance(nodes, dict) and any(
        isinstance(each, dict) and "parent" in each and "message" in each
        for each in list(nodes.values())[:_FEWEST]
    )


def _read_tree(entry: Entry) -> Iterator[LoggedCall]:
    nodes = entry["mapping"]
    at = entry.get("current_node") or _deepest(nodes)
    way: list[Any] = []
    while at in nodes and len(way) <= len(nodes):
        way.append(nodes[at].get("message"))
        at = nodes[at].get("parent")
    spoken = [each for each in reversed(way) if isinstance(each, dict) and _says(each)]
    messages = messages_of(spoken)
    if messages is None:
        raise TraceError("this looks like a ChatGPT export, but its messages have no text")
    yield from turns(messages, (), entry)


def _deepest(nodes: Mapping[str, Any]) -> Any:
    """The node with the most nodes before it, where none is marked as the last one."""
    depth: dict[Any, int] = {}
    for name in nodes:
        way = []
        while name in nodes and name not in depth and name not in way:
            way.append(name)
            name = nodes[name].get("parent")
        before = depth.get(name, 0)
        for number, each in enumerate(reversed(way), 1):
            depth[each] = before + number
    return max(depth, key=lambda each: depth[each], default=None)


def _says(message: Mapping[str, Any]) -> bool:
    """Whether anything is said: exports begin with empty system messages."""
    content = message.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return not isinstance(parts, list) or any(parts)


CHATGPT = Format(
    "chatgpt",
    "ChatGPT's export",
    _recognizes_tree,
    _read_tree,
    marks=frozenset({"mapping", "current_node", "conversation_id"}),
)
TRANSCRIPTS = Format(
    "transcripts",
    "conversations",
    _recognizes,
    _read,
    marks=frozenset({"trajectory", "history", "turns", "dialogue"}),
)
