"""Messages of the log: records in batches, packed, compressed and checked (docs/sharing.md).

    byte 0   4 bytes   "DWSB"
         4   uint8     major version, 1
         5   uint8     compression of the body: 0 none, 1 zlib, 2 zstd
         6   2 bytes   0
         8   uint32    length of the body before compression
        12   uint32    CRC-32 (zlib's) of what follows
        16             the body: one msgpack map

All integers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from draftwood.errors import BrokenRecord, MissingExtra
from draftwood.index.fingerprint import UNKNOWN
from draftwood.share.records import AnyRecord, record_of

MAGIC: Final = b"DWSB"
MAJOR: Final = 1
_HEAD: Final = struct.Struct("<4sBBHII")
_PLAIN, _ZLIB, _ZSTD = 0, 1, 2
MOST_BYTES: Final = 16 * 1024 * 1024
"""Of a body before compression: what a reader is ready to hold."""
_WORTH: Final = 128
"""Bytes from which a body is compressed."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who publishes: what all records of a batch have in common.

    publisher: 8 bytes, drawn when it starts. fingerprint: of the tokenizer. generation: of the
    policy that wrote the texts, for models that are trained meanwhile.
    """

    publisher: bytes
    host: str = ""
    fingerprint: bytes = UNKNOWN
    model: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """The records of one message. unknown: how many are of a kind that is not known here."""

    origin: Origin
    number: int
    records: tuple[AnyRecord, ...]
    unknown: int = 0
    broken: int = 0


class NewerSchema(BrokenRecord):
    """A message of a later major version."""


def packed_batch(origin: Origin, number: int, records: Sequence[AnyRecord]) -> bytes:
    """One message."""
    body: bytes = _msgpack().packb(
        {
            "from": origin.publisher,
            "host": origin.host,
            "no": number,
            "tokenizer": origin.fingerprint,
            "model": origin.model,
            "generation": origin.generation,
            "records": [each.fields() for each in records],
        },
        use_bin_type=True,
    )
    codec, kept = _PLAIN, body
    if len(body) >= _WORTH:
        zstandard = _zstandard()
        if zstandard is None:
            codec, kept = _ZLIB, zlib.compress(body, 6)
        else:
            codec, kept = _ZSTD, zstandard.ZstdCompressor(level=3).compress(body)
    return _HEAD.pack(MAGIC, MAJOR, codec, 0, len(body), zlib.crc32(kept)) + kept


def unpacked_batch(message: bytes) -> RecordBatch:
    """The batch of a message. A record that is damaged is counted and the others are kept.

    Raises:
        NewerSchema: a message of a later major version.
        BrokenRecord: anything else that is no message.
    """
    if len(message) < _HEAD.size:
        raise BrokenRecord(f"a message of {len(message)} bytes is none; it is skipped")
    magic, major, codec, _, length, check = _HEAD.unpack_from(message)
    if magic != MAGIC:
        raise BrokenRecord("a message does not begin with DWSB; it is skipped")
    if major != MAJOR:
        raise NewerSchema(f"a message has version {major}, and {MAJOR} is read here; update")
    kept = message[_HEAD.size :]
    if zlib.crc32(kept) != check or length > MOST_BYTES:
        raise BrokenRecord("a message was damaged on its way; it is skipped")
    try:
        fields = _msgpack().unpackb(
            _unpressed(kept, codec, length), raw=False, strict_map_key=False
        )
        found: list[AnyRecord] = []
        unknown = broken = 0
        for each in fields["records"]:
            try:
                record = record_of(each)
            except BrokenRecord:
                broken += 1
                continue
            if record is None:
                unknown += 1
            else:
                found.append(record)
        return RecordBatch(_origin(fields), int(fields["no"]), tuple(found), unknown, broken)
    except (MissingExtra, BrokenRecord):
        raise
    except Exception as error:  # whatever msgpack, zlib and zstandard raise for bytes of anybody's
        raise BrokenRecord(f"a message cannot be read ({error}); it is skipped") from None


def _origin(fields: dict[str, Any]) -> Origin:
    publisher, fingerprint = fields["from"], fields["tokenizer"]
    if not isinstance(publisher, bytes) or len(publisher) != 8:
        raise ValueError("a publisher's id of other than 8 bytes")
    if not isinstance(fingerprint, bytes) or len(fingerprint) != len(UNKNOWN):
        raise ValueError("a fingerprint of other than 32 bytes")
    return Origin(
        publisher,
        str(fields.get("host", "")),
        fingerprint,
        str(fields.get("model", "")),
        int(fields.get("generation", 0)),
    )


def _unpressed(kept: bytes, codec: int, length: int) -> bytes:
    if codec == _PLAIN:
        body = kept
    elif codec == _ZLIB:
        inflate = zlib.decompressobj()
        body = inflate.decompress(kept, length)
        if not inflate.eof and inflate.decompress(inflate.unconsumed_tail, 1):
            raise ValueError("longer than it says")
    elif codec == _ZSTD:
        zstandard = _zstandard()
        if zstandard is None:
            raise MissingExtra(
                "messages are compressed with zstd, which is not installed; "
                "pip install 'draftwood[share]'"
            )
        with zstandard.ZstdDecompressor().stream_reader(kept) as reader:
            body = reader.read(length + 1)
    else:
        raise ValueError(f"compression {codec} is not known")
    if len(body) != length:
        raise ValueError("another length than it says")
    return body


def _msgpack() -> Any:
    try:
        import msgpack
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"sharing history needs {error.name}; pip install 'draftwood[share]'"
        ) from None
    return msgpack


def _zstandard() -> Any:
    try:
        import zstandard
    except ModuleNotFoundError:
        return None
    return zstandard
