"""What is read of vLLM's configuration, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.util import Finalize
from typing import Any

from draftwood.serving.engine_sessions import EngineSessions, EngineShape
from draftwood.serving.housekeeping import Housekeeping
from draftwood.serving.options import EngineOptions, Tokenize

MOST_DRAFTED = 128
"""Tokens of a draft that vLLM's sampler can take (MAX_SPEC_LEN)."""


def engine_options(vllm_config: Any) -> EngineOptions:
    """The options under "draftwood" in `additional_config`."""
    given = vllm_config.additional_config
    return EngineOptions.read(given.get("draftwood") if isinstance(given, Mapping) else None)


def sessions_of(vllm_config: Any) -> EngineSessions:
    """Sessions for an engine of this configuration, with a thread that keeps house for them.

    When the process exits, they are closed.

    Raises:
        DraftwoodError: for options, or a history, that cannot be used.
        OSError: for a file that cannot be read or written.
    """
    options, model = engine_options(vllm_config), vllm_config.model_config
    tokenizer = _Tokenizer(model)
    shape = EngineShape(
        vocab_size=model.get_vocab_size(),
        context_limit=model.max_model_len,
        nodes=min(vllm_config.speculative_config.num_speculative_tokens, MOST_DRAFTED),
        vocab=tokenizer.vocab() if options.path or options.replicas else None,
        model=str(model.model) if options.replicas else "",
        tokenize=tokenizer.tokenize,
        logger="vllm.draftwood",  # vLLM shows its own loggers only
    )
    sessions = EngineSessions(shape, options)
    rank = vllm_config.parallel_config.data_parallel_rank
    keeper = Housekeeping(sessions, vllm_config.instance_id, rank)
    Finalize(None, keeper.stop, exitpriority=1)  # children of multiprocessing run no atexit
    return sessions


def drafts_elsewhere(vllm_config: Any) -> bool:
    """Whether a proposer in this process has nothing to do.

    That is on every tensor-parallel rank but the first, whose drafts alone are read, and where
    `draftwood.vllm.Scheduler` drafts.
    """
    scheduler = vllm_config.scheduler_config.scheduler_cls
    name = scheduler if isinstance(scheduler, str) else getattr(scheduler, "__qualname__", "")
    module = "" if isinstance(scheduler, str) else getattr(scheduler, "__module__", "")
    if f"{module}.{name}".lstrip(".").startswith("draftwood.vllm."):
        return True
    ranks = vllm_config.parallel_config.tensor_parallel_size
    return bool(ranks > 1 and vllm_config.parallel_config.rank % ranks)


class _Tokenizer:
    """The model's tokenizer, loaded when it is first needed."""

    def __init__(self, model_config: Any) -> None:
        self._config = model_config
        self._loaded: Any = None

    def vocab(self) -> Mapping[str, int] | None:
        """Token text -> id; None for an engine without a tokenizer."""
        tokenizer = self._load()
        return None if tokenizer is None else dict(tokenizer.get_vocab())

    @property
    def tokenize(self) -> Tokenize | None:
        """Text to token ids; None for an engine without a tokenizer."""
        if self._config.skip_tokenizer_init:
            return None
        return lambda text: list(self._load().encode(text, add_special_tokens=False))

    def _load(self) -> Any:
        if self._loaded is None and not self._config.skip_tokenizer_init:
            from vllm.tokenizers import cached_tokenizer_from_config

            self._loaded = cached_tokenizer_from_config(self._config)
        return self._loaded
