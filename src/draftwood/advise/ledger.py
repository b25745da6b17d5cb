"""What each request took: simulated time with drafts and without, request by request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from draftwood.logs.call import Record
from draftwood.replay.cost import Clock
from draftwood.step import Step

Values = NDArray[np.float64]


@dataclass(slots=True)
class RequestTimes:
    """One request: tokens and steps, time without drafts, and its share of passes with them."""

    tokens: int = 0
    steps: int = 0
    plain: float = 0.0
    drafted: float = 0.0


@dataclass(slots=True)
class Ledger:
    """Accounts by the request's number. sources: accepted tokens by the source that drafted them.

    followed: numbers of requests whose tokens are kept with their sources, in `texts`; a source of
    -1 is the target itself.
    """

    accounts: dict[int, RequestTimes] = field(default_factory=dict)
    sources: Counter[int] = field(default_factory=Counter)
    followed: frozenset[int] = frozenset()
    texts: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, step: Step, record: Record, clock: Clock | None) -> None:
        """Count one step; what `replay` calls as its `watch`."""
        account = self.accounts.setdefault(record.number, RequestTimes())
        account.tokens += len(step.tokens)
        account.steps += 1
        if clock is not None:
            account.plain += len(step.tokens) * clock.plain_token
            account.drafted += clock.share
        path = step.verdict.path
        drafted = [int(each) for each in step.draft.source[path]] if len(path) else []
        self.sources.update(drafted)
        if record.number in self.followed:
            told = self.texts.setdefault(record.number, [])
            sources = [*drafted, -1, -1][: len(step.tokens)]
            told += zip(step.tokens.tolist(), sources, strict=True)

    def times(self, records: list[Record]) -> tuple[Values, Values]:
        """float64 [records]: seconds without drafts and with them; 0 where there is no step."""
        found = [self.accounts.get(each.number, RequestTimes()) for each in records]
        return (
            np.array([each.plain for each in found]),
            np.array([each.drafted for each in found]),
        )
