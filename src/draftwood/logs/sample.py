"""A fair sample of a log: whole sessions, in neighborhoods that are spread over all of it."""

from __future__ import annotations

import heapq
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from draftwood.logs.call import LoggedCall, Record

_STRETCHES: Final = 16
"""Neighborhoods that a full sample has, about."""
_REMEMBERED: Final = 1 << 17
"""Sessions outside the sample whose later calls are known to belong to them."""
_BYTES: Final = 4
"""Of a token of text, about: texts are not tokenized before they are chosen."""
_MIX: Final = 0x9E3779B97F4A7C15


@dataclass(slots=True)
class _Stretch:
    """Sessions that begin one after the other."""

    number: int
    tokens: int = 0
    calls: list[tuple[int, LoggedCall]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Records of a log, in its order. of: the calls of the log that were read for it.

    stretches: neighborhoods of the log that it comes from; 1: it is all that was read. interrupted:
    the reading was ended before the log did. read: the part of the log's bytes that was read.
    """

    records: list[Record]
    of: int
    stretches: int = 1
    interrupted: bool = False
    read: float = 1.0


class SessionSample:
    """Keeps calls with about so many output tokens in all, chosen while a log is read once.

    Sessions that begin one after the other make a stretch; each stretch gets a fixed random number,
    and those with the smallest are kept while they fit. So every part of the log has the same
    chance however long it is, sessions are whole, and what repeats between neighbors repeats in the
    sample as well: single sessions picked far apart would hide that. A log that fits is kept whole;
    of a single stretch that does not fit, the first calls are.

    seen: calls that were looked at. full: whether any with an answer were left out. stretches: how
    many are kept.
    """

    def __init__(self, tokens: int) -> None:
        self.seen, self.full = 0, False
        self._most = tokens
        self._enough = max(1, tokens // _STRETCHES)
        self._kept: dict[int, _Stretch] = {}
        self._order: list[tuple[int, int]] = []  # (minus its random number, stretch)
        self._of_kept: dict[str, int] = {}
        self._of_others: OrderedDict[str, int] = OrderedDict()
        self._tokens = 0
        self._last = _Stretch(-1, tokens=self._enough)
        self._limit = 1 << 64

    @property
    def stretches(self) -> int:
        """Neighborhoods that are kept."""
        return len(self._kept)

    def add(self, call: LoggedCall) -> None:
        """Look at the next call of the log."""
        number, self.seen = self.seen, self.seen + 1
        size = _tokens(call)
        if not size:
            return
        name = call.session if call.session is not None else f"~{number}"
        of = self._of_kept.get(name, self._of_others.get(name))
        stretch = self._kept.get(self._begun(name) if of is None else of)
        if stretch is None:
            self.full = True
            if of is None or of == self._last.number:
                self._last.tokens += size
            return
        if self._tokens + size > self._most and len(self._kept) == 1 and stretch.calls:
            self.full = True
            return
        stretch.calls.append((number, call))
        stretch.tokens += size
        self._tokens += size
        while self._tokens > self._most and len(self._kept) > 1:
            self._drop()  # maybe the last one: its later sessions are left out, too

    def calls(self) -> list[LoggedCall]:
        """The calls that are kept, in the log's order."""
        found = [each for stretch in self._kept.values() for each in stretch.calls]
        return [call for _, call in sorted(found, key=lambda each: each[0])]

    def _begun(self, name: str) -> int:
        """The stretch of a session that begins now."""
        if self._last.tokens >= self._enough:
            self._last = _Stretch(self._last.number + 1)
            chance = _random(self._last.number)
            if chance < self._limit:
                self._kept[self._last.number] = self._last
                heapq.heappush(self._order, (-chance, self._last.number))
        number = self._last.number
        if number in self._kept:
            self._of_kept[name] = number
        else:
            self._forget(name, number)
        return number

    def _drop(self) -> None:
        """Give up the stretch with the largest random number, and all later ones above it."""
        self.full = True
        chance, number = heapq.heappop(self._order)
        self._limit = -chance
        dropped = self._kept.pop(number)
        self._tokens -= dropped.tokens
        for name in [name for name, of in self._of_kept.items() if of == number]:
            del self._of_kept[name]
            self._forget(name, number)

    def _forget(self, name: str, number: int) -> None:
        self._of_others[name] = number
        if len(self._of_others) > _REMEMBERED:
            self._of_others.popitem(last=False)


def _random(number: int) -> int:
    """A fixed random number below 2^64 for a stretch (splitmix64; Steele, Lea and Flood, 2014)."""
    mixed = (number + 1) * _MIX % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ mixed >> shift) * factor % 2**64
    return mixed ^ mixed >> 31


def _tokens(call: LoggedCall) -> int:
    """Output tokens of a call, about; 0: it has no answer."""
    answer = call.response
    if isinstance(answer, str):
        return -(-len(answer) // _BYTES)
    if not isinstance(answer, Mapping):
        return len(answer)
    size = len(answer.get("content") or "") + len(answer.get("reasoning_content") or "")
    if answer.get("tool_calls"):
        size += len(json.dumps(answer["tool_calls"], default=str))
    return -(-size // _BYTES)
