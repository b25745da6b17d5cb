"""All formats, the most specific first: an entry is of the first that recognizes it."""

from __future__ import annotations

from typing import Final

from draftwood.errors import InvalidOption, TraceError
from draftwood.logs.format import Entry, Format
from draftwood.logs.formats.anthropic import ANTHROPIC
from draftwood.logs.formats.conversations import SHAREGPT
from draftwood.logs.formats.events import EVENTS
from draftwood.logs.formats.message_rows import MESSAGE_ROWS
from draftwood.logs.formats.native import DRAFTWOOD
from draftwood.logs.formats.openai import BATCH, CHAT, FINE_TUNE, RESPONSES
from draftwood.logs.formats.pairs import ALPACA, EXCHANGES, PAIRS
from draftwood.logs.formats.products import HELICONE, LANGFUSE, LANGSMITH, LITELLM
from draftwood.logs.formats.spans import OPENINFERENCE, OTEL
from draftwood.logs.formats.transcripts import CHATGPT, TRANSCRIPTS
from draftwood.logs.formats.vllm import VLLM

FORMATS: Final[tuple[Format, ...]] = (
    *(DRAFTWOOD, BATCH, LANGSMITH, LANGFUSE, LITELLM, HELICONE, OPENINFERENCE, OTEL, VLLM, CHATGPT),
    *(RESPONSES, ANTHROPIC, CHAT, SHAREGPT, FINE_TUNE, EXCHANGES, ALPACA, PAIRS, TRANSCRIPTS),
    *(MESSAGE_ROWS, EVENTS),
)

_OURS = frozenset({"prompt", "response", "prompt_tokens", "response_tokens"})


def format_named(name: str) -> Format:
    """The format of a name, as `--format` takes it.

    Raises:
        InvalidOption: no such format.
    """
    for each in FORMATS:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in FORMATS)
    raise InvalidOption(f"format is {name!r}; use one of {names}")


def recognized(entry: Entry) -> Format:
    """The format of an entry.

    Raises:
        TraceError: no format recognizes it; says which one is near.
    """
    for each in FORMATS:
        if each.recognizes(entry):
            return each
    keys = {str(key) for key in entry}
    if keys & _OURS:
        return DRAFTWOOD  # which says what is missing
    if not keys:
        raise TraceError("an empty object; record a prompt and a response")
    near = max(FORMATS, key=lambda each: (len(keys & each.marks), -len(each.marks - keys)))
    shown = ", ".join(sorted(keys)[:6])
    if not keys & near.marks:
        raise TraceError(
            f"keys {shown} are of no known format; name them prompt and response, or see "
            "docs/log-formats.md"
        )
    missing = ", ".join(sorted(near.marks - keys)[:4])
    raise TraceError(f"this looks like {near.title}, but has no {missing} (keys {shown})")


def holds_calls(row: Entry) -> bool:
    """Whether a row of a table is a call.

    Raises:
        TraceError: it is of no known format.
    """
    return any(True for _ in recognized(row).read(row))
