"""Sends records to the log from a thread of its own; whoever publishes never waits."""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from draftwood.errors import LogUnreachable
from draftwood.share.envelope import Origin, packed_batch
from draftwood.share.log import TextLog
from draftwood.share.records import AnyRecord, TextRecord

log = logging.getLogger(__name__)

BATCH_RECORDS: Final = 256
BATCH_BYTES: Final = 384 * 1024
"""Of a batch before compression; brokers take messages of up to 1 MiB by default."""
FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0


@dataclass(slots=True)
class PublisherCounts:
    """Records: offered, confirmed by the log, dropped; errors: failed tries to send a batch."""

    offered: int = 0
    published: int = 0
    dropped: int = 0
    errors: int = 0
    bytes_sent: int = 0


class Publisher:
    """A bounded queue, and a thread that empties it.

    queue_bytes: of tokens that may wait; a record that finds no room is dropped, and counted.
    linger: seconds that a batch waits for more records. A batch is sent until the log has confirmed
    it, so that it may come twice, and never gets lost while the process lives.
    """

    def __init__(
        self,
        text_log: TextLog,
        origin: Origin,
        *,
        queue_bytes: int = 32 * 1024 * 1024,
        linger: float = 0.02,
    ) -> None:
        self.origin = origin
        self.counts = PublisherCounts()
        self._log = text_log
        self._queue: deque[AnyRecord] = deque()
        self._queue_bytes = queue_bytes
        self._held = 0  # bytes, those of the batch that is being sent included
        self._linger = linger
        self._number = 0
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="draftwood-publisher", daemon=True)
        self._thread.start()

    def offer(self, record: AnyRecord) -> bool:
        """Queue a record; False: there was no room, and it is dropped."""
        size = _bytes_of(record)
        with self._lock:
            self.counts.offered += 1
            if self._held + size > self._queue_bytes or self._closing.is_set():
                self.counts.dropped += 1
                return False
            self._held += size
            self._queue.append(record)
            self._work.notify()
        return True

    def withdraw(self, matches: Callable[[AnyRecord], bool]) -> int:
        """Take out records that were not sent yet; returns how many."""
        with self._lock:
            kept = [each for each in self._queue if not matches(each)]
            gone = len(self._queue) - len(kept)
            self._held -= sum(map(_bytes_of, self._queue)) - sum(map(_bytes_of, kept))
            self._queue = deque(kept)
            self._work.notify_all()
        return gone

    def flush(self, timeout: float) -> bool:
        """Wait until everything queued is confirmed; False: it was not in time."""
        until = monotonic() + timeout
        with self._lock:
            return self._work.wait_for(lambda: not self._held, max(0.0, until - monotonic()))

    @property
    def waiting(self) -> int:
        """Bytes of tokens that are not confirmed yet."""
        return self._held

    def close(self, timeout: float = 5.0) -> None:
        """Send what is left, for so many seconds at most, and end; the rest is dropped."""
        with self._lock:
            if self._closing.is_set():
                return
            self._deadline = monotonic() + timeout
            self._closing.set()
            self._work.notify_all()
        self._thread.join(timeout + 30.0)
        self._log.close()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._work.wait_for(lambda: self._queue or self._closing.is_set())
                if not self._queue:
                    return
            if self._linger and not self._closing.is_set():
                self._closing.wait(self._linger)
            batch, size = self._batch()
            if batch:
                sent = self._send(batch)
                with self._lock:
                    self._held -= size
                    if sent:
                        self.counts.published += len(batch)
                    else:
                        self.counts.dropped += len(batch)
                    self._work.notify_all()

    def _batch(self) -> tuple[list[AnyRecord], int]:
        batch: list[AnyRecord] = []
        size = 0
        with self._lock:
            while self._queue and len(batch) < BATCH_RECORDS:
                more = _bytes_of(self._queue[0])
                if batch and size + more > BATCH_BYTES:
                    break
                batch.append(self._queue.popleft())
                size += more
        return batch, size

    def _send(self, batch: list[AnyRecord]) -> bool:
        self._number += 1
        message = packed_batch(self.origin, self._number, batch)
        wait = FIRST_WAIT
        while True:
            try:
                self._log.append(message)
                self.counts.bytes_sent += len(message)
                return True
            except LogUnreachable as error:
                self.counts.errors += 1
                if wait == FIRST_WAIT:
                    log.warning("texts wait to be shared: %s", error)
            except Exception:
                self.counts.errors += 1
                log.exception("a batch cannot be shared and is dropped")
                return False
            wait = min(LONGEST_WAIT, wait * 2.0)
            pause = wait * (0.5 + random.random() / 2.0)
            if self._closing.is_set():
                if monotonic() + FIRST_WAIT >= self._deadline:
                    return False
                pause = FIRST_WAIT
                threading.Event().wait(pause)
            else:
                self._closing.wait(pause)


def _bytes_of(record: AnyRecord) -> int:
    if not isinstance(record, TextRecord):
        return 128
    sealed = 0 if record.sealed is None else len(record.sealed)
    return 128 + record.tokens.nbytes + record.context.nbytes + sealed
