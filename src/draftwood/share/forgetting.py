"""Tombstones: what is to be forgotten everywhere, and who says that it is."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from draftwood.errors import BrokenRecord, InvalidOption
from draftwood.share.envelope import Origin, packed_batch, unpacked_batch
from draftwood.share.keys import ID_BYTES, NamespaceKeys
from draftwood.share.log import TextLog
from draftwood.share.records import DoneRecord, ForgetRecord


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A tombstone that the log has. order: its id. after: the log's end before it."""

    order: bytes
    after: str


def send_tombstone(
    text_log: TextLog,
    keys: NamespaceKeys,
    *,
    namespace: str | None = None,
    sequence: str | None = None,
) -> Tombstone:
    """Ask all followers to remove a namespace, or one sequence (its id in hexadecimal).

    Raises:
        InvalidOption: none or both of them, an id that is none, or a namespace without its key.
        LogUnreachable: the log cannot be used now; nothing is forgotten then.
    """
    if (namespace is None) == (sequence is None):
        raise InvalidOption("give a namespace or a sequence, one of both")
    wire = target = None
    if namespace is not None:
        wire = keys.id_of(namespace)
        if wire is None:
            raise InvalidOption(f"there is no grant for namespace {namespace!r}; give the secret")
    else:
        try:
            target = bytes.fromhex(str(sequence))
        except ValueError:
            target = b""
        if len(target) != ID_BYTES:
            raise InvalidOption(
                f"sequence is {sequence!r}; give the {2 * ID_BYTES} hexadecimal digits of its id"
            )
    after, order = text_log.end(), secrets.token_bytes(ID_BYTES)
    record = ForgetRecord(order, time.time(), wire, target)
    text_log.append(packed_batch(Origin(secrets.token_bytes(8)), 1, [record]))
    return Tombstone(order, after)


def acknowledgments(
    text_log: TextLog, tombstone: Tombstone, *, seconds: float
) -> Iterator[tuple[bytes, DoneRecord]]:
    """Who has obeyed a tombstone, as they say so: the publisher's id, and what it says.

    Ends after so many seconds. A process that obeys says so once.
    """
    until, position = time.monotonic() + seconds, tombstone.after
    said: set[bytes] = set()
    while (left := until - time.monotonic()) > 0:
        for message in text_log.read(position, min(left, 0.5)):
            position = message.position
            try:
                batch = unpacked_batch(message.data)
            except BrokenRecord:
                continue
            for record in batch.records:
                mine = isinstance(record, DoneRecord) and record.order == tombstone.order
                if mine and batch.origin.publisher not in said:
                    said.add(batch.origin.publisher)
                    assert isinstance(record, DoneRecord)
                    yield batch.origin.publisher, record
