"""`draftwood replay`: recorded outputs, served again through each drafter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from draftwood.errors import MissingExtra, TraceError


def replay(
    traces: Annotated[list[Path], typer.Argument(help="JSONL files, also .gz or .zst.")],
    drafter: Annotated[
        list[str] | None,
        typer.Option(help="A drafter spec, such as suffix:mode=tree; repeatable. [suffix]"),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="For texts: a tokenizer.json or a model folder.")
    ] = None,
    limit_tokens: Annotated[
        int | None, typer.Option(help="Stop each trace after so many output tokens.")
    ] = None,
    interleave: Annotated[int, typer.Option(help="Requests in flight at once.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line instead of a table.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw tokens per step to this file, such as out.svg.")
    ] = None,
) -> None:
    """Replay recorded outputs as if they were served now, history growing online."""
    from draftwood.cli.terminal import complain, messages, progress_bar, results
    from draftwood.drafters.catalog import make_drafter
    from draftwood.replay.report import replay_table
    from draftwood.replay.run import replay_trace
    from draftwood.replay.tokenizer import TraceTokenizer
    from draftwood.replay.trace import Trace

    specs = drafter or ["suffix"]
    for spec in specs:
        make_drafter(spec)  # a wrong spec is found before any work is done
    if plot is not None:
        from draftwood.plot import plot_replay, require_matplotlib

        require_matplotlib()
    text_tokenizer = None if tokenizer is None else TraceTokenizer.load(tokenizer)

    console = messages()
    problems: list[str] = []

    def problem(text: str) -> None:
        problems.append(text)
        complain(console, text)

    rows: list[dict[str, Any]] = []
    with progress_bar(console) as bar:
        for path in traces:
            task = bar.add_task(path.name, total=1.0)
            trace = Trace(path, text_tokenizer, problem=problem)
            try:
                new = replay_trace(
                    trace,
                    {spec: make_drafter(spec) for spec in specs},
                    interleave=interleave,
                    limit_tokens=limit_tokens,
                    progress=lambda done, task=task: bar.update(task, completed=done),  # type: ignore[misc]
                )
            except (TraceError, MissingExtra) as error:
                problem(str(error))
            else:
                rows += new
                if as_json:
                    for row in new:
                        print(json.dumps(row), flush=True)
            bar.remove_task(task)
    if rows and not as_json:
        paper = results()
        paper.print(replay_table(rows, width=paper.width))
    if rows and plot is not None:
        plot_replay(rows, plot)
    if problems:
        raise typer.Exit(2)
