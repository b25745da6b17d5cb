"""The first door: a class that vLLM's runner asks for drafts (`custom_class`).

    LLM(M, speculative_config={"model": "draftwood.vllm.Proposer", "num_speculative_tokens": 24})

Contract, read in vLLM 0.32 (v1/worker/gpu_model_runner.py, `propose_draft_token_ids`): a list of
Python ints for each row, never an exception, since either ends the engine.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood.serving.engine_sessions import EngineSessions
from draftwood.serving.options import RequestFacts
from draftwood.vllm.cpu_sampler import mend_cpu_sampler
from draftwood.vllm.engine import drafts_elsewhere, sessions_of

_FRAMES = 16
"""How far up the runner is looked for."""


class Proposer:
    """Drafts for a runner of vLLM's, which makes it and asks it after every pass.

    On a rank whose drafts nobody reads, and where `draftwood.vllm.Scheduler` drafts, it opens
    nothing and proposes nothing.

    Raises:
        DraftwoodError: for options, or a history, that cannot be used.
        OSError: for a file that cannot be read or written.
    """

    def __init__(self, vllm_config: Any) -> None:
        mend_cpu_sampler()
        self._runner = _runner_above()
        self._nodes: int = vllm_config.speculative_config.num_speculative_tokens
        self.drafting: EngineSessions | None = None
        if not drafts_elsewhere(vllm_config):
            self.drafting = sessions_of(vllm_config)
            if not self.drafting.options.request_ids:
                self._runner = None
        self._numbers = count()

    def load_model(self, *_: object, **__: object) -> None:
        """Called by the runner once it is made; there is no model to load.

        As it is, the runner drafts for nobody once a request is so near the context limit that a
        draft of full length would not fit, and verifies token 0 instead. Ours are cut to fit.
        """
        self._lift_limit()

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: NDArray[np.int32],
        token_ids_cpu: NDArray[np.int32],
        slot_mappings: object = None,
        **_: object,
    ) -> list[list[int]]:
        """A draft for each row of the batch.

        sampled_token_ids: what the pass brought, for each row; nothing: its prompt is not done.
        num_tokens_no_spec: int32 [rows], tokens of each row. token_ids_cpu: int32 [rows, width].
        """
        drafting, rows = self.drafting, len(sampled_token_ids)
        if drafting is None:
            return [[] for _ in range(rows)]
        try:
            ends = num_tokens_no_spec[:rows].tolist()
            if self._runner is not None:
                self._lift_limit()
                keys, facts = self._by_id(sampled_token_ids, drafting)
            else:
                keys, facts = self._by_content(sampled_token_ids, token_ids_cpu, ends, drafting)
            return drafting.draft(keys, token_ids_cpu, ends, facts).lists()
        except Exception:
            drafting.failed("rows")
            return [[] for _ in range(rows)]

    def _lift_limit(self) -> None:
        if self._runner is not None:
            self._runner.effective_drafter_max_model_len = self._runner.max_model_len + self._nodes

    def _by_id(self, sampled: Sequence[Sequence[int]], drafting: EngineSessions) -> tuple[Any, Any]:
        """The runner's ids; requests that it has forgotten have ended."""
        runner = self._runner
        drafting.keep(runner.requests)
        ids = runner.input_batch.req_ids
        keys = [key if new else None for key, new in zip(ids, sampled, strict=True)]
        return keys, lambda key: _facts(runner.requests[key], runner.max_model_len)

    def _by_content(
        self,
        sampled: Sequence[Sequence[int]],
        token_ids: NDArray[np.int32],
        ends: Sequence[int],
        drafting: EngineSessions,
    ) -> tuple[Any, Any]:
        """The requests whose texts the rows continue; `Sessions` ends those that do not come."""
        places = [at for at, new in enumerate(sampled) if new]
        found = drafting.sessions.recognize([token_ids[at, : ends[at]] for at in places])
        keys: list[Any] = [None] * len(sampled)
        prompts: dict[Any, int] = {}
        for at, key in zip(places, found, strict=True):
            keys[at] = next(self._numbers) if key is None else key
            prompts[keys[at]] = ends[at] - len(sampled[at])
        if len(drafting) > 2 * len(places) + 64:
            drafting.keep(drafting.sessions)
        return keys, lambda key: RequestFacts(prompt=prompts[key])


def _facts(state: Any, context_limit: int) -> RequestFacts:
    """Of the runner's own record of a request."""
    sampling, adapter = state.sampling_params, state.lora_request
    end = context_limit if sampling is None else state.num_prompt_tokens + sampling.max_tokens
    return RequestFacts(
        prompt=state.num_prompt_tokens,
        end=min(end, context_limit),
        stops=stops_of(sampling),
        extra=None if sampling is None else sampling.extra_args,
        adapter=None if adapter is None else adapter.lora_name,
    )


def stops_of(sampling: Any) -> frozenset[int]:
    """Ids after which vLLM ends a request, the end token included unless it is ignored."""
    if sampling is None:
        return frozenset()
    ends = set(sampling.stop_token_ids or ())
    if sampling.eos_token_id is not None:
        ends.add(sampling.eos_token_id)
    return frozenset(ends)


def _runner_above() -> Any:
    """The runner that is making the proposer, which it does not pass; None: it is not found."""
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        maker = frame.f_locals.get("self")
        if hasattr(maker, "propose_draft_token_ids"):
            return maker
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None
