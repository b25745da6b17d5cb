"""From recorded text to token ids: a tokenizer.json, and the token that ends a response."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from draftwood.bundled import bundled
from draftwood.draft import TokenIds
from draftwood.errors import MissingExtra, TraceError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_END_NAMES = (
    *("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end_of_text|>"),
    *("<|endoftext|>", "</s>", "<eos>", "[EOS]"),
)
"""End tokens of well-known families, for a tokenizer.json without the files that name its own."""


class TraceTokenizer:
    """A tokenizer for recorded texts. Texts are encoded as they stand: no BOS, no chat template.

    end_token: the id that ends a response, or None where the tokenizer names none. vocab_size:
    ids are below it.
    """

    def __init__(self, tokenizer: Tokenizer, end_token: int | None = None) -> None:
        self._tokenizer = tokenizer
        self.end_token = end_token
        self.vocab_size: int = tokenizer.get_vocab_size()

    @classmethod
    def load(cls, path: Path) -> TraceTokenizer:
        """From a tokenizer.json, a model folder that holds one, or the name of a bundled model.

        Raises:
            TraceError: no such file, or one that is no tokenizer.
            MissingExtra: the tokenizers package is not installed.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtra(
                "replaying text needs the tokenizers package; install draftwood[replay]"
            ) from None
        path = Path(bundled(str(path)))
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise TraceError(
                f"no tokenizer at {path}; pass a tokenizer.json or a folder that holds one"
            )
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the package raises bare Exception
            raise TraceError(f"{file} is no tokenizer.json: {error}") from None
        return cls(tokenizer, _end_token(tokenizer, file.parent))

    @property
    def vocab(self) -> dict[str, int]:
        """Token text -> id, added tokens included."""
        return self._tokenizer.get_vocab()

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """The token ids of each text; encoded in parallel."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(item.ids, dtype=np.int32) for item in encoded]


def _end_token(tokenizer: Tokenizer, folder: Path) -> int | None:
    """The end token that the files beside tokenizer.json name; else a well-known special token."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _read(folder / name).get("eos_token")
        text = token.get("content") if isinstance(token, dict) else token
        found = None if text is None else tokenizer.token_to_id(text)
        if found is not None:
            return int(found)
    for name in ("generation_config.json", "config.json"):
        ids = _read(folder / name).get("eos_token_id")
        first = ids[0] if isinstance(ids, list) and ids else ids
        if isinstance(first, int):
            return first
    special = {t.content: i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
    return next((special[name] for name in _END_NAMES if name in special), None)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
