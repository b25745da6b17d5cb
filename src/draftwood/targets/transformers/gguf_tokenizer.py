"""The tokenizer inside a .gguf file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from draftwood.errors import MissingExtra, TokenizerMissing


def gguf_tokenizer(path: Path) -> Any:
    """The transformers tokenizer of a .gguf file; no tensor is read.

    Raises:
        MissingExtra: transformers or gguf is not installed.
        TokenizerMissing: the file holds no tokenizer that transformers can read.
    """
    try:
        import gguf  # noqa: F401
        import transformers
    except ImportError:
        raise MissingExtra(
            f"the tokenizer in {path} needs the gguf package; install draftwood[gguf]"
        ) from None
    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(path.parent), gguf_file=path.name, local_files_only=True
        )
    except Exception as error:  # the reader raises what its parsers raise
        reason = str(error).strip().partition("\n")[0]
        raise TokenizerMissing(
            f"{path} holds no tokenizer that can be read ({reason}); pass the model's "
            "tokenizer.json"
        ) from None
