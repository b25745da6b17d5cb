"""The bytes that token ids stand for, so that equal texts in other tokens are known as equal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from draftwood import _native

TokenTexts = _native.TokenTexts
"""`of(token)`: its bytes; `token(text)`: the token that is written so, or -1."""


def token_texts(vocab: Mapping[str, int]) -> TokenTexts:
    """The texts of a vocabulary: of byte-level names, or of names with U+2581 and <0xNN>.

    Special tokens, such as <|end|>, stand for no text. Takes about 50 ms for 150,000 tokens.
    """
    known = {name: token for name, token in vocab.items() if "\0" not in name and token >= 0}
    names = "".join(f"{name}\0" for name in known).encode("utf-8", "surrogatepass")
    return TokenTexts(names, np.fromiter(known.values(), np.int32, len(known)))
