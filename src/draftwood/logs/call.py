"""A recorded model call, as every log format gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from draftwood.draft import TokenIds

ChatMessage: TypeAlias = Mapping[str, Any]
"""{"role", "content"}, content a text; assistants may have "tool_calls" and "reasoning_content"."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages before an answer, with the tools that were offered."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class LoggedCall:
    """One request and its answer.

    prompt: text, token ids or a conversation. response: text, ids, or an assistant's message.
    session: calls of one conversation or agent run share it. start, end: seconds since 1970.
    fields: model, stage, user and whatever else is short in the log; advice is split by them.
    delta: the prompt is only what this call adds to its session. answer_id, follows: the id of this
    answer, and of the answer that the prompt goes on from. place: where it stands, `file:line`.
    last: no later turn of the same conversation stands in the same entry of the log.
    """

    prompt: str | TokenIds | Conversation
    response: str | TokenIds | ChatMessage
    session: str | None = None
    start: float | None = None
    end: float | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    delta: bool = False
    answer_id: str | None = None
    follows: str | None = None
    place: str = ""
    last: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A piece of a call that other entries of the log complete.

    key: the same for all parts of a call. kind: what this part is, by the format's own names.
    """

    key: str
    kind: str
    value: Any
    place: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One request as served: the whole prompt, and the response with its end token.

    number: of the call in its log, from 0. start, end: seconds since 1970, where the log has
    them. fields: as in `LoggedCall`. namespace, prediction: as in `Request`; a log gives none.
    """

    prompt: TokenIds
    response: TokenIds
    session: str | None = None
    number: int = 0
    start: float | None = None
    end: float | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    prediction: tuple[TokenIds, ...] = ()
