"""Compaction: the log's texts, without what was forgotten or is too old, become a snapshot."""

from __future__ import annotations

import time
from dataclasses import dataclass

from draftwood.errors import BrokenRecord
from draftwood.share.envelope import unpacked_batch
from draftwood.share.log import LogMessage, TextLog
from draftwood.share.records import ForgetRecord, TextRecord
from draftwood.share.snapshot import SnapshotFolder, SnapshotTexts, text_tokens


@dataclass(frozen=True, slots=True)
class Retention:
    """What a snapshot keeps, and how long messages stay in the log after one.

    tokens: the newest so many. seconds: none that the log has had for longer. grace: seconds after
    which messages that a snapshot holds are trimmed from the log: longer than a follower is ever
    away, as one that comes later misses them.
    """

    tokens: int = 10_000_000
    seconds: float = 30 * 86_400.0
    grace: float = 86_400.0


def compacted(
    text_log: TextLog, folder: SnapshotFolder, fingerprint: bytes, retention: Retention
) -> dict[str, object]:
    """Bring the snapshot up to the log's end, and trim the log; returns the new manifest.

    Any number may do so at once: the last one counts.

    Raises:
        LogUnreachable: a log or storage that cannot be used now.
        HistoryError: a snapshot that cannot be used.
    """
    snapshot = folder.read()
    known = {record.digest for _, record in snapshot.texts}
    while messages := text_log.read(snapshot.position, 0.2):
        for message in messages:
            _add(snapshot, message, fingerprint, known)
            snapshot.position = message.position
    now = time.time()
    snapshot.texts = kept_texts(snapshot.texts, now, retention)
    snapshot.ends.append((now, snapshot.position))
    manifest = folder.write(snapshot)
    old = [place for when, place in snapshot.ends if when <= now - retention.grace]
    if old:
        text_log.trim(old[-1])
    return manifest


def kept_texts(
    texts: list[tuple[float, TextRecord]], now: float, retention: Retention
) -> list[tuple[float, TextRecord]]:
    """The newest texts within the retention, in order."""
    kept: list[tuple[float, TextRecord]] = []
    room = retention.tokens
    for when, record in reversed(texts):
        room -= text_tokens(record)
        if room < 0:
            break
        if when >= now - retention.seconds:
            kept.append((when, record))
    return kept[::-1]


def _add(
    snapshot: SnapshotTexts, message: LogMessage, fingerprint: bytes, known: set[bytes]
) -> None:
    try:
        batch = unpacked_batch(message.data)
    except BrokenRecord:
        return
    for record in batch.records:
        if isinstance(record, ForgetRecord):
            _forget(snapshot, record)
        elif isinstance(record, TextRecord) and batch.origin.fingerprint == fingerprint:
            digest = record.digest
            if digest not in known and record.sequence not in snapshot.forgotten:
                known.add(digest)
                snapshot.texts.append((message.time, record))


def _forget(snapshot: SnapshotTexts, order: ForgetRecord) -> None:
    snapshot.texts = [
        (when, record)
        for when, record in snapshot.texts
        if record.sequence != order.sequence and record.namespace != order.namespace
    ]
    if order.sequence is not None:
        snapshot.forgotten.append(order.sequence)
