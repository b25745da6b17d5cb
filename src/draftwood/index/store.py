"""History files: sequences of token ids, mapped and used in place (docs/history-format.md).

with HistoryWriter("history.dw", fingerprint=tokenizer_fingerprint("tokenizer.json")) as out:
    out.add(response_ids, namespace="tenant-a", time=time.time(), metadata={"model": "m"})
for tokens in History.open("history.dw"):     # int32 views into the mapped file
    tree.add(tokens)
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draftwood import _native
from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import HistoryMalformed, InvalidOption, TokenizerMismatch
from draftwood.index.fingerprint import UNKNOWN

MAX_NAMESPACE_BYTES = 1024
MAX_METADATA_BYTES = 65536


@dataclass(frozen=True, slots=True)
class HistoryInfo:
    """What a file's header says; the rest of the file is not read.

    tokens: separators not counted. token_limit: greatest token id + 1. fingerprint: 32 bytes,
    all zero where the tokenizer is unknown.
    """

    version: tuple[int, int]
    file_bytes: int
    sequences: int
    tokens: int
    namespaces: int
    token_limit: int
    fingerprint: bytes

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> HistoryInfo:
        """The header of the file at `path`: 128 bytes are read, however long the file.

        Raises:
            HistoryError: as `History.open`, for what the header and the file's length show.
            OSError: a file that cannot be read.
        """
        return cls._of(_native.read_history_info(os.fsencode(path)))

    @classmethod
    def _of(cls, info: _native.HistoryInfo) -> HistoryInfo:
        return cls(
            (info.major, info.minor),
            info.file_bytes,
            info.sequences,
            info.tokens,
            info.namespaces,
            info.token_limit,
            info.fingerprint,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One sequence of a history and what is known about it.

    tokens: int32 [n], borrowed from the mapping. time: seconds since 1970-01-01 UTC, or None.
    """

    tokens: TokenIds
    namespace: str
    time: float | None
    metadata: Mapping[str, Any]


class History:
    """A mapped history file. Read-only; any number of threads and processes at once.

    Arrays stand in the file's mapping and keep it alive; there is nothing to close. The file must
    not be truncated while it is mapped; writers here never do, they rename a new file over it.
    """

    def __init__(self, mapped: _native.History) -> None:
        """Use `History.open`."""
        self._mapped = mapped
        self.info = HistoryInfo._of(mapped.info)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        fingerprint: bytes | None = None,
        check_tokens: bool = True,
    ) -> History:
        """Map the file at `path`, validated before anything of it is used.

        fingerprint: refuse a file of any other tokenizer (None: take any). check_tokens: read all
        tokens for their checksum and range; without it their pages are not read, everything else is
        checked all the same, and a damaged token may be drafted.

        Raises:
            NotAHistory, HistoryTruncated, HistoryTooNew, HistoryCorrupt, HistoryMalformed,
            TokenizerMismatch: all of them HistoryError.
            InvalidOption: a path that no file can have.
            OSError: a file that cannot be read.
        """
        return cls(_native.History.open(os.fsencode(path), check_tokens, fingerprint))

    def __len__(self) -> int:
        return self.info.sequences

    def __iter__(self) -> Iterator[TokenIds]:
        """The sequences, oldest first: int32 views into the file."""
        return (self._mapped.sequence(i) for i in range(len(self)))

    def __getitem__(self, i: int) -> Entry:
        """Sequence i with its namespace, time and metadata; negative: from the end.

        Raises:
            HistoryMalformed: metadata that is no JSON object.
        """
        at = i + len(self) if i < 0 else i
        if not 0 <= at < len(self):
            raise IndexError(f"sequence {i} of {len(self)}")
        time = int(self.times[at])
        return Entry(
            self._mapped.sequence(at),
            self.namespaces[self.namespace_ids[at]],
            None if time == _native.NO_TIME else time / 1e6,
            _parsed(self._mapped.metadata(at), at),
        )

    def entries(self, *, namespace: str | None = None) -> Iterator[Entry]:
        """All sequences with what is known about them, or those of one namespace."""
        for i in range(len(self)):
            if namespace is None or self.namespaces[self.namespace_ids[i]] == namespace:
                yield self[i]

    @cached_property
    def tokens(self) -> TokenIds:
        """int32 [tokens + sequences]: every sequence, each followed by a separator, -1."""
        return self._mapped.tokens

    @cached_property
    def offsets(self) -> NDArray[np.uint64]:
        """uint64 [sequences + 1]: sequence i is tokens[offsets[i] : offsets[i + 1] - 1]."""
        return self._mapped.offsets

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """int64 [sequences]: microseconds since 1970-01-01 UTC; the least int64 where unknown."""
        return self._mapped.times

    @cached_property
    def namespace_ids(self) -> NDArray[np.uint32]:
        """uint32 [sequences]: index into `namespaces`."""
        return self._mapped.namespace_ids

    @cached_property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces' names in the order of their first use."""
        return tuple(self._mapped.namespace_name(i).decode() for i in range(self.info.namespaces))


