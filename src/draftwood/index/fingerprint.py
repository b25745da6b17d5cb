"""Tokenizer fingerprints: a SHA-256 of a vocabulary, to tell which tokenizer token ids belong to.

Two tokenizers with one vocabulary have one fingerprint, whatever their merges, normalizers or
templates: history is token ids, and an id that means the same text drafts the same text.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from draftwood.bundled import bundled
from draftwood.errors import TokenizerMismatch, TokenizerMissing

UNKNOWN = bytes(32)
"""The fingerprint of token ids from nobody knows where."""


def vocab_fingerprint(vocab: Mapping[str, int]) -> bytes:
    """32 bytes for a vocabulary: token text -> id, added tokens included.

    SHA-256 over the line `draftwood-vocab-1` and, in ascending order of (id, bytes), for each token
    its id and its length in bytes as little-endian uint32 and its UTF-8 bytes.
    """
    return _digest((index, token) for token, index in vocab.items())


def tokenizer_fingerprint(path: Path | str) -> bytes:
    """The fingerprint of a tokenizer.json, of a vocab.json, or of a folder that holds one.

    A tokenizer.json is preferred to a vocab.json, since it names the added tokens too.

    Raises:
        TokenizerMissing: no such file, or one that holds no vocabulary.
    """
    file = _file_of(Path(bundled(str(path))))
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerMissing(
            f"{file} cannot be read as JSON ({error}); pass a tokenizer.json or a vocab.json"
        ) from None
    try:
        return _digest(_tokens(content))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, struct.error):
        raise TokenizerMissing(
            f"{file} holds no vocabulary; pass a tokenizer.json or a vocab.json"
        ) from None


def require_tokenizer(path: str, found: bytes, vocab: Mapping[str, int] | None) -> None:
    """Raise unless a file's token ids belong to the vocabulary `vocab`.

    found: the fingerprint in the file at `path`. Where the file's tokenizer or the vocabulary is
    not known, nothing is refused.

    Raises:
        TokenizerMismatch: for a file of another tokenizer.
    """
    if vocab is None or found == UNKNOWN:
        return
    expected = vocab_fingerprint(vocab)
    if found != expected:
        raise TokenizerMismatch(
            f"{path} has tokenizer fingerprint {found.hex()[:12]} and the model's tokenizer has "
            f"{expected.hex()[:12]}; use a history of this model's tokenizer"
        )


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("tokenizer.json", "vocab.json"):
        if (path / name).is_file():
            return path / name
    raise TokenizerMissing(
        f"{path} holds neither tokenizer.json nor vocab.json; pass the folder of a tokenizer"
    )


def _tokens(content: Any) -> Iterable[tuple[int, str]]:
    """(id, text) of every token in a tokenizer.json or a vocab.json."""
    if "model" not in content or not isinstance(content["model"], dict):
        return [(index, token) for token, index in content.items()]
    vocab = content["model"]["vocab"]
    if isinstance(vocab, dict):
        tokens = dict(vocab)
    else:  # unigram: [piece, log probability] pairs, and the place is the id
        tokens = {piece[0]: index for index, piece in enumerate(vocab)}
    tokens |= {added["content"]: added["id"] for added in content.get("added_tokens") or ()}
    return [(index, token) for token, index in tokens.items()]


def _digest(tokens: Iterable[tuple[int, str]]) -> bytes:
    # A vocabulary may hold halves of surrogate pairs, which strict UTF-8 refuses.
    encoded = sorted((index, token.encode("utf-8", "surrogatepass")) for index, token in tokens)
    digest = hashlib.sha256(b"draftwood-vocab-1\n")
    for index, token in encoded:
        digest.update(struct.pack("<II", index, len(token)))
        digest.update(token)
    return digest.digest()
