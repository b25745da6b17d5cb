"""Compressed files by their names: .gz and .zst."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import IO

from draftwood.errors import MissingExtra


def unpacked(file: IO[bytes], path: Path) -> IO[bytes]:
    """The bytes of an open file, decompressed where its name ends in .gz or .zst.

    Raises:
        MissingExtra: a .zst file, and zstandard is not installed.
    """
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if path.suffix == ".zst":
        try:
            import zstandard
        except ImportError:
            raise MissingExtra(
                f"{path} needs the zstandard package; install draftwood[replay]"
            ) from None
        # the package's reader gives no lines, and by itself stops after the first frame
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return io.BufferedReader(reader)
    return file


def damage() -> tuple[type[Exception], ...]:
    """What reading a damaged compressed file raises."""
    errors: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)
    try:
        from zstandard import ZstdError
    except ImportError:
        return errors
    return (*errors, ZstdError)