class HistoryWriter:
    """Writes a history; it appears under its name all at once, or not at all. One thread.

    Tokens go to a file beside `path` as they come; `finish` completes and renames it. As a context
    manager it finishes at the end of the block, and leaves nothing behind if the block raises.

    The file has the mode of the one that it replaces, 0600 where there was none. Where `path` is a
    link, the file that it leads to is replaced. What writers of this path left behind when they
    were killed is removed. A child of fork() has no part in the file: its calls raise ValueError,
    and its end removes nothing.

    fingerprint: of the tokenizer the ids belong to (`tokenizer_fingerprint`); None: not known.

    Raises:
        InvalidOption: a path that no file can have.
        OSError: where nothing can be written beside `path`, or something else than a file is there.
    """

    def __init__(self, path: str | os.PathLike[str], *, fingerprint: bytes | None = None) -> None:
        self._writer = _native.HistoryWriter(os.fsencode(path), fingerprint or UNKNOWN)
        self._info: HistoryInfo | None = None

    def add(
        self,
        tokens: ArrayLike,
        *,
        namespace: str = "",
        time: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one sequence.

        time: seconds since 1970-01-01 UTC, kept to the microsecond. metadata: a small JSON object.

        Raises:
            InvalidTokens: ids that are none.
            InvalidOption: a namespace beyond 1024 bytes, metadata that is not JSON or beyond
                65536 bytes, a time that is no number. Nothing is added then.
            OSError: a full disk, for one; the writer is not used again.
        """
        self._add(as_tokens(tokens), _name(namespace), _microseconds(time), _json(metadata))

    def _add(self, tokens: TokenIds, namespace: bytes, time: int, metadata: bytes) -> None:
        self._writer.add(tokens, namespace, time, metadata)

    def finish(self) -> HistoryInfo:
        """Complete the file, put it on disk and give it its name; nothing is added afterwards.

        Raises:
            OSError: the file cannot be completed; what stood at the path still stands there.
        """
        if self._info is None:
            self._info = HistoryInfo._of(self._writer.finish())
        return self._info

    def abandon(self) -> None:
        """Remove what was written; nothing happens after `finish`."""
        self._writer.abandon()

    @property
    def sequences(self) -> int:
        """Sequences added so far."""
        return self._writer.sequences

    @property
    def tokens(self) -> int:
        """Tokens added so far, separators not counted."""
        return self._writer.tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()


def merge(
    paths: Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int], None] | None = None,
) -> HistoryInfo:
    """Write the sequences of all `paths`, in that order, to one history at `path`.

    `path` may be one of `paths`, or a link to one: it is read to its end, then the complete new
    file takes its place; if anything fails, all files are as they were. progress: told the
    sequences written so far, now and then.

    Raises:
        TokenizerMismatch: files of different tokenizers.
        HistoryError, OSError: as `History.open` and `HistoryWriter`.
    """
    if not paths:
        raise InvalidOption("0 files to merge; name at least 1")
    files = [History.open(each) for each in paths]
    first = files[0].info.fingerprint
    for each, file in zip(paths, files, strict=True):
        if file.info.fingerprint != first:
            raise TokenizerMismatch(
                f"{os.fspath(each)!s} has tokenizer fingerprint {file.info.fingerprint.hex()[:12]} "
                f"and {os.fspath(paths[0])!s} has {first.hex()[:12]}; merge files of one tokenizer"
            )
    with HistoryWriter(path, fingerprint=first) as out:
        for file in files:
            names = [name.encode() for name in file.namespaces]
            for i, tokens in enumerate(file):
                name = names[file.namespace_ids[i]]
                out._add(tokens, name, int(file.times[i]), file._mapped.metadata(i))
                if progress and not out.sequences % 1024:
                    progress(out.sequences)
        return out.finish()


def export(history: History, out: IO[str], *, progress: Callable[[int], None] | None = None) -> int:
    """Write one JSON object a line: tokens, and namespace, time, metadata where there are any.

    out: any open text file but the history's own, which opening it for writing would empty.
    Returns the lines written. progress: told them now and then.
    """
    for i, entry in enumerate(history.entries(), 1):
        line: dict[str, Any] = {"tokens": entry.tokens.tolist()}
        if entry.namespace:
            line["namespace"] = entry.namespace
        if entry.time is not None:
            line["time"] = entry.time
        if entry.metadata:
            line["metadata"] = dict(entry.metadata)
        out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        if progress and not i % 1024:
            progress(i)
    return len(history)


def _parsed(text: bytes, i: int) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HistoryMalformed(
            f"the metadata of sequence {i} is not JSON ({error}); build the file again"
        ) from None
    if not isinstance(value, dict):
        raise HistoryMalformed(
            f"the metadata of sequence {i} is {type(value).__name__}, not an object; "
            "build the file again"
        )
    return value


def _json(metadata: Mapping[str, Any] | None) -> bytes:
    if not metadata:
        return b""
    try:
        text = json.dumps(
            dict(metadata), ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOption(f"metadata is not JSON ({error}); pass text, numbers, lists") from None
    if len(text) > MAX_METADATA_BYTES:
        raise InvalidOption(
            f"metadata of {len(text)} bytes; at most {MAX_METADATA_BYTES} fit, keep the rest aside"
        )
    return text


def _name(namespace: str) -> bytes:
    try:
        name = namespace.encode()
    except UnicodeEncodeError:
        raise InvalidOption(f"namespace {namespace!r} has no UTF-8 form; choose another") from None
    if len(name) > MAX_NAMESPACE_BYTES:
        raise InvalidOption(
            f"namespace of {len(name)} bytes; names have at most {MAX_NAMESPACE_BYTES}"
        )
    return name


def _microseconds(time: float | None) -> int:
    if time is None:
        return int(_native.NO_TIME)
    if not math.isfinite(time) or abs(time) >= 2**63 / 1e6:
        raise InvalidOption(f"time {time} is not seconds since 1970; pass time.time()")
    return round(time * 1e6)
