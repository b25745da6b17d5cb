"""Tokenizer fingerprints: one vocabulary, one fingerprint."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from draftwood.errors import TokenizerMissing
from draftwood.index.fingerprint import tokenizer_fingerprint, vocab_fingerprint

VOCAB = {"a": 0, "b": 1, "Ġthe": 2, "<|end|>": 3}


def tokenizer_json(model: dict[str, object], added: list[tuple[int, str]]) -> str:
    tokens = [{"id": i, "content": text, "special": True} for i, text in added]
    return json.dumps({"version": "1.0", "added_tokens": tokens, "model": model})


def test_fingerprint_is_the_digest_that_the_format_page_defines() -> None:
    whole = b"draftwood-vocab-1\n"
    for token, index in VOCAB.items():
        text = token.encode()
        whole += struct.pack("<II", index, len(text)) + text
    assert vocab_fingerprint(VOCAB) == hashlib.sha256(whole).digest()


def test_every_file_of_one_vocabulary_has_its_fingerprint(tmp_path: Path) -> None:
    base = {token: i for token, i in VOCAB.items() if i < 3}
    bpe = {"type": "BPE", "vocab": base, "merges": ["a b"]}
    unigram = {"type": "Unigram", "vocab": [[token, -1.0] for token in base]}
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(bpe, [(3, "<|end|>")]))
    (tmp_path / "unigram.json").write_text(tokenizer_json(unigram, [(3, "<|end|>")]))
    (tmp_path / "vocab.json").write_text(json.dumps(VOCAB))
    for name in ("", "tokenizer.json", "unigram.json", "vocab.json"):
        assert tokenizer_fingerprint(tmp_path / name) == vocab_fingerprint(VOCAB)


def test_fingerprint_follows_ids_not_the_order_of_writing() -> None:
    assert vocab_fingerprint(dict(reversed(VOCAB.items()))) == vocab_fingerprint(VOCAB)
    assert vocab_fingerprint(VOCAB | {"a": 1, "b": 0}) != vocab_fingerprint(VOCAB)
    assert vocab_fingerprint(VOCAB | {"c": 4}) != vocab_fingerprint(VOCAB)


def test_vocabulary_with_a_token_named_model_is_a_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"model": 0, "b": 1}))
    assert tokenizer_fingerprint(tmp_path) == vocab_fingerprint({"model": 0, "b": 1})


def test_half_of_a_surrogate_pair_is_a_token_like_any_other() -> None:
    assert vocab_fingerprint({"\ud83c": 0}) != vocab_fingerprint({"\ud83d": 0})


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1, 2]", '{"a": "b"}', '{"model": {}}', '{"a": -1}', '"text"', "[" * 100_000],
)
def test_file_without_a_vocabulary_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(TokenizerMissing, match=r"tokenizer\.json"):
        tokenizer_fingerprint(path)


def test_missing_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(TokenizerMissing, match="holds neither"):
        tokenizer_fingerprint(tmp_path)
    with pytest.raises(TokenizerMissing, match="cannot be read"):
        tokenizer_fingerprint(tmp_path / "none.json")
