"""Not run on a GPU: the same sessions behind vLLM's runner of version 2, read and tested on a fake.

That runner (the default on GPUs from 0.33 on) makes its speculators in one function without a
registry. A plugin of the group `vllm.general_plugins` wraps that function where
`VLLM_USE_V2_MODEL_RUNNER=1` is set, and does nothing elsewhere; ours is taken where the options say
`"runner": 2` and the method is `ngram_gpu`, in whose place it stands.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from draftwood.serving.engine_sessions import EngineSessions
from draftwood.serving.options import RequestFacts
from draftwood.vllm.engine import drafts_elsewhere, engine_options, sessions_of

NOTHING = -1
"""What stands in a draft where nothing is drafted."""


def install() -> None:
    """Let the runner of version 2 make our speculator; called by vLLM in each of its processes."""
    if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") != "1":
        return
    try:
        from vllm.v1.worker.gpu import model_runner
        from vllm.v1.worker.gpu.spec_decode.speculator import BaseSpeculator
    except Exception:  # no such runner, or no Triton that it needs
        return
    make = model_runner.init_speculator
    if getattr(make, "by_draftwood", False):
        return

    def init_speculator(vllm_config: Any, device: Any, req_states: Any) -> Any:
        if engine_options(vllm_config).runner != 2:
            return make(vllm_config, device, req_states)
        return speculator_class(BaseSpeculator)(vllm_config, device, req_states)

    init_speculator.by_draftwood = True  # type: ignore[attr-defined]
    model_runner.init_speculator = init_speculator


def speculator_class(base: type) -> type:
    """Our speculator, derived from vLLM's base class."""

    class DraftwoodSpeculator(base):  # type: ignore[misc]
        """Drafts from the tokens that the runner keeps; no model, no graphs."""

        supports_mm_inputs = False
        draft_logits = None

        def __init__(self, vllm_config: Any, device: Any, req_states: Any) -> None:
            import torch

            self._states = req_states
            self._nodes: int = vllm_config.speculative_config.num_speculative_tokens
            elsewhere = drafts_elsewhere(vllm_config)
            self.drafting = None if elsewhere else sessions_of(vllm_config)
            self._host = np.full((req_states.max_num_reqs, self._nodes), NOTHING, np.int64)
            self._drafts = torch.full(
                (req_states.max_num_reqs, self._nodes), NOTHING, dtype=torch.int64, device=device
            )

        def init_cudagraph_manager(self, cudagraph_mode: Any) -> None:
            """No graphs."""

        def capture(self) -> None:
            """No graphs."""

        def propose(
            self,
            input_batch: Any,
            attn_metadata: Any,
            slot_mappings: Any,
            last_hidden_states: Any,
            aux_hidden_states: Any,
            num_sampled: Any,
            *_: Any,
            dummy_run: bool = False,
            **__: Any,
        ) -> Any:
            """int64 [requests, num_speculative_tokens] on the device; -1 after each draft."""
            import torch

            count = input_batch.num_reqs
            drafts = self._drafts[:count]
            if dummy_run or self.drafting is None:
                return drafts.fill_(NOTHING)
            host = self._host[:count]
            host.fill(NOTHING)
            try:
                for row, draft in enumerate(self._chains(self.drafting, input_batch, num_sampled)):
                    host[row, : len(draft)] = draft
            except Exception:
                self.drafting.failed("rows")
                host.fill(NOTHING)
            return drafts.copy_(torch.from_numpy(host))

        def _chains(
            self, drafting: EngineSessions, input_batch: Any, num_sampled: Any
        ) -> list[list[int]]:
            """A draft for each row of the batch. The look at its lengths waits for the device."""
            states, rows = self._states, input_batch.idx_mapping
            ends = states.total_len.gpu[rows].cpu().tolist()
            sampled = num_sampled[: len(ends)].cpu().tolist()
            ids = input_batch.req_ids
            drafting.keep(states.req_id_to_index)
            texts = [_Row(states.all_token_ids.gpu[states.req_id_to_index[name]]) for name in ids]
            keys = [name if new else None for name, new in zip(ids, sampled, strict=True)]
            return drafting.draft(keys, texts, ends, self._facts).lists()

        def _facts(self, name: str) -> RequestFacts:
            at = self._states.req_id_to_index[name]
            return RequestFacts(
                prompt=int(self._states.prompt_len.np[at]), end=int(self._states.max_seq_len[at])
            )

    return DraftwoodSpeculator


class _Row:
    """A request's tokens on the device or in host-mapped memory; what is read is brought over."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: Any) -> None:
        self._tokens = tokens

    def __getitem__(self, part: slice) -> list[int]:
        return self._tokens[part].cpu().tolist()  # type: ignore[no-any-return]
