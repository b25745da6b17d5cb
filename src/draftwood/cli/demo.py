"""`draftwood demo`: the bundled model answers agent traffic, plain and accelerated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from draftwood.errors import InvalidOption


def demo(
    drafter: Annotated[
        list[str] | None,
        typer.Option(
            help="A drafter spec, or chain, specinfer, gsd or blend of the bundled small model; "
            "repeatable. [recall, recall:cost=none, suffix linear and tree, lookup, and these four]"
        ),
    ] = None,
    requests: Annotated[int, typer.Option(help="Questions to answer, 4 to 5 calls each.")] = 40,
    max_tokens: Annotated[int, typer.Option(help="Tokens of one answer at most.")] = 96,
    seed: Annotated[int, typer.Option(help="The questions and databases to use.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads of the model.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the result to this file, such as out.svg.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Answer text-to-SQL requests with the bundled model: the same text in fewer steps."""
    for name, value in (("requests", requests), ("max-tokens", max_tokens), ("threads", threads)):
        if value < 1:
            raise InvalidOption(f"--{name} is {value}; give at least 1")
    if plot is not None:
        from draftwood.replay.chart import check_drawable

        check_drawable(plot)
    from draftwood.cli.terminal import messages, progress_bar, results
    from draftwood.demo.report import demo_table
    from draftwood.demo.run import DRAFTERS, load_demo, run_demo
    from draftwood.demo.workload import workload

    console = messages()
    with load_demo(threads=threads) as model, progress_bar(console) as bar:
        task = bar.add_task(f"{requests} requests", total=requests)
        result = run_demo(
            model,
            workload(seed, requests),
            drafter or DRAFTERS,
            max_tokens=max_tokens,
            progress=lambda done: bar.update(task, completed=done),
        )
    rows = [row.as_dict() for row in result]
    if as_json:
        print(json.dumps({"rows": rows, "requests": requests, "seed": seed, "threads": threads}))
    else:
        results().print(demo_table(rows, requests=requests, threads=threads))
    if plot is not None:
        from draftwood.demo.plot import plot_demo

        plot_demo(rows, plot)
    if any(row["equal_outputs"] < 1 for row in rows):
        console.print("draftwood: outputs differ from plain decoding; this is a bug: report it")
        raise typer.Exit(1)
