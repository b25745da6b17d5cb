"""Sessions that are opened in the process that drafts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from multiprocessing.util import Finalize
from typing import Any

from draftwood.errors import InvalidOption
from draftwood.serving.engine_sessions import EngineSessions, EngineShape
from draftwood.serving.housekeeping import Housekeeping
from draftwood.serving.options import EngineOptions


class OpenedLate:
    """What it takes to open sessions, which TensorRT-LLM sends to its workers.

    `sessions` opens them, in the first process that asks. Every rank of a tensor-parallel engine
    drafts for itself, and all must draft the same: nothing may then depend on a clock or a file.

    Raises:
        InvalidOption: for options that are none.
    """

    def __init__(
        self, model: str, nodes: int, context_limit: int, options: Mapping[str, Any] | None
    ) -> None:
        self._model = model
        self._nodes = nodes
        self._context_limit = context_limit
        self._options = EngineOptions.read(options)

    @cached_property
    def sessions(self) -> EngineSessions:
        """The sessions, with a thread that keeps house; closed when the process exits.

        Raises:
            InvalidOption: options under which ranks would differ.
            DraftwoodError, OSError: for a history that cannot be used.
        """
        from tensorrt_llm._utils import mpi_world_size
        from transformers import AutoTokenizer

        options, ranks = self._options, mpi_world_size()
        kept = options.path is not None or options.replicas is not None
        if ranks > 1 and (options.cost != "none" or kept):
            raise InvalidOption(
                f"cost is {options.cost!r}, path {options.path!r} and replicas "
                f"{options.replicas!r} on {ranks} ranks, which would draft different tokens; use "
                '{"cost": "none"}, no path and no replicas'
            )
        tokenizer = AutoTokenizer.from_pretrained(self._model)
        vocab = dict(tokenizer.get_vocab())
        shape = EngineShape(
            vocab_size=max(vocab.values()) + 1,
            context_limit=self._context_limit,
            nodes=self._nodes,
            vocab=vocab if kept else None,
            tokenize=lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
            logger="draftwood.tensorrt_llm",
            model=self._model if options.replicas else "",
        )
        sessions = EngineSessions(shape, options)
        keeper = Housekeeping(sessions, f"tensorrt-llm-{os.getpid()}")
        Finalize(None, keeper.stop, exitpriority=1)
        return sessions

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "sessions"}
