"""Output of the commands: results to stdout, all else to stderr."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from draftwood.errors import InvalidOption

_PIPED_WIDTH = 160
"""Columns of a table that goes to a file or pipe, where no terminal says how wide it is."""


def require_writable(path: Path) -> None:
    """Refuse an output file that cannot be written, before any long work.

    Raises:
        InvalidOption: what is in the way.
    """
    new = not path.exists()
    try:
        path.open("ab").close()  # an existing file stays as it is
        if new:
            path.unlink()
    except OSError as error:
        raise InvalidOption(
            f"cannot write {path} ({error.strerror or error}); name a file that can be written"
        ) from None


def results() -> Console:
    """The console of tables: stdout."""
    terminal = sys.stdout is not None and sys.stdout.isatty()  # None: it is closed
    return Console(width=None if terminal else _PIPED_WIDTH)


def messages() -> Console:
    """The console of progress and complaints: stderr."""
    return Console(stderr=True, highlight=False)


def complain(console: Console, text: str) -> None:
    """Print one line, as it is, above a running progress bar."""
    console.print(f"draftwood: {text}", markup=False, soft_wrap=True)


def progress_bar(console: Console) -> Progress:
    """A progress bar that vanishes when done and is silent where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
