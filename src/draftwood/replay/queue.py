"""Recorded requests that wait to be served; the calls of one session go one at a time."""

from __future__ import annotations

from draftwood.logs.call import Record

_LOOK_AHEAD = 16
"""Waiting records for each request in flight: among these a session that is idle is looked for."""


class SessionQueue:
    """Records that wait for a place, in order; a session's call waits for the call before it.

    places: requests that may be in flight. room: records that may wait; with one place none do. A
    record without a session waits for no other record.
    """

    def __init__(self, places: int) -> None:
        self.room = _LOOK_AHEAD * places if places > 1 else 0
        self._records: list[Record] = []
        self._busy: set[str] = set()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """Put a record at the end."""
        self._records.append(record)

    def take(self) -> Record | None:
        """Remove and return the first record whose session is idle, and mark the session busy.

        None: the queue is empty, or the sessions of all records in it are busy.
        """
        for number, record in enumerate(self._records):
            if record.session is None:
                return self._records.pop(number)
            if record.session not in self._busy:
                self._busy.add(record.session)
                return self._records.pop(number)
        return None

    def done(self, record: Record) -> None:
        """Mark the session of a served record idle."""
        if record.session is not None:
            self._busy.discard(record.session)
