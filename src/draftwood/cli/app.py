"""The `draftwood` command: one file for each subcommand."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from draftwood.cli.demo import demo
from draftwood.cli.generate import generate
from draftwood.cli.index import index
from draftwood.cli.replay import replay
from draftwood.errors import DraftwoodError

WRONG = 2
"""Exit code of everything that the user can mend."""

app = typer.Typer(
    name="draftwood",
    help="Generate the same text in fewer steps.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(generate)
app.command()(replay)
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
    """Run the command line: errors are one line on stderr and exit code 2."""
    try:
        app()
    except DraftwoodError as error:
        print(f"draftwood: {error}", file=sys.stderr)
        sys.exit(WRONG)
    except BrokenPipeError:  # whoever reads our output has seen enough
        sys.stderr.close()
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"draftwood: {what}; give a file that can be used", file=sys.stderr)
        sys.exit(WRONG)
