"""From prompts and predictions to token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import InvalidOption

Message: TypeAlias = Mapping[str, Any]
"""One turn of a chat: {"role": "user", "content": "..."}."""

Prompt: TypeAlias = str | Sequence[Message] | Sequence[int] | NDArray[np.integer[Any]]
"""Text, the turns of a chat, or token ids."""

Prompts: TypeAlias = (
    list[str]
    | Sequence[Sequence[Message]]
    | Sequence[Sequence[int]]
    | Sequence[NDArray[np.integer[Any]]]
)
"""Several prompts of one kind."""


class PromptEncoder:
    """Turns prompts into token ids. tokenizer: of transformers, or with the same methods."""

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size

    def encode(
        self,
        prompt: Prompt,
        *,
        chat: bool | None = None,
        tools: Sequence[Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> TokenIds:
        """int32 [n]: the token ids of a prompt; see `LanguageModel.encode`."""
        if is_several(prompt):
            raise InvalidOption(
                f"{len(prompt)} prompts are given where one is taken; give them to `generate`, "
                "which takes a list, or one after the other"
            )
        turns = turns_of(prompt)
        template = getattr(self.tokenizer, "chat_template", None) is not None
        if isinstance(prompt, str) and (template if chat is None else chat):
            turns = [{"role": "user", "content": prompt}]
        if turns is not None:
            if not template:
                raise InvalidOption("the model has no chat template; give the prompt as text")
            ids = self._templated(turns, tools, chat_template_kwargs or {})
        elif tools is not None:
            raise InvalidOption(
                "tools are given with a prompt that goes into no chat template; give chat turns"
            )
        else:
            ids = self._ids(prompt) if isinstance(prompt, str) else prompt
        return as_tokens(ids, vocab_size=self.vocab_size)

    def predictions(self, prediction: Any) -> tuple[TokenIds, ...]:
        """Likely answers as token ids; empty ones are left out.

        prediction: text, token ids, or a list of such; None: none.

        Raises:
            InvalidTokens: for ids that the model does not have.
        """
        if prediction is None:
            return ()
        texts = prediction if is_several(prediction) else [prediction]
        found = [
            self._ids(each, add_special_tokens=False) if isinstance(each, str) else each
            for each in texts
        ]
        ids = (as_tokens(each, vocab_size=self.vocab_size) for each in found)
        return tuple(each for each in ids if len(each))

    def _ids(self, text: str, **options: Any) -> Any:
        try:
            return self.tokenizer(text, **options)["input_ids"]
        except Exception as error:  # the tokenizers library raises no class of its own
            raise InvalidOption(
                f"the model's tokenizer cannot encode the text ({_first_line(error)}); give other "
                "text, token ids, or load the model with another tokenizer"
            ) from error

    def _templated(
        self, turns: Sequence[Message], tools: Sequence[Any] | None, options: Mapping[str, Any]
    ) -> Any:
        given = {"add_generation_prompt": True, **options}
        if tools is not None:
            given["tools"] = list(tools)
        try:
            return self.tokenizer.apply_chat_template(
                list(turns), **given, tokenize=True, return_dict=False
            )
        except Exception as error:  # a template raises what its author chose
            raise InvalidOption(
                f"the chat template refuses these turns ({_first_line(error)}); change the turns, "
                "tools or chat_template_kwargs"
            ) from error


def is_several(prompt: Any) -> bool:
    """Whether the argument is a list of prompts: texts, chats, or lists or arrays of ids."""
    if isinstance(prompt, (str, bytes, np.ndarray)) or not isinstance(prompt, Sequence):
        return False
    return bool(prompt) and isinstance(prompt[0], (str, np.ndarray, Sequence))


def turns_of(prompt: Any) -> Sequence[Message] | None:
    """The turns of a chat; None for text and token ids.

    Raises:
        InvalidOption: for something that is none of these.
    """
    if isinstance(prompt, str):
        return None
    if isinstance(prompt, (Mapping, bytes)) or not isinstance(prompt, (Sequence, np.ndarray)):
        if not hasattr(prompt, "__array__"):
            raise InvalidOption(
                f"the prompt is {type(prompt).__name__}; give text, a list of chat turns, or a "
                "list of token ids"
            )
        return None
    if isinstance(prompt, np.ndarray) or not any(isinstance(each, Mapping) for each in prompt):
        return None
    for number, turn in enumerate(prompt):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
            raise InvalidOption(
                f'turn {number} of the chat has no role; write {{"role": "user", "content": "..."}}'
            )
    return prompt


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")
