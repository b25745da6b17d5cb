"""Advice: the log's requests served again with each candidate, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from draftwood.advise.candidates import CANDIDATES, Candidate
from draftwood.advise.interval import GainInterval, gain_of, units
from draftwood.advise.ledger import Ledger
from draftwood.advise.pricing import PricedBy
from draftwood.advise.splits import splits_of
from draftwood.draft import TokenIds
from draftwood.drafters.catalog import make_priced_drafter
from draftwood.logs.call import Record
from draftwood.replay.cost import spender_for
from draftwood.replay.figures import Figures
from draftwood.replay.run import replay

_FOLLOWED = 48
"""Requests whose tokens are kept with their sources, for examples."""
_KEPT = (16_384, 65_536, 262_144)
"""Sizes of history that are tried, in tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """One candidate on the sample."""

    candidate: Candidate
    gain: GainInterval
    figures: Figures
    ledger: Ledger

    def as_dict(self) -> dict[str, Any]:
        """The row of `advise --json`."""
        row = self.figures.as_dict()
        kept = ("tokens_per_step", "drafted_per_step", "acceptance_rate", "draft_us_p50")
        return {
            "spec": self.candidate.spec,
            "engines": list(self.candidate.engines),
            "speedup": self.gain.speedup,
            "low": self.gain.low,
            "high": self.gain.high,
            **{name: row[name] for name in kept},
        }


@dataclass(slots=True, eq=False)
class Advice:
    """What to set, what it gains and how sure that is.

    tried: all candidates, the best first. splits: rows of `splits_of`, and of what else was tried
    (history, sharing, predictions). idle: the share of requests that gain nothing. interrupted: not
    all candidates were tried.
    """

    records: list[Record]
    priced: PricedBy
    batch: int
    tried: list[Tried]
    splits: list[dict[str, Any]] = field(default_factory=list)
    idle: float = 0.0
    interrupted: bool = False

    @property
    def best(self) -> Tried:
        """The candidate with the largest gain."""
        return self.tried[0]

    @property
    def verdict(self) -> str:
        """gain: the whole interval is above 1; loss: below; unclear: neither."""
        gain = self.best.gain
        if gain.low > 1.005:
            return "gain"
        return "loss" if gain.high < 0.995 else "unclear"

    def best_for(self, engine: str) -> Tried | None:
        """The best candidate that an engine can run; None where it can run none."""
        return next((each for each in self.tried if engine in each.candidate.engines), None)


def advise(
    records: Sequence[Record],
    priced: PricedBy,
    *,
    batch: int = 1,
    candidates: Sequence[Candidate] = CANDIDATES,
    fields: Sequence[str] = (),
    more: bool = True,
    progress: Callable[[str, float], None] | None = None,
) -> Advice:
    """Replay `records` with each candidate at a batch size and a cost.

    fields: of the log, to split by besides the usual ones. more: also try less history, sharing
    by namespace and predicted answers. progress: told what is tried, and the part that is done.

    Ctrl-C ends the trying: what was finished is the advice; with nothing finished it is raised.
    """
    requests = list(records)
    unit = units(requests)
    places = np.linspace(0, len(requests) - 1, min(_FOLLOWED, len(requests))).astype(int)
    followed = frozenset(requests[at].number for at in places)
    trying = _Trying(requests, priced, batch, unit, followed, progress)
    tried: list[Tried] = []
    interrupted = False
    try:
        for at, candidate in enumerate(candidates):
            tried.append(trying.tried(candidate, at, len(candidates)))
    except KeyboardInterrupt:
        if not tried:
            raise
        interrupted = True
    tried.sort(key=lambda each: -each.gain.speedup)
    advice = Advice(requests, priced, batch, tried, interrupted=interrupted)
    plain, drafted = advice.best.ledger.times(requests)
    advice.idle = float(np.mean(drafted >= plain * 0.9999))
    advice.splits = splits_of(requests, plain, drafted, unit, fields)
    if more and not interrupted and advice.verdict == "gain":
        advice.splits += _variants(trying, advice)
    return advice


class _Trying:
    def __init__(
        self,
        records: list[Record],
        priced: PricedBy,
        batch: int,
        unit: Any,
        followed: frozenset[int],
        progress: Callable[[str, float], None] | None,
    ) -> None:
        self.records, self.priced, self.batch = records, priced, batch
        self.unit, self.followed = unit, followed
        self._progress = progress
        self._total = sum(len(each.response) for each in records)

    def tried(
        self,
        candidate: Candidate,
        at: int,
        of: int,
        *,
        records: Sequence[Record] | None = None,
        title: str = "",
    ) -> Tried:
        """The candidate on the sample, or on records with the same texts."""
        made = make_priced_drafter(candidate.spec)
        ledger = Ledger(followed=self.followed)

        def told(tokens: int) -> None:
            if self._progress is not None:
                self._progress(title or candidate.spec, (at + tokens / self._total) / of)

        figures = replay(
            self.records if records is None else records,
            {candidate.spec: made.drafter},
            spenders={candidate.spec: spender_for(made, self.priced.cost, spec=candidate.spec)},
            cost=self.priced.cost,
            batch=self.batch,
            progress=told,
            watch=ledger.add,
        )[candidate.spec]
        plain, drafted = ledger.times(self.records)
        return Tried(candidate, gain_of(plain, drafted, self.unit), figures, ledger)


def _variants(trying: _Trying, advice: Advice) -> list[dict[str, Any]]:
    """Rows of what the best candidate gains with less history, apart by user, and predicted."""
    best, records = advice.best.candidate, advice.records
    name = best.spec.partition(":")[0]
    tokens = sum(len(each.response) for each in records)
    rows = []

    def add(by: str, value: str, spec: str, given: Sequence[Record] | None = None) -> None:
        title = f"{by}: {value}"
        found = trying.tried(replace(best, spec=spec), 0, 1, records=given, title=title)
        rows.append(_row(by, value, records, found.gain))

    try:
        if name in ("recall", "suffix"):
            joint = "," if ":" in best.spec else ":"
            for kept in _KEPT:
                if kept < tokens:
                    add("history", f"{kept:,} tokens", f"{best.spec}{joint}max_tokens={kept}")
            if rows:
                rows.append(_row("history", "all", records, advice.best.gain))
        users = {each.fields.get("user") for each in records}
        if len(users) > 1:
            rows.append(_row("sharing", "all users together", records, advice.best.gain))
            apart = [replace(each, namespace=each.fields.get("user", "")) for each in records]
            add("sharing", "each user alone", best.spec, apart)
        predicted = _predicted(records)
        if predicted:
            rows.append(_row("prediction", "none", records, advice.best.gain))
            add("prediction", "the session's answer before", best.spec, predicted)
    except KeyboardInterrupt:
        pass  # the advice itself is whole
    return rows


def _predicted(records: Sequence[Record]) -> list[Record]:
    """Each request with its session's answer before as its predicted answer; empty: none has."""
    last: dict[str, TokenIds] = {}
    found = []
    for each in records:
        before = last.get(each.session) if each.session is not None else None
        found.append(each if before is None else replace(each, prediction=(before,)))
        if each.session is not None:
            last[each.session] = each.response
    return found if any(each.prediction for each in found) else []


def _row(by: str, value: str, records: Sequence[Record], gain: GainInterval) -> dict[str, Any]:
    return {
        "by": by,
        "value": value,
        "requests": len(records),
        "tokens": int(sum(len(each.response) for each in records)),
        "speedup": gain.speedup,
        "low": gain.low,
        "high": gain.high,
        "share_of_gain": 1.0,
    }
