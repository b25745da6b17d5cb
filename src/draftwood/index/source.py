"""Reads token sequences for a history from exported histories, lists of ids and texts."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import InvalidTokens, SourceError
from draftwood.index.packed import damage, unpacked
from draftwood.index.store import Entry

Encode = Callable[[Sequence[str]], Sequence[TokenIds]]
"""Text to token ids, as `TraceTokenizer.encode`."""


TEXTS = frozenset({".txt", ".sql"})
"""Endings of files that are taken for texts without being told so."""


def require_file(path: Path) -> None:
    """Refuse what is not a regular file.

    Raises:
        SourceError: a folder, a pipe or a device.
        OSError: nothing there.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise SourceError(f"{path} is {kind}; pass the files themselves")


def require_text(path: Path, ending: str) -> None:
    """Refuse a file whose name does not end as a text file's does.

    Raises:
        SourceError: what is expected instead.
    """
    if ending not in TEXTS:
        raise SourceError(
            f"{path} is neither a trace or an exported history (.jsonl, .json), nor token ids "
            "(.tokens, .npy), nor a text (.txt, .sql); rename it, or pass --text"
        )


def is_export(path: Path) -> bool:
    """Whether the first line that holds anything is a JSON object with `tokens`.

    Raises:
        SourceError: a damaged file.
    """
    for _, raw in _numbered(path):
        try:
            line = json.loads(raw)
        except ValueError:
            return False
        return isinstance(line, dict) and "tokens" in line
    return False


def exported(path: Path, *, vocab_size: int | None = None) -> Iterator[Entry]:
    """The entries of what `draftwood index export` wrote.

    Raises:
        SourceError: a line that is no such entry, or a damaged file.
    """
    for number, raw in _numbered(path):
        try:
            line = json.loads(raw)
            yield _entry(line, vocab_size)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            reason = f"{error!r}" if isinstance(error, KeyError) else str(error)
            raise SourceError(
                f"{path}:{number}: no exported entry ({reason}); write one object with tokens"
            ) from None


def token_lines(path: Path, *, vocab_size: int | None = None) -> Iterator[TokenIds]:
    """One sequence from each line: decimal ids separated by white space or commas.

    Raises:
        SourceError: a line of anything else, or a damaged file.
    """
    for number, raw in _numbered(path):
        try:
            ids = [int(word) for word in raw.replace(b",", b" ").split()]
            yield as_tokens(ids, vocab_size=vocab_size)
        except (ValueError, OverflowError) as error:
            raise SourceError(f"{path}:{number}: {error}; write token ids") from None


def array_file(path: Path, *, vocab_size: int | None = None) -> TokenIds:
    """The sequence in a .npy file: a flat array of integers.

    Raises:
        SourceError: anything else.
    """
    try:
        return as_tokens(np.load(path, allow_pickle=False), vocab_size=vocab_size)
    except (ValueError, EOFError, InvalidTokens) as error:
        raise SourceError(f"{path}: {error}; save a flat array of token ids") from None


def text_file(path: Path, encode: Encode | None) -> TokenIds:
    """A whole UTF-8 text as one sequence.

    Raises:
        SourceError: no tokenizer, or a text that is not UTF-8.
    """
    if encode is None:
        raise SourceError(
            f"{path} is read as text; pass --tokenizer with a tokenizer.json or a model folder"
        )
    try:
        with path.open("rb") as file:
            text = unpacked(file, path).read().decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is no UTF-8 text ({error}); convert it") from None
    except damage() as error:
        raise SourceError(f"{path} is damaged ({error}); copy it again") from None
    return encode([text])[0]


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that hold anything, with their numbers."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(unpacked(file, path), 1):
                if raw.strip():
                    yield number, raw
    except damage() as error:
        raise SourceError(
            f"{path}:{number + 1}: the file is damaged from here on ({error}); copy it again"
        ) from None


def _entry(line: Any, vocab_size: int | None) -> Entry:
    tokens = as_tokens(line["tokens"], vocab_size=vocab_size)
    time = line.get("time")
    metadata = line.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata {metadata!r} is no object")
    return Entry(
        tokens, str(line.get("namespace", "")), None if time is None else float(time), metadata
    )
