"""Instructions and answers, prompts and completions: alpaca, and columns of many names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftwood.errors import TraceError
from draftwood.logs.about import about
from draftwood.logs.answers import answers_of
from draftwood.logs.call import ChatMessage, Conversation, LoggedCall
from draftwood.logs.columns import pair_of
from draftwood.logs.format import ANSWERS, Entry, Format, exchange, first, halves, turns
from draftwood.logs.messages import decoded, messages_of, text_of
from draftwood.logs.requests import prompt_of

_ASKED = (
    *(
        "prompt",
        "question",
        "query",
        "input",
        "inputs",
        "user",
        "request",
        "instruction",
        "problem",
    ),
    *("prompt_text", "input_text", "user_input", "user_message", "text_input", "context", "human"),
)
_ANSWERED = (
    *("completion", "response", "answer", "output", "outputs", "generation", "generated_text"),
    *("assistant", "chosen", "result", "target", "reply", "response_text", "output_text"),
    *("completion_text", "model_output", "prediction", "solution", "answers", "completions"),
    *("generations", "bot", "gpt", "sampled"),
)


def _recognizes_alpaca(entry: Entry) -> bool:
    return isinstance(entry.get("instruction"), str) and any(
        isinstance(entry.get(key), str) for key in ("output", "response", "completion", "answer")
    )


def _read_alpaca(entry: Entry) -> Iterator[LoggedCall]:
    asked = text_of(entry.get("instruction"))
    if entry.get("input") or entry.get("context"):
        asked += "\n\n" + text_of(entry.get("input") or entry.get("context"))
    answer = first(entry, ("output", "response", "completion", "answer"))
    if not isinstance(answer, str):
        raise TraceError("this looks like alpaca, but its output is no text; record the answer")
    messages: list[ChatMessage] = []
    if entry.get("system"):
        messages.append({"role": "system", "content": text_of(entry["system"])})
    history = decoded(entry.get("history"))
    for turn in history if isinstance(history, list) else []:
        if isinstance(turn, list) and len(turn) == 2:
            messages.append({"role": "user", "content": text_of(turn[0])})
            messages.append({"role": "assistant", "content": text_of(turn[1])})
    messages.append({"role": "user", "content": asked})
    yield LoggedCall(Conversation(tuple(messages)), answer, **about(entry))


def _recognizes_pairs(entry: Entry) -> bool:
    values = _pair(entry)
    return all(isinstance(each, str | list | dict) for each in values)


def _pair(entry: Entry) -> tuple[Any, Any]:
    """What was asked and answered, under usual names or under those that say so by their words."""
    usual = _value(entry, _ASKED), _value(entry, _ANSWERED)
    if all(isinstance(each, str | list | dict) for each in usual):
        return usual
    return pair_of(entry) or usual


def _value(entry: Entry, keys: tuple[str, ...]) -> Any:
    """The value of the first key, in any case and with spaces or underscores."""
    low = {str(key).lower().replace(" ", "_"): key for key in entry}
    return first(entry, (low[key] for key in keys if key in low))


def _read_pairs(entry: Entry) -> Iterator[LoggedCall]:
    asked, answered = _pair(entry)
    whole = messages_of(answered)  # preference data repeats the question in the chosen text
    if whole is not None and len(whole) > 1:
        yield from turns(whole, (), entry)
        return
    if isinstance(answered, list) and answered and isinstance(answered[0], str):
        answers: list[Any] = answered  # several samples of one prompt
    else:
        answers = answers_of(answered)
    prompt = prompt_of(asked)
    if prompt is None or not answers:
        raise TraceError("a prompt and an answer are named, but one of them holds no text")
    system = text_of(_value(entry, ("system", "system_prompt")))
    if system and isinstance(prompt, str):
        prompt = Conversation(
            ({"role": "system", "content": system}, {"role": "user", "content": prompt})
        )
    for answer in answers:
        yield LoggedCall(prompt, answer, **about(entry))


def _recognizes_any(entry: Entry) -> bool:
    request, answer = halves(entry)
    if request is entry and not isinstance(entry.get("choices"), list):
        return False
    try:
        return answer is not None and prompt_of(request) is not None and bool(answers_of(answer))
    except TraceError:
        return False


def _read_any(entry: Entry) -> Iterator[LoggedCall]:
    request, answer = halves(entry)
    yield from exchange(request, answer, entry)


ALPACA = Format(
    "alpaca",
    "alpaca",
    _recognizes_alpaca,
    _read_alpaca,
    marks=frozenset({"instruction", "input", "output"}),
)
PAIRS = Format(
    "pairs",
    "prompts and completions",
    _recognizes_pairs,
    _read_pairs,
    marks=frozenset({"prompt", "completion", "question", "answer"}),
)
EXCHANGES = Format(
    "requests", "requests and responses", _recognizes_any, _read_any, marks=frozenset(ANSWERS)
)
