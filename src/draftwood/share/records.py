"""What travels: texts, tombstones and their acknowledgments, as values (docs/sharing.md)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

from draftwood.draft import NO_TOKENS, TokenIds
from draftwood.errors import BrokenRecord
from draftwood.share.keys import ID_BYTES

CONTEXT_TOKENS: Final = 8
"""Tokens before a text that travel with it: as many as Recall matches."""
PART_TOKENS: Final = 65_536
"""Tokens of one record; a longer text travels in parts."""

TEXT, FORGET, DONE = 0, 1, 2
"""Kinds of records."""


@dataclass(frozen=True, slots=True, eq=False)
class TextRecord:
    """A finished text, or a part of one.

    namespace: 16 bytes. sequence: 16 bytes, the same for all parts. part: from 0. time: seconds
    since 1970 by the publisher's clock; informs, and decides nothing. context: int32 [0 to 8], what
    stands before the tokens. tokens: int32 [1 to 65536]. sealed: in place of both, encrypted.
    """

    namespace: bytes
    sequence: bytes
    part: int
    time: float
    context: TokenIds = field(default_factory=lambda: NO_TOKENS)
    tokens: TokenIds = field(default_factory=lambda: NO_TOKENS)
    sealed: bytes | None = None

    @property
    def about(self) -> bytes:
        """What is authenticated with a sealed text."""
        return self.namespace + self.sequence + self.part.to_bytes(4, "little")

    @property
    def digest(self) -> bytes:
        """16 bytes by which a record is known again, whoever sends it once more."""
        state = hashlib.blake2b(self.about, digest_size=16)
        if self.sealed is not None:
            state.update(self.sealed)
        else:
            state.update(self.tokens.tobytes())
        return state.digest()

    def fields(self) -> dict[str, Any]:
        """The same as a map for msgpack."""
        made: dict[str, Any] = {
            "k": TEXT,
            "ns": self.namespace,
            "id": self.sequence,
            "part": self.part,
            "t": self.time,
        }
        if self.sealed is not None:
            return made | {"sealed": self.sealed}
        return made | {"ctx": to_bytes(self.context), "tok": to_bytes(self.tokens)}


@dataclass(frozen=True, slots=True)
class ForgetRecord:
    """A tombstone: all that was published before it in a namespace, or as a sequence, goes.

    order: its own 16 bytes. namespace, sequence: exactly one of them is given.
    """

    order: bytes
    time: float
    namespace: bytes | None = None
    sequence: bytes | None = None

    def fields(self) -> dict[str, Any]:
        """The same as a map for msgpack."""
        made: dict[str, Any] = {"k": FORGET, "order": self.order, "t": self.time}
        if self.namespace is not None:
            return made | {"ns": self.namespace}
        return made | {"id": self.sequence}


@dataclass(frozen=True, slots=True)
class DoneRecord:
    """A host says that it has obeyed a tombstone. tokens: how many it removed."""

    order: bytes
    host: str
    tokens: int
    time: float

    def fields(self) -> dict[str, Any]:
        """The same as a map for msgpack."""
        return {
            "k": DONE,
            "order": self.order,
            "host": self.host,
            "n": self.tokens,
            "t": self.time,
        }


AnyRecord: TypeAlias = TextRecord | ForgetRecord | DoneRecord


def record_of(fields: Any) -> AnyRecord | None:
    """The record of a map; None: of a kind that this release does not know.

    Fields that are not known are left alone.

    Raises:
        BrokenRecord: a map that is no record.
    """
    if not isinstance(fields, dict):
        raise BrokenRecord("a record is no map; it is skipped")
    try:
        kind = fields["k"]
        if kind == TEXT:
            return _text(fields)
        if kind == FORGET:
            namespace, sequence = fields.get("ns"), fields.get("id")
            if (namespace is None) == (sequence is None):
                raise ValueError("both or none of ns and id")
            return ForgetRecord(
                _id(fields["order"]),
                float(fields["t"]),
                None if namespace is None else _id(namespace),
                None if sequence is None else _id(sequence),
            )
        if kind == DONE:
            tokens = _count(fields["n"], 2**63)
            host = str(fields["host"])[:256]
            return DoneRecord(_id(fields["order"]), host, tokens, float(fields["t"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BrokenRecord(f"a record is damaged ({error!r}); it is skipped") from None
    return None


def to_bytes(tokens: TokenIds) -> bytes:
    """Token ids as little-endian int32."""
    return tokens.astype("<i4", copy=False).tobytes()


def to_tokens(data: Any, most: int) -> TokenIds:
    """Token ids again; ValueError: something else, an id below 0, or more than `most`."""
    if not isinstance(data, bytes) or len(data) % 4 or len(data) > 4 * most:
        raise ValueError("token ids of a wrong length")
    tokens = np.frombuffer(data, "<i4").astype(np.int32)
    if len(tokens) and int(tokens.min()) < 0:
        raise ValueError("a token id below 0")
    return tokens


def _text(fields: dict[str, Any]) -> TextRecord:
    head = (
        _id(fields["ns"]),
        _id(fields["id"]),
        _count(fields.get("part", 0), 2**31),
        float(fields["t"]),
    )
    sealed = fields.get("sealed")
    if sealed is not None:
        if not isinstance(sealed, bytes):
            raise ValueError("a sealed text that is no bytes")
        return TextRecord(*head, sealed=sealed)
    tokens = to_tokens(fields["tok"], PART_TOKENS)
    if not len(tokens):
        raise ValueError("no tokens")
    return TextRecord(*head, to_tokens(fields.get("ctx", b""), CONTEXT_TOKENS), tokens)


def _id(value: Any) -> bytes:
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise ValueError(f"an id of other than {ID_BYTES} bytes")
    return value


def _count(value: Any, limit: int) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError(f"a count outside 0 to {limit - 1}")
    return value
