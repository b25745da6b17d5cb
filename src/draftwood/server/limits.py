"""What one request, and all requests together, may ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from draftwood.errors import InvalidOption

MOST_CHOICES: Final = 16
"""Texts that one request may ask for, where the server does not say."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of a server.

    max_batch: texts that share passes. max_waiting: texts that wait beside them; more are refused
    with 429. max_body: bytes of a request. max_prompt_tokens: of one prompt, and of all predictions
    of a request together. max_tokens: generated tokens of one text. max_choices: texts that one
    request may ask for, over all its prompts. header_seconds, body_seconds: in which a request's
    headers and its body have to have come. grammar_seconds: in which a response format has to be
    compiled. grace_seconds: what running texts get when the server is stopped.

    Raises:
        InvalidOption: for a limit below 1 (grace_seconds: below 0).
    """

    max_batch: int = 8
    max_waiting: int = 64
    max_body: int = 8 * 1024 * 1024
    max_prompt_tokens: int = 131_072
    max_tokens: int = 8192
    max_choices: int = MOST_CHOICES
    header_seconds: int = 20
    body_seconds: int = 30
    grammar_seconds: int = 20
    grace_seconds: int = 30

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least = getattr(self, each.name), int(each.name != "grace_seconds")
            if value < least:
                raise InvalidOption(f"{each.name} is {value}; use {least} or more")
        if self.max_choices > self.max_batch + self.max_waiting:
            raise InvalidOption(
                f"max_choices is {self.max_choices} and the queue holds "
                f"{self.max_batch + self.max_waiting} texts; lower the one or lengthen the other"
            )
