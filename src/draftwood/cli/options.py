"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from draftwood.cli.completion import complete_spec
from draftwood.errors import InvalidOption

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
ModelName = Annotated[
    str,
    typer.Option(
        help="A model folder, a .gguf file, a name on the Hugging Face Hub, or demo: the "
        "bundled model."
    ),
]
DrafterSpec = Annotated[
    str,
    typer.Option(
        help="A drafter spec, such as recall:nodes=16, lookup or none.",
        autocompletion=complete_spec,
    ),
]
DraftCost = Annotated[
    str,
    typer.Option(
        help="What a drafted token costs: auto (measured), none (drafts are not cut), or a "
        "part of a plain step, such as 0.01."
    ),
]
HistoryFile = Annotated[
    Path | None,
    typer.Option(help="Begin with this history, a file of `draftwood index build`."),
]
Engine = Annotated[
    str | None,
    typer.Option(
        help="What runs the model: transformers, llama.cpp (a .gguf file as it is), or onnx (a "
        "folder of ONNX Runtime GenAI). [transformers]"
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. [cuda if any]")]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16, float16, auto. [float32 on cpu]")
]
Share = Annotated[
    str | None,
    typer.Option(
        help="Share history with other replicas through this log (redis://HOST:PORT/0, "
        "nats://HOST:PORT, file:///FOLDER, ..), or as a JSON file of share options says."
    ),
]
ShareSecret = Annotated[
    str | None,
    typer.Option("--secret", help="A file with the secret of the namespaces' keys."),
]
Revision = Annotated[
    str | None, typer.Option(help="A branch, tag or commit of a model on the Hub.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
]


def with_history(drafter: str, history: Path) -> str:
    """The spec with a history file; a comma in a path cannot stand in a spec."""
    if "," in str(history):
        raise InvalidOption(f"--history {history} has a comma in it; rename the file")
    return f"{drafter}{',' if ':' in drafter else ':'}history={history}"


def cost_value(cost: str) -> Any:
    """As `load` takes it; it says itself what is wrong."""
    try:
        return float(cost)
    except ValueError:
        return cost
