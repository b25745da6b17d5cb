"""A model folder of ONNX Runtime GenAI as a target: chains, verified in one run of the model.

A sequence is a `Generator` of its own: `append_tokens` runs the model over the tokens that are new,
`get_output("logits")` has a row for each of them, and `rewind_to` forgets what was refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import Draft, TokenIds, as_tokens
from draftwood.errors import (
    BrokenModel,
    InvalidOption,
    MissingExtra,
    ModelNotFound,
    UnsupportedEngine,
    UnsupportedModel,
)
from draftwood.targets.committed import Committed, admitted
from draftwood.targets.engine_model import EngineModel
from draftwood.targets.onnx.cursor import OnnxCursor

_NEEDED: Final = ("append_tokens", "get_output", "rewind_to")
_LONGEST: Final = 4096
"""Tokens of a sequence, where nothing else is said: its keys and values are allocated at once."""


class OnnxTarget:
    """A model of ONNX Runtime GenAI (`genai_config.json` with its ONNX files).

    folder: as the model builder of onnxruntime-genai writes it. context: tokens of a sequence,
    whose keys and values are allocated when it is opened; None: the model's, at most 4096. threads:
    of a run of the model; None: as the folder says, or all cores.

    model: what the folder says beside the weights. vocab_size, context_limit: as in the folder.

    Raises:
        MissingExtra: where onnxruntime-genai is not installed.
        UnsupportedEngine: for a version of it that cannot take back tokens.
        ModelNotFound, BrokenModel: for a folder without a model, or one that cannot be read.
        UnsupportedModel: for one that gives no logits for every token, or other ones in a rewound
            sequence.
    """

    trees = False

    def __init__(
        self, folder: str | Path, *, context: int | None = None, threads: int | None = None
    ) -> None:
        self._library = _library()
        self.folder = Path(folder)
        told = _config(self.folder)
        about = told["model"]
        limit = int(about["context_length"])
        if context is not None and not 2 <= context <= limit:
            raise InvalidOption(f"context is {context}; use 2 to {limit}, the model's own limit")
        self.vocab_size = int(about["vocab_size"])
        self.context_limit = context or min(limit, _LONGEST)
        ends = about.get("eos_token_id", [])
        ids = frozenset([ends] if isinstance(ends, int) else ends)
        self.model = EngineModel(ids, self.vocab_size)
        try:
            config = self._library.Config(str(folder))
            if threads is not None:
                options = {"session_options": {"intra_op_num_threads": threads}}
                config.overlay(json.dumps({"model": {"decoder": options}}))
            self._model = self._library.Model(config)
        except Exception as error:  # RuntimeError of any kind
            raise BrokenModel(
                f"onnxruntime-genai {self._library.__version__} cannot load {self.folder} "
                f"({_first_line(error)}); build the folder again"
            ) from error
        self._probe()

    def open(self, prompt: TokenIds) -> OnnxCursor:
        """A cursor after `prompt`; its first `score` computes the prompt. Raises as `admit`."""
        committed = self.admit(prompt)
        params = self._library.GeneratorParams(self._model)
        params.set_search_options(max_length=self.context_limit)
        generator = self._library.Generator(self._model, params)
        return OnnxCursor(generator, committed, vocab_size=self.vocab_size)

    def admit(self, prompt: TokenIds) -> Committed:
        """A sequence of the tokens of `prompt`, once it is sure that one more fits.

        Raises:
            ContextTooLong: for a prompt that leaves no room for a generated token.
            InvalidTokens: for an empty prompt, or ids beyond the model's vocabulary.
        """
        return admitted(prompt, vocab_size=self.vocab_size, limit=self.context_limit)

    def close(self) -> None:
        """Free the model; its cursors are not used again."""
        del self._model

    def _probe(self) -> None:
        """Refuse a model whose rows of a chain are not those of one token after the other."""
        ids = as_tokens([(1 + i * 7919) % self.vocab_size for i in range(6)])
        cursor = self.open(ids[:2])
        rows = cursor.score(Draft.chain(ids[2:]))
        whole: list[NDArray[np.float32]] = [rows.logits(row) for row in range(5)]
        spread = max(float(whole[0].std()), 1e-30)
        for at in range(2, 6):
            single = self.open(ids[:at]).score(Draft.empty()).logits(0)
            off = float(np.abs(single - whole[at - 2]).max()) / spread
            if not off <= 0.25:
                raise UnsupportedModel(
                    f"{self.folder} gives for several tokens at once logits that are off by "
                    f"{off:.2g} standard deviations; build it with ordinary attention"
                )


def _library() -> Any:
    try:
        import onnxruntime_genai
    except ImportError as error:
        raise MissingExtra(
            f"an ONNX model needs onnxruntime-genai ({_first_line(error)}); "
            "pip install 'draftwood[onnx]'"
        ) from None
    lacks = [name for name in _NEEDED if not hasattr(onnxruntime_genai.Generator, name)]
    if lacks:
        raise UnsupportedEngine(
            f"onnxruntime-genai {onnxruntime_genai.__version__} has no Generator.{lacks[0]}, with "
            "which drafts are verified; use 0.18"
        )
    return onnxruntime_genai


def _config(folder: Path) -> Any:
    path = folder / "genai_config.json"
    if not path.is_file():
        raise ModelNotFound(
            f"{folder} holds no genai_config.json; give a folder that the model builder of "
            "onnxruntime-genai wrote"
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        int(told["model"]["context_length"]), int(told["model"]["vocab_size"])
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenModel(f"{path} cannot be read ({error!r}); build the folder again") from error
    return told


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
