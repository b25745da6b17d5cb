"""Reads the log, and keeps what it may in Recall."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from draftwood.errors import BrokenRecord, InvalidTokens, LogUnreachable
from draftwood.index.recall import Recall
from draftwood.share.envelope import NewerSchema, Origin, unpacked_batch
from draftwood.share.following import FollowerCounts, Reading
from draftwood.share.ledger import LedgerEntry, TextLedger
from draftwood.share.log import LogMessage, TextLog
from draftwood.share.records import DoneRecord, ForgetRecord, TextRecord
from draftwood.share.sealing import unsealed_record
from draftwood.share.snapshot import SnapshotTexts

log = logging.getLogger(__name__)

PRUNE_EVERY: Final = 1000
"""Texts after which the ledger leaves out what the ring has overwritten."""
_DELAYS: Final = 10_000
FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0


@dataclass(slots=True)
class _Changes:
    """What one message brought, until the ledger has it."""

    position: str
    entries: dict[bytes, LedgerEntry] = field(default_factory=dict)
    forgotten: list[bytes] = field(default_factory=list)
    dropped: list[bytes] = field(default_factory=list)
    orders: list[DoneRecord] = field(default_factory=list)


def _nobody(_: TextRecord) -> int | None:
    return None


def _silent(_: Any) -> None:
    return None


class Follower:
    """Takes records from a log into Recall, in order, each once; with `start`, in a thread.

    own: the number in Recall of a text that this process published itself; None: it is another's.
    told: called with each tombstone before it is obeyed. done: called with the acknowledgment
    once it has been. Whatever stands in the log, it goes on: what cannot be used is counted.
    """

    def __init__(
        self,
        text_log: TextLog,
        recall: Recall,
        ledger: TextLedger,
        reading: Reading,
        *,
        host: str = "",
        own: Callable[[TextRecord], int | None] = _nobody,
        told: Callable[[ForgetRecord], Any] = _silent,
        done: Callable[[DoneRecord], Any] = _silent,
    ) -> None:
        self.counts = FollowerCounts()
        self.ledger = ledger
        self.recall = recall
        self.reading = reading
        self.host = host
        self.delays: deque[float] = deque(maxlen=_DELAYS)
        self._log = text_log
        self._own, self._told, self._done = own, told, done
        self._changes: _Changes | None = None
        self._generation = 0
        self._since_prune = 0
        self._said: set[str] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: Callable[[], None] | None = None

    def start(self, before: Callable[[], None] | None = None) -> None:
        """Follow in a thread, until `close`. before: what that thread does first."""
        self._before = before
        self._thread = threading.Thread(target=self._run, name="draftwood-follower", daemon=True)
        self._thread.start()

    def poll(self, wait: float = 0.5) -> int:
        """Read once; returns how many messages came.

        Raises:
            LogUnreachable: the log cannot be used now.
        """
        messages = self._log.read(self.ledger.position, wait)
        for message in messages:
            self._take(message)
            if self._stopping.is_set():
                break
        return len(messages)

    def begin_with(self, snapshot: SnapshotTexts, origin: Origin) -> None:
        """Take a snapshot's texts, and read the log from where it ends."""
        changes = self._changes = _Changes(snapshot.position, forgotten=list(snapshot.forgotten))
        for _, record in snapshot.texts:
            self._text(record, origin, changes)
            if self._stopping.is_set():
                return
        self._commit(changes)

    def catch_up(self) -> None:
        """Read until nothing comes.

        Raises:
            LogUnreachable: as `poll`.
        """
        while self.poll(0.05):
            pass

    def report(self) -> dict[str, Any]:
        """All counts, and the delay from a text's end until it was here, by both hosts' clocks."""
        delays = sorted(self.delays)
        p50, p99 = (
            delays[int(part * (len(delays) - 1))] if delays else None for part in (0.5, 0.99)
        )
        return asdict(self.counts) | {"delay_p50_s": p50, "delay_p99_s": p99}

    @property
    def behind(self) -> bool:
        """Whether Recall has something of a message that the ledger does not have yet."""
        return self._changes is not None

    def stop(self) -> None:
        """End the thread, after the message that it has begun."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """End the thread and let go of log and ledger; Recall stays open."""
        self.stop()
        self._log.close()
        self.ledger.close()

    def _run(self) -> None:
        wait = FIRST_WAIT
        if self._before is not None:
            self._before()
        while not self._stopping.is_set():
            try:
                self.poll()
                wait = FIRST_WAIT
            except LogUnreachable as error:
                self.counts.log_errors += 1
                self._say("log", f"texts of other hosts do not come: {error}")
                wait = self._pause(wait)
            except Exception:  # of Recall: its file was cut, for one
                self.counts.disk_errors += 1
                if "failure" not in self._said:
                    self._said.add("failure")
                    log.exception("a message cannot be taken; it is tried again")
                wait = self._pause(wait)

    def _pause(self, wait: float) -> float:
        self._stopping.wait(wait)
        return min(LONGEST_WAIT, 2.0 * wait)

    def _take(self, message: LogMessage) -> None:
        changes = self._changes  # of the same message, where it could not be taken before
        if changes is None or changes.position != message.position:
            changes = self._changes = _Changes(message.position)
        try:
            batch = unpacked_batch(message.data)
        except NewerSchema as error:
            self.counts.newer += 1
            self._say("newer", str(error))
        except BrokenRecord as error:
            self.counts.poison += 1
            self._say("poison", str(error))
        else:
            self.counts.unknown += batch.unknown
            self.counts.poison += batch.broken
            for record in batch.records:
                if isinstance(record, TextRecord):
                    self._text(record, batch.origin, changes)
                elif isinstance(record, ForgetRecord):
                    self._forget(record, changes)
        self._commit(changes)

    def _text(self, record: TextRecord, origin: Origin, changes: _Changes) -> None:
        reading, counts = self.reading, self.counts
        if origin.fingerprint != reading.fingerprint:
            counts.other_tokenizer += 1
            return
        self._generation = max(self._generation, origin.generation)
        oldest = reading.generations
        if oldest is not None and origin.generation < self._generation - oldest:
            counts.outdated += 1
            return
        name = reading.keys.local_name_of(record.namespace)
        if name is None:
            counts.unreadable += 1
            return
        digest = record.digest
        if digest in changes.entries or self.ledger.has(digest):
            counts.duplicates += 1
            return
        if self.ledger.is_forgotten(record.sequence):
            counts.forgotten += 1
            return
        before = self.recall.written
        number = self._own(record)
        if number is not None:
            counts.own += 1
        else:
            try:
                plain = unsealed_record(record, reading.keys)
                if plain is None:
                    counts.unreadable += 1
                    return
                if int(plain.tokens.max()) >= reading.vocab_size:
                    raise InvalidTokens("a token id beyond the vocabulary")
                number = self.recall.add(plain.tokens, context=plain.context, namespace=name)
            except (BrokenRecord, InvalidTokens) as error:
                counts.poison += 1
                self._say("poison", str(error))
                return
            counts.texts += 1
            counts.tokens += len(plain.tokens)
            self.delays.append(time.time() - record.time)
        changes.entries[digest] = LedgerEntry(
            digest, record.sequence, record.namespace, number, before
        )

    def _forget(self, record: ForgetRecord, changes: _Changes) -> None:
        if any(each.order == record.order for each in changes.orders):
            return
        self.counts.tombstones += 1
        self._told(record)
        removed = 0
        if record.sequence is not None:
            removed = self._remove_sequence(record.sequence, changes)
            changes.forgotten.append(record.sequence)
        elif record.namespace is not None:
            name = self.reading.keys.local_name_of(record.namespace)
            if name is not None:
                removed = self.recall.remove_namespace(name)
            changes.dropped.append(record.namespace)
            for digest, entry in list(changes.entries.items()):
                if entry.namespace == record.namespace:
                    del changes.entries[digest]
        self.counts.removed_tokens += removed
        changes.orders.append(DoneRecord(record.order, self.host, removed, time.time()))

    def _remove_sequence(self, sequence: bytes, changes: _Changes) -> int:
        numbers = set(self.ledger.numbers(sequence))
        for digest, entry in list(changes.entries.items()):
            if entry.sequence == sequence:
                numbers.add(entry.number)
                del changes.entries[digest]
        return sum(self.recall.remove(number) for number in numbers if number)

    def _commit(self, changes: _Changes) -> None:
        """Enter a message into the ledger; where its disk is full, again until there is room."""
        wait = FIRST_WAIT
        newest = max((each.number for each in changes.entries.values()), default=0)
        while True:
            try:
                if changes.orders:
                    self.recall.flush()  # what is removed is so on disk, before anybody is told
                self.ledger.commit(
                    changes.position,
                    changes.entries.values(),
                    forgotten=changes.forgotten,
                    dropped=changes.dropped,
                    newest=max(newest, self.ledger.newest),
                )
                break
            except (sqlite3.Error, OSError) as error:
                self.counts.disk_errors += 1
                self._say("disk", f"the ledger cannot be written ({error}); it is tried again")
                if self._stopping.is_set():
                    return
                wait = self._pause(wait)
        self.counts.messages += 1
        self._changes = None
        for each in changes.orders:
            self._done(each)
        self._since_prune += len(changes.entries)
        if self._since_prune >= PRUNE_EVERY:
            self._since_prune = 0
            try:
                self.ledger.prune(self.recall.written - self.recall.capacity)
            except sqlite3.Error:  # it is tried again later
                self.counts.disk_errors += 1

    def _say(self, kind: str, text: str) -> None:
        """Log a problem, once for each kind."""
        if kind not in self._said:
            self._said.add(kind)
            log.warning("%s", text)
