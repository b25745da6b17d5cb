"""A process that shares: what its requests finish goes out, what others finish comes in."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from draftwood.drafters.history_listener import FinishedText
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import DraftwoodError, InvalidOption
from draftwood.fork import fork_lock
from draftwood.index.fingerprint import UNKNOWN, vocab_fingerprint
from draftwood.index.recall import Recall
from draftwood.protocols import Composed, Drafter, TargetInfo
from draftwood.share.envelope import Origin
from draftwood.share.follower import Follower
from draftwood.share.following import Reading
from draftwood.share.keys import ID_BYTES, NamespaceKeys
from draftwood.share.ledger import TextLedger
from draftwood.share.log import BEGINNING, open_log
from draftwood.share.options import ShareOptions
from draftwood.share.publisher import Publisher
from draftwood.share.records import CONTEXT_TOKENS, PART_TOKENS, AnyRecord, ForgetRecord, TextRecord
from draftwood.share.sealing import sealed_record
from draftwood.share.settled import ledger_of, sequences_in, settle
from draftwood.share.snapshot import SnapshotFolder

log = logging.getLogger(__name__)

_OWN_MOST: Final = 100_000
"""Texts of this process that are waited for in the log, to be known by their numbers."""


class Replica:
    """One process's part in sharing. Thread-safe; in a child of fork() it does nothing.

        replica = Replica(ShareOptions("redis://broker:6379/0"), recall, fingerprint=...)
        replica.finished(FinishedText(context, tokens, "tenant-a", number))
        replica.close()

    recall: this process's history, to which others' texts are added. fingerprint: of the tokenizer,
    32 bytes. path: of the history's file; how far the log was read is then kept beside it, and what
    stands in the file and not there, as the process was killed, is read again.

    Raises:
        InvalidOption, MissingExtra: options that cannot be used.
        HistoryError: a ledger or a snapshot that cannot be used.
    """

    def __init__(
        self,
        options: ShareOptions,
        recall: Recall,
        *,
        fingerprint: bytes,
        model: str = "",
        vocab_size: int = 2**31 - 1,
        path: Path | None = None,
    ) -> None:
        self.options = options
        self._path = path
        self.recall = recall
        self._keys: NamespaceKeys = options.keys()
        self._process = os.getpid()
        self._publisher_id = secrets.token_bytes(8)
        self._closed = False
        self._count = 0
        self._own: OrderedDict[bytes, int] = OrderedDict()  # digest -> number in Recall
        self._lock = fork_lock()
        self._publisher: Publisher | None = None
        self._follower: Follower | None = None
        if options.publish:
            origin = Origin(
                self._publisher_id, options.host_name, fingerprint, model, options.generation
            )
            self._publisher = Publisher(
                open_log(options.url), origin, queue_bytes=options.queue_bytes
            )
        if options.follow:
            ledger = TextLedger() if path is None else ledger_of(path)
            if path is not None:
                settle(ledger, recall, path)
            reading = Reading(self._keys, fingerprint, vocab_size, options.generations)
            self._follower = Follower(
                open_log(options.url),
                recall,
                ledger,
                reading,
                host=options.host_name,
                own=self._taken_for_own,
                told=self._withdraw,
                done=self._offer,
            )
            fresh = ledger.position == BEGINNING
            self._follower.start(
                self._warm_start if fresh and options.snapshot is not None else None
            )

    def name_of(self, namespace: str) -> str:
        """What a namespace is called in Recall, here and wherever its texts come."""
        return self._keys.local_name(namespace)

    def finished(self, text: FinishedText) -> bytes | None:
        """Publish a text; never waits. Returns its sequence id; None: it is not published."""
        publisher = self._publisher
        if publisher is None or not len(text.tokens) or os.getpid() != self._process:
            return None
        wire = self._keys.id_of(text.namespace)
        if wire is None:
            return None
        with self._lock:
            self._count += 1
            sequence = self._publisher_id + self._count.to_bytes(ID_BYTES - 8, "big")
        now = time.time()
        context, tokens = text.context[-CONTEXT_TOKENS:], text.tokens
        for part, first in enumerate(range(0, len(tokens), PART_TOKENS)):
            some = tokens[first : first + PART_TOKENS]
            record = TextRecord(wire, sequence, part, now, context, some)
            if self._keys.seal:
                record = sealed_record(record, self._keys)
            if self._follower is not None and text.sequence:
                self._remember(record.digest, text.sequence)
            publisher.offer(record)
            context = some[-CONTEXT_TOKENS:]
        return sequence

    def report(self) -> dict[str, Any]:
        """All counts: what went out, what came in, what was left out and why."""
        found: dict[str, Any] = {}
        if self._publisher is not None:
            found["out"] = asdict(self._publisher.counts) | {
                "waiting_bytes": self._publisher.waiting
            }
        if self._follower is not None:
            found["in"] = self._follower.report()
        return found

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until the log has all that was finished; False: not in time."""
        return self._publisher is None or self._publisher.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Send what is left, for so many seconds at most, and end the threads; Recall stays."""
        if os.getpid() != self._process or self._closed:
            return
        self._closed = True
        with ExitStack() as closing:
            if self._follower is not None:
                closing.callback(self._follower.close)
                if self._path is not None:
                    closing.callback(self._settled, self._follower)
                closing.callback(self._follower.stop)
            if self._publisher is not None:
                closing.callback(self._publisher.close, timeout)

    def _warm_start(self) -> None:
        """Begin with the newest snapshot; where there is none to be had, with the log alone."""
        if self._follower is None or self.options.snapshot is None:
            return
        fingerprint = self._follower.reading.fingerprint
        try:
            snapshot = SnapshotFolder(self.options.snapshot, fingerprint).read()
            if snapshot.position != BEGINNING:
                self._follower.begin_with(snapshot, Origin(bytes(8), fingerprint=fingerprint))
        except (DraftwoodError, OSError) as error:
            log.warning("no snapshot is used: %s", error)

    def _settled(self, follower: Follower) -> None:
        if self._path is not None and not follower.behind:
            follower.ledger.set_newest(sequences_in(self._path))

    def _remember(self, digest: bytes, number: int) -> None:
        with self._lock:
            self._own[digest] = number
            if len(self._own) > _OWN_MOST:
                self._own.popitem(last=False)

    def _taken_for_own(self, record: TextRecord) -> int | None:
        with self._lock:
            return self._own.pop(record.digest, None)

    def _withdraw(self, order: ForgetRecord) -> None:
        """Texts that were not sent yet and that a tombstone names stay here."""
        if self._publisher is None:
            return

        def named(record: AnyRecord) -> bool:
            return isinstance(record, TextRecord) and (
                record.sequence == order.sequence or record.namespace == order.namespace
            )

        self._publisher.withdraw(named)

    def _offer(self, record: AnyRecord) -> None:
        if self._publisher is not None:
            self._publisher.offer(record)


def join(
    share: ShareOptions,
    drafter: Drafter,
    target_info: TargetInfo,
    *,
    model: str = "",
) -> Replica:
    """Let the requests of a drafter share what they finish.

    drafter: Recall, or a mixture that has it as a part.

    Raises:
        InvalidOption: a drafter without Recall; and what `Replica` raises.
    """
    recalls = recall_drafters(drafter)
    if not recalls:
        raise InvalidOption(
            f"share is given and {drafter!r} keeps no history that can be shared; use the drafter "
            "'recall', or one that has it as a part"
        )
    first = recalls[0]
    path, vocab = first.path, target_info.vocab
    replica = Replica(
        share,
        first.recall,
        fingerprint=UNKNOWN if vocab is None else vocab_fingerprint(vocab),
        model=model,
        vocab_size=target_info.vocab_size,
        path=None if path is None else Path(path),
    )
    first.listener = replica
    for each in recalls[1:]:
        if not each.recall.writable:
            each.listener = _NamesOnly(replica)
    return replica


class _NamesOnly:
    """For a drafter that only reads what others have written."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def name_of(self, namespace: str) -> str:
        return self._replica.name_of(namespace)

    def finished(self, text: FinishedText) -> None:
        """The drafter that writes tells of it."""


def recall_drafters(drafter: object) -> list[RecallDrafter]:
    """All that draft from Recall in a drafter, itself included."""
    if isinstance(drafter, RecallDrafter):
        return [drafter]
    if isinstance(drafter, Composed):
        return [each for part in drafter.parts for each in recall_drafters(part)]
    return []
