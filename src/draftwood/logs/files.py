"""The bytes of logs: files, folders, globs and standard input, plain or compressed."""

from __future__ import annotations

import codecs
import glob
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from draftwood.errors import TraceError
from draftwood.index.packed import unpacked

STDIN = Path("-")
"""Standard input."""

LOG_ENDINGS = (
    *(".jsonl", ".json", ".ndjson", ".jsonlines", ".csv", ".tsv", ".parquet", ".arrow", ".log"),
    *(".db", ".sqlite", ".sqlite3", ".duckdb"),
)
"""Endings of files that are taken for logs where other files may be meant."""
_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}


def expanded(paths: Sequence[str | Path]) -> list[Path]:
    """The files that paths, folders and globs name, each once, in the order of their names.

    Raises:
        TraceError: a folder or a glob without any log.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path == STDIN or path.is_file():
            new: Iterable[Path] = [path]
        elif path.is_dir():
            inner = (
                each for each in path.rglob("*") if each.suffix in (*LOG_ENDINGS, ".gz", ".zst")
            )
            new = sorted(each for each in inner if each.is_file() and not _hidden(each, path))
            if not new:
                raise TraceError(f"{path} holds no log; give .jsonl, .json, .csv or .parquet files")
        elif glob.has_magic(str(given)):
            new = [Path(each) for each in sorted(glob.glob(str(given), recursive=True))]
            if not new:
                raise TraceError(f"no file matches {given}; check the pattern")
        else:
            new = [path]  # opening it says what is wrong
        found |= dict.fromkeys(new)
    return list(found)


def _hidden(path: Path, below: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(below).parts)


class _Transcoded(io.RawIOBase):
    """A stream of UTF-16 as UTF-8."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._left, self._ended = stream, b"", False
        self._decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and not self._ended:
            raw = self._stream.read(1 << 14)
            self._ended = not raw
            self._left = self._decoder.decode(raw, final=self._ended).encode("utf-8", "replace")
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


def in_utf8(stream: io.BufferedReader) -> io.BufferedReader:
    """The stream, transcoded where it begins with the mark of UTF-16, as spreadsheets write it."""
    if stream.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return io.BufferedReader(_Transcoded(stream))
    return stream


class Stored:
    """An open log. size: its stored bytes, 0 where that is not known."""

    def __init__(self, path: Path, raw: IO[bytes], size: int) -> None:
        self.path, self.size = path, size
        self._raw = raw
        head = b""
        if isinstance(raw, io.BufferedReader):
            head = raw.peek(16)[:16]
        self.magic = head
        ending = next((each for start, each in _MAGIC.items() if head.startswith(start)), "")
        self.stream: io.BufferedReader = cast(
            io.BufferedReader, unpacked(raw, Path(f"{path}{ending}")) if ending else raw
        )

    @property
    def read(self) -> int:
        """Stored bytes that have been read."""
        try:
            return self._raw.tell() if self.size else 0
        except (OSError, ValueError):
            return self.size


@contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """A log for reading.

    Raises:
        TraceError: it cannot be read.
    """
    try:
        if path == STDIN:
            yield Stored(Path("standard input"), sys.stdin.buffer, 0)
            return
        with path.open("rb") as raw:
            yield Stored(path, raw, os.fstat(raw.fileno()).st_size)
    except OSError as error:
        if error.filename is None and not isinstance(error, IsADirectoryError):
            raise
        raise TraceError(
            f"cannot read {path} ({error.strerror or error}); give a log, plain, .gz or .zst"
        ) from None
