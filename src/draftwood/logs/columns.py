"""Which column is the prompt and which the answer, where their names are anybody's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from draftwood.logs.messages import decoded

_ASKED: Final = (
    *("prompt", "question", "query", "input", "instruction", "request", "problem", "utterance"),
    *("prompts", "inputs"),
)
_ANSWERED: Final = (
    *("response", "completion", "answer", "output", "reply", "generation", "result", "solution"),
    *("prediction", "responses", "completions", "outputs", "generations"),
)
_ASKING: Final = frozenset({"user", "human", "customer", "client"})
_ANSWERING: Final = frozenset({"assistant", "bot", "ai", "llm", "model", "gpt", "agent"})
_ROLES: Final = _ASKING | _ANSWERING
_FILLING: Final = frozenset(
    {
        "text",
        "raw",
        "full",
        "final",
        "generated",
        "body",
        "content",
        "message",
        "messages",
        "json",
        "string",
    }
)
_IDS: Final = frozenset({"token", "tokens", "id", "ids"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def pair_of(entry: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """The prompt and the answer of an entry, by the words in its names; None: they are not told.

    `User Prompt` with `LLM Response` and `prompt_token_ids` with `response_ids` are such names.
    Where token ids are spoken of the value is a list: `Prompt Tokens` may be a count.
    """
    named = [(_words(str(key)), decoded(value)) for key, value in entry.items()]
    asked = _best(named, _ASKED, _ASKING)
    answered = _best(named, _ANSWERED, _ANSWERING)
    return None if asked is None or answered is None else (asked, answered)


def _words(name: str) -> frozenset[str]:
    return frozenset(each.lower() for each in _WORD.findall(name))


def _best(
    named: list[tuple[frozenset[str], Any]], nouns: tuple[str, ...], roles: frozenset[str]
) -> Any:
    found: list[tuple[int, Any]] = []
    for words, value in named:
        if not isinstance(value, str | list | dict) or not value:
            continue
        if words & _IDS and not isinstance(value, list):
            continue
        meant = words - _FILLING - _IDS - _ROLES
        if len(meant) == 1 and (noun := next(iter(meant))) in nouns:
            found.append((nouns.index(noun), value))
        elif not meant and words & roles and not words & (_ROLES - roles):
            found.append((len(nouns), value))
    return min(found, key=lambda each: each[0])[1] if found else None
