"""What `LanguageModel` asks of a target, and the part of it that other engines lack."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol, Self

from draftwood.draft import TokenIds
from draftwood.protocols import Target
from draftwood.targets.committed import Committed


class LoadedTarget(Target, Protocol):
    """A target that texts are generated with."""

    @property
    def model(self) -> Any:
        """A model of transformers, or an `EngineModel`."""

    @property
    def vocab_size(self) -> int:
        """V, the number of entries of a row."""

    @property
    def context_limit(self) -> int | None:
        """Tokens of prompt and text together; None: no limit."""

    def admit(self, prompt: TokenIds) -> Committed:
        """A sequence of the tokens of `prompt`, once it is sure that one more fits.

        Raises:
            ContextTooLong: for a prompt that leaves no room for a generated token.
            InvalidTokens: for an empty prompt, or ids beyond the model's vocabulary.
        """


class EngineModel:
    """Stands for a model whose engine has no generation config of the transformers library.

    end_tokens: ids that end a text, as the engine's own files name them. vocab_size: ids are below.
    """

    def __init__(self, end_tokens: Collection[int], vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.generation_config = EngineConfig()
        if end_tokens:
            self.generation_config.eos_token_id = sorted(end_tokens)

    @property
    def config(self) -> Self:
        """Itself, which knows its vocabulary."""
        return self

    def get_text_config(self) -> Self:
        """Itself: there is no other part than the text's."""
        return self

    def _get_logits_processor(self, **_: Any) -> Any:
        """Transformers makes processors for keys of its own configs, and here are none."""
        raise NotImplementedError("an engine's model has no logits processors of transformers")


class EngineConfig:
    """A generation config in which only the end tokens are set."""

    do_sample = False
    eos_token_id: list[int] | None = None
