"""What could not be read of a log: counted by its reason, and told in three lines."""

from __future__ import annotations

import re

_LINES = 3
_PLACES = 3
_VARYING = re.compile(r"\([^()]*\)|'[^']*'|\"[^\"]*\"|\d+")


class Unread:
    """Entries that are left out. total: how many."""

    def __init__(self) -> None:
        self.total = 0
        self._reasons: dict[str, _Reason] = {}

    def add(self, place: str, reason: str) -> None:
        """Count one entry; reasons that differ in numbers, names and brackets are one."""
        self.total += 1
        kind = _VARYING.sub("", reason)[:120]
        self._reasons.setdefault(kind, _Reason(reason)).add(place)

    def lines(self) -> list[str]:
        """At most three lines: the most frequent reasons with their first places."""
        found = sorted(self._reasons.values(), key=lambda each: -each.count)
        shown = found[:_LINES] if len(found) <= _LINES else found[: _LINES - 1]
        lines = [each.line() for each in shown]
        rest = found[len(shown) :]
        if rest:
            count = sum(each.count for each in rest)
            lines.append(
                f"{count:,} more entries are left out for {len(rest)} other reasons, such as: "
                f"{rest[0].places[0]}: {rest[0].reason}"
            )
        return lines


class _Reason:
    def __init__(self, reason: str) -> None:
        self.reason, self.count = reason, 0
        self.places: list[str] = []

    def add(self, place: str) -> None:
        self.count += 1
        if len(self.places) < _PLACES:
            self.places.append(place)

    def line(self) -> str:
        begin = f"{self.places[0]}: {self.reason}"
        if self.count == 1:
            return f"{begin}; this entry is left out"
        more = ", ".join(place.rpartition(":")[2] for place in self.places[1:])
        return f"{begin}; {self.count:,} such entries are left out (next at {more})"
