"""Writes history files, and merges several into one.

with HistoryWriter("history.dw", fingerprint=tokenizer_fingerprint("tokenizer.json")) as out:
    out.add(response_ids, namespace="tenant-a", time=time.time(), metadata={"model": "m"})
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from numpy.typing import ArrayLike

from draftwood import _native
from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import InvalidOption, TokenizerMismatch
from draftwood.index.fingerprint import UNKNOWN
from draftwood.index.history import History, HistoryInfo

MAX_NAMESPACE_BYTES = 1024
MAX_METADATA_BYTES = 65536


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
        self._path = os.fspath(path)

    def __repr__(self) -> str:
        return f"HistoryWriter({self._path!r}, {self.sequences} sequences, {self.tokens} tokens)"

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
            self._info = HistoryInfo.of(self._writer.finish())
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
        HistoryError: a file that `History.open` refuses.
        OSError: a file that cannot be read or written.
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
                out._add(tokens, name, int(file.times[i]), file.metadata_bytes(i))
                if progress and not out.sequences % 1024:
                    progress(out.sequences)
        return out.finish()


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
