"""History files: sequences of token ids, mapped and used in place (docs/history-format.md).

for tokens in History.open("history.dw"):     # int32 views into the mapped file
    tree.add(tokens)

`HistoryWriter` in `history_writer.py` makes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from draftwood import _native
from draftwood.draft import TokenIds
from draftwood.errors import HistoryMalformed


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
        return cls.of(_native.read_history_info(os.fsencode(path)))

    @classmethod
    def of(cls, info: _native.HistoryInfo) -> HistoryInfo:
        """From the native code's record."""
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
        self.info = HistoryInfo.of(mapped.info)

    def __repr__(self) -> str:
        return f"History({self.info.sequences} sequences, {self.info.tokens} tokens)"

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
            NotAHistory: a file of another kind.
            HistoryTooNew: a file of a later version of Draftwood.
            HistoryTruncated: a file that ends too early.
            HistoryCorrupt: a checksum that is wrong.
            HistoryMalformed: a file whose parts contradict one another.
            TokenizerMismatch: a file of another tokenizer than `fingerprint`.
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

    def metadata_bytes(self, i: int) -> bytes:
        """The metadata of sequence i (0 or more) as they stand in the file; empty: none."""
        return self._mapped.metadata(i)


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
