"""The report: one HTML file that asks nothing of any network."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from draftwood.advise.bars import cost_line, interval_bars
from draftwood.advise.run import Advice
from draftwood.advise.settings import settings_of
from draftwood.advise.words import verdict_text
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer
from draftwood.sources import source_of

_EXAMPLES = 3
_EXAMPLE_TOKENS = 400
_STYLE = Path(__file__).with_name("report.css")


def report_page(advice: Advice, log: Log, words: TraceTokenizer | None, *, chosen: str = "") -> str:
    """The page: verdict, curves, splits, examples with tokens by source, settings to paste.

    words: to show examples as text; None: as token ids. chosen: how the requests were chosen from
    the log, as `chosen_text` says it.
    """
    sections = (*_about(advice, log, chosen), *_tried(advice), *_cost(advice), *_splits(advice))
    body = "".join((*sections, *_settings(advice), *_examples(advice, words)))
    style = _STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Draftwood: {escape(log.name)}</title><style>{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _about(advice: Advice, log: Log, chosen: str) -> Iterator[str]:
    yield f"<h1>{escape(verdict_text(advice))}</h1>"
    tokens = sum(len(each.response) for each in advice.records)
    flight = f"; {log.in_flight.mean:.1f} were in flight on average" if log.in_flight.mean else ""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield (
        f'<p class="about">{escape(log.name)}: {len(advice.records):,} requests of the format '
        f"{escape(str(log.format))}{escape(chosen)}; {tokens:,} output tokens{flight}. "
        f"{log.unread.total:,} entries could not be read. History was empty at first and grew "
        "with every answer. "
        f"{now}.</p>"
    )


def _tried(advice: Advice) -> Iterator[str]:
    rows = [(e.candidate.spec, e.gain.speedup, e.gain.low, e.gain.high) for e in advice.tried]
    title = f"Predicted speed-up at batch {advice.batch}, with 95 % intervals over sessions"
    yield f"<h2>What was tried</h2><figure>{interval_bars(rows, title=title)}"
    yield f"<figcaption>{title}; {escape(str(advice.priced))}.</figcaption></figure>"


def _cost(advice: Advice) -> Iterator[str]:
    found = advice.priced.as_dict(advice.batch)
    title = f"Time of a pass at batch {advice.batch}, a plain pass being 1"
    yield f"<h2>What a drafted token costs</h2><figure>{cost_line(found['steps'], title=title)}"
    yield f"<figcaption>{title}; {escape(str(advice.priced))}.</figcaption></figure>"


def _splits(advice: Advice) -> Iterator[str]:
    for by, rows in groupby(advice.splits, key=lambda row: row["by"]):
        name = escape(str(by))
        yield f"<h2>By {name}</h2><div class='wide'><table><tr><th>{name}</th>"
        yield "<th>requests</th><th>speed-up</th><th>95 %</th><th>of the gain</th></tr>"
        for row in rows:
            yield _split_row(row)
        yield "</table></div>"


def _split_row(row: dict[str, Any]) -> str:
    return (
        f"<tr><td>{escape(str(row['value']))}</td><td>{row['requests']:,}</td>"
        f"<td>{row['speedup']:.2f}x</td><td>{row['low']:.2f}-{row['high']:.2f}</td>"
        f"<td>{row['share_of_gain']:.0%}</td></tr>"
    )


def _settings(advice: Advice) -> Iterator[str]:
    found = list(settings_of(advice))
    if not found:
        return
    yield "<h2>Settings</h2>"
    for each in found:
        yield f"<p>{escape(each.title)}: {each.gains.gain.speedup:.2f}x</p>"
        yield f"<pre>{escape(each.text)}</pre>"


def _examples(advice: Advice, words: TraceTokenizer | None) -> Iterator[str]:
    ledger = advice.best.ledger
    plain, drafted = ledger.times(advice.records)
    saved = {each.number: at for at, each in enumerate(advice.records)}
    told = sorted(ledger.texts, key=lambda n: -(plain - drafted)[saved[n]])[:_EXAMPLES]
    if not told or not np.any(plain > drafted):
        return
    yield (
        '<h2>Examples</h2><p class="key about">Drafted from: <span class="own">the request itself'
        '</span><span class="shared">shared history</span><span class="other">others</span>'
        "no color: the model's own token</p>"
    )
    for number in told:
        pairs = ledger.texts[number][:_EXAMPLE_TOKENS]
        ids = [token for token, _ in pairs]
        pieces = [f"{each} " for each in ids] if words is None else words.pieces(ids)
        account = ledger.accounts[number]
        yield (
            f'<p class="about">{account.tokens:,} tokens in {account.steps:,} steps, '
            f"{account.plain / account.drafted:.2f}x</p>"
        )
        spans = groupby(zip(pieces, (source for _, source in pairs), strict=True), lambda e: e[1])
        yield '<pre class="text">' + "".join(
            _span("".join(piece for piece, _ in group), source) for source, group in spans
        )
        yield "</pre>"


def _span(text: str, source: int) -> str:
    if source < 0:
        return escape(text)
    kind = source_of(source).kind
    name = {"own text": "own", "shared history": "shared"}.get(kind, "other")
    return f'<span class="{name}" title="{escape(str(source_of(source)))}">{escape(text)}</span>'
