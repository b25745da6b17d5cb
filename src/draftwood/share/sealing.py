"""Encrypted texts: the same record with its context and tokens sealed (docs/sharing.md)."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Final

from draftwood.draft import NO_TOKENS
from draftwood.errors import BrokenRecord
from draftwood.share.keys import NamespaceKeys
from draftwood.share.records import (
    CONTEXT_TOKENS,
    PART_TOKENS,
    TextRecord,
    to_bytes,
    to_tokens,
)

_MOST: Final = 1 + 4 * (CONTEXT_TOKENS + PART_TOKENS)


def sealed_record(record: TextRecord, keys: NamespaceKeys) -> TextRecord:
    """The record encrypted.

    Sealed is zlib's form of one byte, how many tokens of context there are, and both as int32.
    """
    context = to_bytes(record.context)
    body = bytes([len(record.context)]) + context + to_bytes(record.tokens)
    sealed = keys.sealed(record.namespace, zlib.compress(body), record.about)
    return replace(record, context=NO_TOKENS, tokens=NO_TOKENS, sealed=sealed)


def unsealed_record(record: TextRecord, keys: NamespaceKeys) -> TextRecord | None:
    """The record in the clear; None: it is sealed with a key that is not this host's.

    Raises:
        BrokenRecord: what is sealed is no text.
    """
    if record.sealed is None:
        return record
    packed = keys.unsealed(record.namespace, record.sealed, record.about)
    if packed is None:
        return None
    try:
        inflate = zlib.decompressobj()
        body = inflate.decompress(packed, _MOST)
        if not inflate.eof or not body or body[0] > CONTEXT_TOKENS:
            raise ValueError("not as sealed texts are")
        cut = 1 + 4 * body[0]
        context = to_tokens(body[1:cut], CONTEXT_TOKENS)
        tokens = to_tokens(body[cut:], PART_TOKENS)
        if not len(tokens):
            raise ValueError("no tokens")
    except (ValueError, zlib.error) as error:
        raise BrokenRecord(f"a sealed text is damaged ({error}); it is skipped") from None
    return replace(record, context=context, tokens=tokens, sealed=None)
