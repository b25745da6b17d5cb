"""llama-cpp-python's low-level API, and a model that was loaded by it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Final

from draftwood.errors import BrokenModel, MissingExtra, UnsupportedEngine, UnsupportedModel

_NEEDED: Final = (
    "llama_backend_init",
    "llama_batch_init",
    "llama_context_default_params",
    "llama_decode",
    "llama_get_logits",
    "llama_get_memory",
    "llama_init_from_model",
    "llama_max_parallel_sequences",
    "llama_memory_seq_cp",
    "llama_memory_seq_rm",
    "llama_model_get_vocab",
    "llama_model_load_from_file",
    "llama_vocab_is_eog",
    "llama_vocab_n_tokens",
)
_FIELDS: Final = ("n_seq_max", "kv_unified", "swa_full")
"""What is set in a context's parameters."""


def library() -> Any:
    """The module `llama_cpp`, once it is sure that it has what is called.

    Raises:
        MissingExtra: where llama-cpp-python is not installed, or its library cannot be loaded.
        UnsupportedEngine: for a version without a function or a parameter that is needed.
    """
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError, FileNotFoundError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise MissingExtra(
            f"llama.cpp needs llama-cpp-python ({reason}); pip install 'draftwood[llama-cpp]'"
        ) from None
    lacks = [name for name in _NEEDED if not hasattr(llama_cpp, name)]
    fields = {name for name, _ in llama_cpp.llama_context_params._fields_} if not lacks else set()
    lacks += [f"llama_context_params.{name}" for name in _FIELDS if name not in fields]
    if lacks:
        raise UnsupportedEngine(
            f"llama-cpp-python {llama_cpp.__version__} has no {lacks[0]}, with which trees are "
            "verified; use 0.3.36"
        )
    spoken = logging.getLogger("llama-cpp-python")
    if spoken.level == logging.NOTSET:  # its levels are one off: warnings are errors to it
        spoken.setLevel(logging.CRITICAL)
    return llama_cpp


class GgufModel:
    """A model that llama.cpp has read; closed by `close`.

    pointer: as the library takes it. vocab_size, trained_context: of the model. end_tokens: ids
    that end a text.

    Raises:
        BrokenModel: for a file that llama.cpp cannot load.
        UnsupportedModel: for an encoder, or a model with recurrent state, which forgets nothing.
    """

    def __init__(self, llama: Any, path: Path) -> None:
        self._llama = llama
        llama.llama_backend_init()
        self.pointer = llama.llama_model_load_from_file(
            os.fsencode(path), llama.llama_model_default_params()
        )
        if not self.pointer:
            raise BrokenModel(
                f"llama.cpp of llama-cpp-python {llama.__version__} cannot load {path}; fetch the "
                "file again, or one of a kind that it knows"
            )
        kinds = {
            "an encoder": llama.llama_model_has_encoder,
            "recurrent state": llama.llama_model_is_recurrent,
            "layers with recurrent state": llama.llama_model_is_hybrid,
        }
        for kind, holds in kinds.items():
            if holds(self.pointer):
                self.close()
                raise UnsupportedModel(
                    f"{path} has {kind}, from which no drafted token can be taken back; use a "
                    "decoder with attention"
                )
        vocab = llama.llama_model_get_vocab(self.pointer)
        self.vocab_size = int(llama.llama_vocab_n_tokens(vocab))
        self.trained_context = int(llama.llama_model_n_ctx_train(self.pointer))
        self.end_tokens = frozenset(
            token for token in range(self.vocab_size) if llama.llama_vocab_is_eog(vocab, token)
        )

    def close(self) -> None:
        """Free the weights; a second call does nothing."""
        if self.pointer:
            self._llama.llama_model_free(self.pointer)
            self.pointer = None
