"""Conversations of which every entry is one message, as chat tables and agents' sessions are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from draftwood.logs.call import ChatMessage, Conversation, LoggedCall
from draftwood.logs.messages import merged

ROW = "row"
"""The kind of a part that is one message; its value is a call without a prompt."""
_MOST = 4096
"""Conversations that are kept open; the one that is silent the longest is ended first."""


@dataclass(slots=True)
class _Spoken:
    """What a conversation has said, and the answer that is being given."""

    before: list[ChatMessage] = field(default_factory=list)
    answer: list[ChatMessage] = field(default_factory=list)
    call: LoggedCall | None = None


class RowSessions:
    """Makes calls of messages that come one by one, by their conversation.

    An answer ends where somebody else speaks: agents write one answer down in several entries.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Spoken] = OrderedDict()

    def add(self, key: str, message: ChatMessage, call: LoggedCall) -> list[LoggedCall]:
        """The calls that end with a message. call: what its entry says besides."""
        spoken = self._open.setdefault(key, _Spoken())
        self._open.move_to_end(key)
        found: list[LoggedCall] = []
        if message["role"] == "assistant":
            spoken.call = call if spoken.call is None else replace(spoken.call, end=call.start)
            spoken.answer.append(message)
        else:
            found += _ended(spoken)
            spoken.before.append(message)
        while len(self._open) > _MOST:
            found += _ended(self._open.popitem(last=False)[1])
        return found

    def rest(self) -> Iterator[LoggedCall]:
        """The calls that the log ends with."""
        while self._open:
            yield from _ended(self._open.popitem(last=False)[1])


def _ended(spoken: _Spoken) -> list[LoggedCall]:
    if spoken.call is None:
        return []
    (answer,) = merged(spoken.answer)
    prompt = Conversation(tuple(spoken.before))
    found = [replace(spoken.call, prompt=prompt, response=answer)] if spoken.before else []
    spoken.before.append(answer)
    spoken.answer, spoken.call = [], None
    return found
