"""`draftwood advise`: will it help my logs, and what is to be set?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draftwood.cli.completion import complete_spec
from draftwood.cli.options import INTERRUPTED, Engine, LogFormat, Query, Tokenizer
from draftwood.errors import InvalidOption, TraceError

if TYPE_CHECKING:
    from draftwood.advise.pricing import PricedBy

ASSUMED = "h100:8b"
"""The cost where none is given."""


def advise(
    logs: Annotated[
        list[Path],
        typer.Argument(
            help="Logs in any format of docs/log-formats.md; files, folders, or - for stdin."
        ),
    ],
    tokenizer: Tokenizer = None,
    form: LogFormat = None,
    query: Query = None,
    cost: Annotated[
        float | None,
        typer.Option(help="What a drafted token adds to a pass, as a part of a plain step."),
    ] = None,
    cost_curve: Annotated[
        Path | None, typer.Option(help="A file of `draftwood measure`, or as for replay.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="An estimate by machine and size: h100:8b, 2xh100:70b, l4:8b-int4, .."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Measure this model here first, as `draftwood measure` does.")
    ] = None,
    engine: Engine = None,
    batch: Annotated[
        int | None, typer.Option(help="Requests that share a pass. [what the log tells, or 1]")
    ] = None,
    drafter: Annotated[
        list[str] | None,
        typer.Option(
            help="A drafter spec to try as well; repeatable.", autocompletion=complete_spec
        ),
    ] = None,
    split_by: Annotated[
        list[str] | None,
        typer.Option(help="A field of the log to split by as well; repeatable."),
    ] = None,
    limit_tokens: Annotated[
        int,
        typer.Option(help="Serve whole sessions with N output tokens in all, from all of the log."),
    ] = 100_000,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out history, sharing and predictions.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of words.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a report to this file, for a browser.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the candidates to this file, such as out.svg.")
    ] = None,
) -> None:
    """Say what drafting would gain on recorded requests, and what to set.

    Ctrl-C ends the reading, or the trying: the advice is of what was done by then.
    """
    for name, value in (("batch", batch), ("limit-tokens", limit_tokens)):
        if value is not None and value < 1:
            raise InvalidOption(f"--{name} is {value}; give at least 1")
    from draftwood.advise.candidates import with_others
    from draftwood.cli.terminal import complain, messages, progress_bar, require_writable, results

    if html is not None:
        require_writable(html)
    if plot is not None:
        from draftwood.replay.chart import check_drawable

        check_drawable(plot)
    candidates = with_others(drafter or ())
    for each in candidates:
        _check(each.spec)
    priced = priced_by(cost, cost_curve, preset, model, engine)
    from draftwood.advise.run import advise as advice_for
    from draftwood.advise.words import as_json as json_of
    from draftwood.advise.words import (
        candidate_table,
        chosen_text,
        settings_text,
        split_table,
        verdict_text,
    )
    from draftwood.logs.log import Log
    from draftwood.logs.tokenizer import TraceTokenizer

    words = None if tokenizer is None else TraceTokenizer.load(tokenizer)
    log = Log(logs, words, format=form, query=query)
    console = messages()
    with progress_bar(console) as bar:
        task = bar.add_task("reading", total=1.0)
        try:
            sample = log.sample(
                limit_tokens, progress=lambda part: bar.update(task, completed=part)
            )
        except TraceError:  # which says less than what was left out
            for line in log.unread.lines():
                complain(console, line)
            raise
        records = sample.records
        if sample.interrupted:
            part = f" at {sample.read:.0%} of the log" if sample.read else ""
            complain(console, f"interrupted while reading{part}; this is of the calls until there")
        for line in log.unread.lines():
            complain(console, line)
        size = batch or max(1, round(log.in_flight.mean))
        try:
            advice = advice_for(
                records,
                priced,
                batch=size,
                candidates=candidates,
                fields=split_by or (),
                more=not quick,
                progress=lambda what, part: bar.update(task, description=what[:40], completed=part),
            )
        except KeyboardInterrupt:
            complain(console, f"interrupted: {len(records):,} requests are read, nothing is tried")
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print(json.dumps(json_of(advice, form=log.format, unread=log.unread.total)))
    else:
        paper = results()
        sentence = verdict_text(advice)
        paper.print(sentence, style="bold" if advice.verdict == "gain" else "", highlight=False)
        named = ", ".join(name for name, _ in log.formats.most_common(4))
        tokens = sum(len(each.response) for each in records)
        flight = f"{log.in_flight.mean:.1f} in flight on average, " if log.in_flight.mean else ""
        paper.print(
            f"{len(records):,} requests ({named}){chosen_text(sample)}; {tokens:,} "
            f"output tokens, {flight}{log.unread.total:,} entries unread.",
            highlight=False,
        )
        paper.print(candidate_table(advice))
        if advice.splits:
            paper.print(split_table(advice))
        if text := settings_text(advice):
            print(text)
    if html is not None:
        from draftwood.advise.report import report_page

        page = report_page(advice, log, words, chosen=chosen_text(sample))
        html.write_text(page, encoding="utf-8")
        complain(console, f"{html}: written")
    if plot is not None:
        from draftwood.advise.plot import plot_advice

        plot_advice(advice, plot)
    if advice.interrupted:
        complain(console, f"interrupted after {len(advice.tried)} of {len(candidates)} settings")
    if advice.interrupted or sample.interrupted:
        raise typer.Exit(INTERRUPTED)
    if log.unread.total:
        raise typer.Exit(2)


def priced_by(
    cost: float | None,
    curve: Path | None,
    preset: str | None,
    model: str | None,
    engine: str | None = None,
) -> PricedBy:
    """The cost that the options name.

    Raises:
        InvalidOption: more than one, or one that is none.
    """
    from draftwood.advise.pricing import PricedBy
    from draftwood.budget.cost import CurveCost, LinearCost
    from draftwood.budget.roofline import RooflineCost

    names = ("--cost", "--cost-curve", "--preset", "--model")
    given = [
        name
        for name, value in zip(names, (cost, curve, preset, model), strict=True)
        if value is not None
    ]
    if len(given) > 1:
        raise InvalidOption(f"{given[0]} and {given[1]} exclude each other; give one of them")
    if engine is not None and model is None:
        raise InvalidOption(f"--engine is {engine!r} and no --model is to be measured; give both")
    if cost is not None:
        if not 0.0 <= cost < float("inf"):
            raise InvalidOption(f"--cost is {cost}; use 0 or more, such as 0.01 of a plain step")
        return PricedBy(LinearCost(cost), "linear", f"{cost:g}")
    if curve is not None:
        return PricedBy(CurveCost.read(curve), "curve", curve.name)
    if model is not None:
        from draftwood.advise.measuring import measured_model

        return PricedBy(
            measured_model(model, engine=engine).cost(), "measured", f"curve of {model}"
        )
    name = preset or ASSUMED
    return PricedBy(RooflineCost.preset(name), "preset", name, assumed=preset is None)


def _check(spec: str) -> None:
    """Refuse a wrong spec before anything is read."""
    from draftwood.drafters.catalog import make_priced_drafter

    make_priced_drafter(spec)
