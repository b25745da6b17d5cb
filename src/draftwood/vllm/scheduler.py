"""The second door: vLLM's scheduler, which drafts by itself after every pass.

    vllm serve MODEL --scheduler-cls draftwood.vllm.Scheduler --speculative-config \
        '{"model": "draftwood.vllm.Proposer", "num_speculative_tokens": 24}'

It knows more than the first door: a request's `cache_salt`, and its end at once.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler as BaseScheduler
from vllm.v1.outputs import DraftTokenIds

from draftwood.serving.options import RequestFacts
from draftwood.vllm.engine import sessions_of
from draftwood.vllm.proposer import stops_of


class Scheduler(BaseScheduler):  # type: ignore[misc]  # vLLM has no types here
    """vLLM's scheduler with drafts of its own in place of those that the runner took.

    Raises:
        DraftwoodError: for options, or a history, that cannot be used.
        OSError: for a file that cannot be read or written.
    """

    def __init__(self, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, *args, **kwargs)
        speculative = vllm_config.speculative_config
        self.drafting = None if speculative is None else sessions_of(vllm_config)
        self._gone: dict[str, Any] = {}

    def update_draft_token_ids(self, draft_token_ids: Any) -> None:
        """Draft for the requests of the pass that has just ended; vLLM checks grammars after."""
        super().update_draft_token_ids(
            DraftTokenIds(draft_token_ids.req_ids, self._drafts(draft_token_ids.req_ids))
        )

    def _drafts(self, ids: list[str]) -> list[list[int]]:
        drafting = self.drafting
        if drafting is None:
            return [[] for _ in ids]
        gone, self._gone = self._gone, {}
        try:
            rows: list[Any] = [self.requests.get(name) or gone.get(name) for name in ids]
            here = [at for at, row in enumerate(rows) if row is not None]
            found = drafting.draft(
                [None if rows[at].is_prefill_chunk else ids[at] for at in here],
                [rows[at]._all_token_ids for at in here],
                [rows[at].num_tokens for at in here],
                lambda name: _facts(self.requests.get(name) or gone[name], self.max_model_len),
            ).lists()
            drafts: list[list[int]] = [[] for _ in ids]
            for at, draft in zip(here, found, strict=True):
                drafts[at] = draft
        except Exception:
            drafting.failed("rows")
            return [[] for _ in ids]
        finally:
            for name in gone:
                drafting.end(name)
        return drafts

    def _free_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """A request ends; it is seen once more after its last pass."""
        if self.drafting is not None:
            self._gone[request.request_id] = request
        return super()._free_request(request, *args, **kwargs)

    def shutdown(self) -> None:
        """Write history down."""
        if self.drafting is not None:
            self.drafting.close()
        super().shutdown()


def _facts(request: Any, context_limit: int) -> RequestFacts:
    """Of the scheduler's own record of a request."""
    sampling, adapter = request.sampling_params, request.lora_request
    return RequestFacts(
        prompt=request.num_prompt_tokens,
        end=min(request.num_prompt_tokens + request.max_tokens, context_limit),
        stops=stops_of(sampling),
        extra=None if sampling is None else sampling.extra_args,
        salt=request.cache_salt,
        adapter=None if adapter is None else adapter.lora_name,
    )
