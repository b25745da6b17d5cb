"""Finds the format of entry after entry, in what wraps them as well."""

from __future__ import annotations

from draftwood.errors import TraceError
from draftwood.logs.documents import embedded
from draftwood.logs.format import Entry, Format
from draftwood.logs.formats.catalog import format_named, recognized
from draftwood.logs.messages import decoded

_MOST_KEYS = 256


class Recognizer:
    """The formats of a log's entries. format: the name of the one that all have; None: any.

    Raises:
        InvalidOption: no such format.
    """

    def __init__(self, format: str | None = None) -> None:
        self._format = None if format is None else format_named(format)
        self._by_keys: dict[tuple[str, ...], Format] = {}

    def found(self, entry: Entry) -> tuple[Format, Entry]:
        """The format of an entry, and the entry itself or the one that it wraps.

        Raises:
            TraceError: no format recognizes it.
        """
        if "line" in entry and len(entry) == 1:
            entry = in_line(entry)
        if self._format is not None:
            return self._format, entry
        try:
            return self._known(entry), entry
        except TraceError:
            inner = wrapped(entry)
            if inner is None:
                raise
            return self._known(inner), inner

    def _known(self, entry: Entry) -> Format:
        """The format of an entry; that of an entry with the same keys is tried first."""
        keys = tuple(entry)
        before = self._by_keys.get(keys)
        if before is not None and before.recognizes(entry):
            return before
        if len(self._by_keys) >= _MOST_KEYS:
            self._by_keys.clear()
        found = self._by_keys[keys] = recognized(entry)
        return found


def in_line(entry: Entry) -> Entry:
    """The call that a line of a program's log holds as JSON; the line itself where it has none."""
    found = embedded(entry["line"])
    try:
        return entry if found is None or not recognized(found) else found
    except TraceError:
        return entry


def wrapped(entry: Entry) -> Entry | None:
    """The entry of a known format that another one wraps, as collectors of logs do; None: none.

    What the outer one says in a word or a number, such as a time, counts for the inner one.
    """
    for value in entry.values():
        inner = embedded(value) if isinstance(value, str) and "{" in value else decoded(value)
        if not isinstance(inner, dict):
            continue
        try:
            recognized(inner)
        except TraceError:
            continue
        outer = {
            name: each
            for name, each in entry.items()
            if each is not value and isinstance(each, str | int | float)
        }
        return {**outer, **inner}
    return None
