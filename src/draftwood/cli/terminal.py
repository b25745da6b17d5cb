"""Output of the commands: results to stdout, all else to stderr."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_PIPED_WIDTH = 160
"""Columns of a table that goes to a file or pipe, where no terminal says how wide it is."""


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
