"""`draftwood replay`: what drafters would have gained on recorded requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftwood.cli.completion import complete_spec
from draftwood.cli.options import INTERRUPTED, LogFormat, Query, Tokenizer
from draftwood.errors import InvalidOption, MissingExtra, TraceError

if TYPE_CHECKING:
    from draftwood.budget.cost import VerifyCost


def replay(
    traces: Annotated[
        list[Path],
        typer.Argument(
            help="Logs in any format of docs/log-formats.md; files, folders, or - for stdin."
        ),
    ],
    drafter: Annotated[
        list[str] | None,
        typer.Option(
            help="A drafter spec, such as suffix:mode=tree; repeatable. [recall]",
            autocompletion=complete_spec,
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    limit_tokens: Annotated[
        int | None, typer.Option(help="Stop each trace after N output tokens.")
    ] = None,
    interleave: Annotated[
        int, typer.Option(help="Requests in flight at once, a step of each in turn.")
    ] = 1,
    batch: Annotated[
        int, typer.Option(help="Requests in flight that share each pass and its budget.")
    ] = 1,
    cost: Annotated[
        float | None,
        typer.Option(
            help="What each drafted token adds to a pass, as a part of a plain step, such as 0.01; "
            "predicts the speed-up, and is used for cost=auto in a drafter's spec."
        ),
    ] = None,
    cost_curve: Annotated[
        Path | None,
        typer.Option(
            help='The same from measured passes: JSON, {"points": [[0, 1.0], [16, 1.3]]}, drafted '
            'tokens and time in any unit; {"batches": {"1": [..], "16": [..]}} by batch size, '
            "where drafted tokens are those of the whole pass."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line instead of a table.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw tokens per step to this file, such as out.svg.")
    ] = None,
    form: LogFormat = None,
    query: Query = None,
) -> None:
    """Serve recorded requests again and count the steps that each drafter would have taken.

    History is empty at first and grows with every response, as it does in production.
    """
    from draftwood.cli.terminal import complain, messages, progress_bar, results
    from draftwood.drafters.catalog import make_priced_drafter
    from draftwood.logs.log import logs_of
    from draftwood.logs.tokenizer import TraceTokenizer
    from draftwood.replay.cost import spender_for
    from draftwood.replay.report import replay_table
    from draftwood.replay.run import replay_trace

    specs = drafter or ["recall"]
    price = _price(cost, cost_curve)
    for spec in specs:  # a wrong spec is found before any work is done
        spender_for(make_priced_drafter(spec), price, spec=spec)
    if plot is not None:
        from draftwood.replay.chart import check_drawable

        check_drawable(plot)
    text_tokenizer = None if tokenizer is None else TraceTokenizer.load(tokenizer)

    logs = logs_of(traces, text_tokenizer, format=form, query=query)
    console = messages()
    problems: list[str] = []

    def problem(text: str) -> None:
        problems.append(text)
        complain(console, text)

    rows: list[dict[str, Any]] = []
    interrupted = False
    with progress_bar(console) as bar:
        for log in logs:
            task = bar.add_task(log.name, total=1.0)
            priced = {spec: make_priced_drafter(spec) for spec in specs}
            try:
                new = replay_trace(
                    log,
                    {spec: each.drafter for spec, each in priced.items()},
                    spenders={spec: spender_for(each, price) for spec, each in priced.items()},
                    cost=price,
                    interleave=interleave,
                    batch=batch,
                    limit_tokens=limit_tokens,
                    progress=lambda done, task=task: bar.update(task, completed=done),  # type: ignore[misc]
                )
            except (TraceError, MissingExtra) as error:
                problem(str(error))
            except KeyboardInterrupt:
                done = len({row["path"] for row in rows})
                complain(console, f"interrupted after {done} of {len(logs)} traces")
                interrupted = True
                break
            else:
                for line in log.unread.lines():
                    problem(line)
                rows += new
                if as_json:
                    for row in new:
                        print(json.dumps(row), flush=True)
            bar.remove_task(task)
    if rows and not as_json:
        paper = results()
        paper.print(replay_table(rows, width=paper.width))
    if rows and plot is not None:
        from draftwood.replay.plot import plot_replay

        plot_replay(rows, plot)
    if interrupted or problems:
        raise typer.Exit(INTERRUPTED if interrupted else 2)


def _price(cost: float | None, curve: Path | None) -> VerifyCost | None:
    """What a pass takes, from the options."""
    from draftwood.budget.cost import CurveCost, LinearCost

    if cost is not None and curve is not None:
        raise InvalidOption("--cost and --cost-curve exclude each other; give one of them")
    if cost is not None and not 0.0 <= cost < float("inf"):
        raise InvalidOption(f"--cost is {cost}; use 0 or more, such as 0.01 of a plain step")
    if curve is not None:
        return CurveCost.read(curve)
    return None if cost is None else LinearCost(cost)
