"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="For texts: a tokenizer.json, a model folder, a .gguf file, a tiktoken name such as "
        "o200k_base, or a Hub id."
    ),
]
LogFormat = Annotated[
    str | None,
    typer.Option("--format", help="The logs' format; `docs/log-formats.md`. [recognized]"),
]
Query = Annotated[
    str | None,
    typer.Option(help="SQL that gives the calls of a SQLite or DuckDB file, a row each."),
]
