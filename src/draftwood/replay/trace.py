"""Recorded traces: JSONL files of prompts and responses, in the order in which they were served.

A record is one model call, one JSON object a line:

    prompt, response    text, or token ids (also as prompt_tokens, response_tokens)
    session             optional: calls of one conversation or agent run share it
    prompt_mode         optional: where it contains "delta", the prompt is only what this call
                        adds; the session's earlier prompts and responses precede it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import InvalidTokens, TraceError
from draftwood.index.packed import damage, unpacked
from draftwood.protocols import Partner
from draftwood.replay.tokenizer import TraceTokenizer

_BATCH = 128
"""Records that are tokenized at once: enough to share among cores, little to hold in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One request as served: the whole prompt, and the response with its end token."""

    prompt: TokenIds
    response: TokenIds
    session: str | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """A record as written: text or ids, and whether it continues its session."""

    number: int
    prompt: str | TokenIds
    response: str | TokenIds
    session: str | None
    delta: bool


class Trace:
    """A trace file: .jsonl, plain or compressed as .gz or .zst. Iterate to read it from the start.

    path: the file. tokenizer: for records of text; ids need none, but are checked against its
    vocabulary and given its end token where one is given. problem: told each line that cannot be
    used, as `file:line: reason`; the others are kept.

    Lines are read as they are asked for; one batch stays in memory, and the tokens of each
    session so far.
    """

    def __init__(
        self,
        path: Path,
        tokenizer: TraceTokenizer | None = None,
        *,
        problem: Callable[[str], None],
    ) -> None:
        self.path = path
        self._tokenizer = tokenizer
        self._problem = problem
        self._file: IO[bytes] | None = None
        self._size = 0

    @property
    def name(self) -> str:
        """The file's name without its endings."""
        name = self.path.name
        for ending in (".gz", ".zst", ".jsonl", ".json"):
            name = name.removesuffix(ending)
        return name

    @property
    def partner(self) -> Partner | None:
        """The target that the tokenizer stands for; None without one."""
        if self._tokenizer is None:
            return None
        return Partner(self._tokenizer.vocab, self._tokenizer.vocab_size)

    @property
    def fraction_read(self) -> float:
        """How much of the file has been read: 0 to 1, counted in stored bytes."""
        if self._file is None or self._file.closed or not self._size:
            return 0.0
        return self._file.tell() / self._size

    def __iter__(self) -> Iterator[Record]:
        """The records, in file order.

        Raises:
            TraceError: the file cannot be read, or it holds text and there is no tokenizer.
            MissingExtra: a .zst file, and zstandard is not installed.
        """
        sessions: dict[str, list[TokenIds]] = {}
        try:
            with self.path.open("rb") as self._file:
                self._size = self.path.stat().st_size
                lines = self._lines(unpacked(self._file, self.path))
                while batch := list(islice(lines, _BATCH)):
                    for line, prompt, response in self._tokenized(batch):
                        record = _served(line, prompt, response, sessions)
                        if len(record.prompt):
                            yield record
                        else:
                            self._skip(line.number, "the prompt has 0 tokens; record at least one")
        except OSError as error:
            raise TraceError(
                f"cannot read {self.path} ({error.strerror or error}); "
                "give a JSONL file, plain, .gz or .zst"
            ) from None

    def _lines(self, stream: Iterable[bytes]) -> Iterator[_Line]:
        """The lines that hold a record; the others are reported."""
        vocab_size = None if self._tokenizer is None else self._tokenizer.vocab_size
        number = 0
        try:
            for number, raw in enumerate(stream, 1):
                if not raw.strip():
                    continue
                try:
                    yield _parse(number, raw, vocab_size)
                except (TraceError, InvalidTokens) as error:
                    self._skip(number, str(error))
        except damage() as error:
            self._skip(number + 1, f"the file is damaged from here on ({error}); copy it again")

    def _tokenized(self, lines: list[_Line]) -> Iterator[tuple[_Line, TokenIds, TokenIds]]:
        """Each line with its prompt and response as ids."""
        strings = [
            text for line in lines for text in (line.prompt, line.response) if isinstance(text, str)
        ]
        if strings and self._tokenizer is None:
            raise TraceError(
                f"{self.path} holds text; pass --tokenizer with a tokenizer.json or a model folder"
            )
        encoded = iter(self._tokenizer.encode(strings) if self._tokenizer else ())
        for line in lines:
            prompt = next(encoded) if isinstance(line.prompt, str) else line.prompt
            response = next(encoded) if isinstance(line.response, str) else line.response
            yield line, prompt, self._ended(response)

    def _ended(self, response: TokenIds) -> TokenIds:
        end = None if self._tokenizer is None else self._tokenizer.end_token
        if end is None or (len(response) and response[-1] == end):
            return response
        return np.append(response, np.int32(end))

    def _skip(self, number: int, reason: str) -> None:
        self._problem(f"{self.path}:{number}: {reason}; this line is left out")


def _served(
    line: _Line, prompt: TokenIds, response: TokenIds, sessions: dict[str, list[TokenIds]]
) -> Record:
    """The record with its session's earlier turns, which are kept for the turns to come."""
    if line.session is None:
        return Record(prompt, response)
    turns = sessions.setdefault(line.session, [])
    whole = np.concatenate((*turns, prompt)) if line.delta else prompt
    turns += (prompt, response)
    return Record(whole, response, line.session)


def _parse(number: int, raw: bytes, vocab_size: int | None) -> _Line:
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"not JSON ({error}); write one object a line") from None
    if not isinstance(record, dict):
        raise TraceError("not a JSON object; write one object a line")
    session = record.get("session")
    return _Line(
        number,
        _content(record, "prompt", vocab_size),
        _content(record, "response", vocab_size),
        None if session is None else str(session),
        "delta" in str(record.get("prompt_mode", "")),
    )


def _content(record: dict[str, Any], name: str, vocab_size: int | None) -> str | TokenIds:
    value = record.get(f"{name}_tokens", record.get(name))
    if value is None:
        raise TraceError(f"no {name}; give {name} as text or {name}_tokens as token ids")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON may escape half a surrogate pair
            raise TraceError(f"{name} is no Unicode text ({error}); record it whole") from None
        return value
    if not isinstance(value, list):
        raise TraceError(f"{name} is {value!r}; give text or a list of token ids")
    try:
        return as_tokens(value, vocab_size=vocab_size)
    except (ValueError, OverflowError) as error:  # ragged lists are a ValueError of numpy
        raise TraceError(f"{name}: {error}") from None
