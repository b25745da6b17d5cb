"""Safe output files: never over an input, and replaced atomically."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from draftwood import _native
from draftwood.errors import HistoryError, InvalidOption, NotAHistory
from draftwood.index.store import HistoryInfo

AnyPath = str | os.PathLike[str]


def require_apart(output: AnyPath, inputs: Sequence[AnyPath]) -> None:
    """Refuse an output that is one of the inputs, by whatever name.

    Raises:
        InvalidOption: the same path, a link to the same file, or something that is no file.
    """
    for source in inputs:
        same = os.path.realpath(output) == os.path.realpath(source)
        with suppress(OSError):  # one of them is not there: then they are two
            same = same or os.path.samefile(output, source)
        if same:
            raise InvalidOption(
                f"{os.fspath(output)!s} is an input as well, {os.fspath(source)!s}; "
                "write to another path"
            )
    try:
        mode = os.stat(output).st_mode
    except OSError:  # nothing there yet; writing says what else is wrong
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InvalidOption(
            f"{os.fspath(output)!s} is no regular file, and would be replaced by one; "
            "write to another path"
        )


def require_history_or_nothing(output: AnyPath) -> bool:
    """Whether a history with sequences stands at `output`, which a new one would replace.

    Raises:
        InvalidOption: a file that is not a history, and so is probably not meant.
    """
    try:
        if os.path.getsize(output) == 0:
            return False
        return HistoryInfo.read(output).sequences > 0
    except NotAHistory:
        raise InvalidOption(
            f"{os.fspath(output)!s} is there and is no history file; "
            "remove it, or write to another path"
        ) from None
    except HistoryError:  # a damaged one is not worth keeping
        return False
    except OSError:  # nothing there, or nothing to be read: writing says what is wrong
        return False


@contextmanager
def replacing(path: AnyPath) -> Iterator[IO[str]]:
    """A text file that takes the place of `path` at the end of the block, unless that raises.

    It has the mode of the file that it replaces, 0600 where there was none; all of it is on disk
    before it gets the name.

    Raises:
        OSError: where nothing can be written there.
    """
    replacement = _native.Replacement(os.fsencode(path))
    try:
        with os.fdopen(os.dup(replacement.fileno()), "w", encoding="utf-8") as file:
            yield file
        replacement.commit()
    finally:
        replacement.abandon()
