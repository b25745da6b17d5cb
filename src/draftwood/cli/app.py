"""The `draftwood` command: one file for each subcommand."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Annotated, NoReturn

import typer

from draftwood.cli.advise import advise
from draftwood.cli.compact import compact
from draftwood.cli.completion import join_words
from draftwood.cli.demo import demo
from draftwood.cli.drafters import drafters
from draftwood.cli.follow import follow
from draftwood.cli.forget import forget
from draftwood.cli.generate import generate
from draftwood.cli.index import index
from draftwood.cli.measure import measure
from draftwood.cli.publish_events import publish_events
from draftwood.cli.replay import replay
from draftwood.cli.serve import serve
from draftwood.errors import DraftwoodError

WRONG = 2
"""Exit code of everything that the user can mend."""

app = typer.Typer(
    name="draftwood",
    help="Generate the same text in fewer steps.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(generate)
app.command()(replay)
app.command()(advise)
app.command()(measure)
app.command()(serve)
app.command()(follow)
app.command()(forget)
app.command()(compact)
app.command("publish-events")(publish_events)
app.command()(drafters)
app.add_typer(index)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"draftwood {version('draftwood')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line: errors are one line on stderr and exit code 2.

    Where the reader of standard output has gone away (`| head`), it ends quietly with exit code 1.
    """
    if sys.stderr is None or not sys.stderr.isatty():  # bars are for who watches
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of libraries, about themselves
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a character shows another
    join_words(os.environ)
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk is noticed here, and not when Python ends
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except DraftwoodError as error:
        _fail(str(error))
    except OSError as error:
        _drop_output()
        if error.filename is None:
            _fail(f"cannot write the output: {error.strerror}")
        _fail(f"{error.filename}: {error.strerror}; give a file that can be used")


def _fail(message: str) -> NoReturn:
    print(f"draftwood: {message}", file=sys.stderr)
    sys.exit(WRONG)


def _drop_output() -> None:
    """Discard what standard output still holds, so that Python does not try again at its end."""
    if sys.__stdout__ is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
