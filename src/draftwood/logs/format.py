"""What a log format is, and what several of them share: an exchange, and the turns of a chat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from draftwood.errors import TraceError
from draftwood.logs.about import about
from draftwood.logs.answers import answers_of
from draftwood.logs.call import ChatMessage, Conversation, LoggedCall, Part
from draftwood.logs.messages import decoded
from draftwood.logs.requests import prompt_of

Entry = Mapping[str, Any]
"""One entry of a log: an object of JSON, a row of a table, or {"line": text}."""


def _no_join(_parts: Mapping[str, Sequence[Any]]) -> list[LoggedCall] | None:
    return None


@dataclass(frozen=True, slots=True)
class Format:
    """One way of writing calls down.

    name: as `--format` takes it. title: as messages name it. recognizes: whether an entry is of
    this format. read: the calls of an entry, or parts of calls; it raises TraceError where the
    entry holds none. join: the calls of all parts of a key so far, by kind; None while some are
    missing. marks: keys that this format has, to say what an entry that is not recognized is near.
    """

    name: str
    title: str
    recognizes: Callable[[Entry], bool]
    read: Callable[[Entry], Iterable[LoggedCall | Part]]
    join: Callable[[Mapping[str, Sequence[Any]]], list[LoggedCall] | None] = _no_join
    marks: frozenset[str] = frozenset()


REQUESTS = (
    *("request", "request_body", "requestBody", "body", "req", "kwargs", "input", "inputs"),
    *("llm_request", "request_data", "request_json", "prompt_json", "payload"),
)
ANSWERS = (
    *("response", "response_body", "responseBody", "resp", "output", "outputs", "completion"),
    *("answer", "result", "reply", "generation", "llm_response", "response_json", "response_data"),
    *("completion_message", "generated_text", "prediction", "message"),
)


def first(entry: Entry, keys: Iterable[str]) -> Any:
    """The value of the first key that has one; strings that hold JSON are read."""
    for key in keys:
        value = decoded(entry[key]) if key in entry else None
        if value not in (None, "", [], {}):
            return value
    return None


def halves(entry: Entry) -> tuple[Any, Any]:
    """The request and the response of an entry, wherever they stand; None for one that is not."""
    request: Any = entry
    for key in REQUESTS:
        if key in entry and isinstance(value := decoded(entry[key]), dict | list):
            request = value
            break
    answer: Any = entry if "choices" in entry or "candidates" in entry else first(entry, ANSWERS)
    return request, answer


def exchange(request: Any, response: Any, *sources: Any) -> Iterator[LoggedCall]:
    """A call for each answer of a response.

    sources: entries that say the session, the times and the fields.

    Raises:
        TraceError: no prompt, or no answer.
    """
    prompt = prompt_of(request)
    if prompt is None:
        raise TraceError(
            f"no prompt in the request {_keys(request)}; record messages, input or prompt"
        )
    answers = answers_of(response)
    if not answers:
        raise TraceError(f"no answer in the response {_keys(response)}; record what was generated")
    told = about(*sources, request if isinstance(request, dict) else None)
    whole, asked = decoded(response), decoded(request)
    answer_id = whole.get("id") if isinstance(whole, dict) else None
    follows = asked.get("previous_response_id") if isinstance(asked, dict) else None
    for answer in answers:
        yield LoggedCall(
            prompt,
            answer,
            **told,
            answer_id=answer_id if isinstance(answer_id, str) else None,
            follows=follows if isinstance(follows, str) else None,
        )


def turns(
    messages: Sequence[ChatMessage], tools: tuple[Any, ...], source: Entry
) -> Iterator[LoggedCall]:
    """A call for each assistant's turn of a conversation.

    Raises:
        TraceError: no assistant's turn, or nothing before it.
    """
    places = [at for at, each in enumerate(messages) if at and each["role"] == "assistant"]
    if not places:
        raise TraceError(
            f"{len(messages)} messages, and none is an assistant's answer to another; record the "
            "answers as well"
        )
    told = about(source)
    for at in places:
        prompt = Conversation(tuple(messages[:at]), tools)
        yield LoggedCall(prompt, messages[at], **told, last=at == places[-1])


def _keys(value: Any) -> str:
    if isinstance(value, dict):
        return "(keys " + ", ".join(map(str, list(value)[:6])) + ")"
    return f"({type(value).__name__})"
