"""A drafter and a resource manager for TensorRT-LLM's executor, over the same sessions."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from tensorrt_llm._torch.pyexecutor.resource_manager import BaseResourceManager
from tensorrt_llm._torch.speculative.drafter import Drafter

from draftwood.serving.options import RequestFacts
from draftwood.tensorrt_llm.opened_late import OpenedLate


class DraftwoodDrafter(Drafter):  # type: ignore[misc]  # TensorRT-LLM has no types here
    """Gives every request that generates its chain. Drafting never raises: that ends the executor.

    A chain may be empty; TensorRT-LLM fills it up where its graphs want one length.
    """

    _needs_padding_kv_extension = True  # as NGram's: what was filled up is counted in rewinding

    def __init__(self, late: OpenedLate, max_draft_len: int) -> None:
        known = inspect.signature(Drafter.__init__).parameters  # they differ between versions
        given = {"max_draft_len": max_draft_len, "max_total_draft_tokens": max_draft_len}
        super().__init__(**{name: given[name] for name in given if name in known})
        self._late = late

    def prepare_draft_tokens(self, scheduled_requests: Any, resource_manager: Any = None) -> None:
        """Set `py_draft_tokens` of every request that generates.

        Raises:
            DraftwoodError, OSError: in the first pass, which is the engine's own trial at start,
                for options or a history that cannot be used.
        """
        sessions = self._late.sessions
        requests = list(scheduled_requests.generation_requests)
        chains: list[list[int]] = [[] for _ in requests]
        try:
            named = {request.py_request_id: request for request in requests}
            if len(sessions) > 2 * len(named) + 64:  # some left without a word
                sessions.keep(named)
            texts: Sequence[list[int]] = [request.get_tokens(0) for request in requests]
            chains = sessions.draft(
                [request.py_request_id for request in requests],
                texts,
                [len(text) for text in texts],
                lambda key: _facts(named[key]),
            ).lists()
        except Exception:
            sessions.failed("rows")
        for request, chain in zip(requests, chains, strict=True):
            request.py_draft_tokens = chain


class DraftwoodManager(BaseResourceManager):  # type: ignore[misc]
    """Is told when requests end. Drafting takes none of the engine's memory."""

    def __init__(self, late: OpenedLate, max_num_requests: int) -> None:
        self._late = late
        self._most = max_num_requests

    def get_max_resource_count(self) -> int:
        """Requests at once."""
        return self._most

    def get_needed_resource_to_completion(self, request: Any) -> int:
        """Nothing."""
        return 0

    def free_resources(self, request: Any) -> None:
        """A request is done: what it generated is learned."""
        self._late.sessions.end(request.py_request_id)

    def shutdown(self) -> None:
        """Write history down."""
        self._late.sessions.close()


def _facts(request: Any) -> RequestFacts:
    """Of the executor's own record of a request."""
    end, prompt = request.py_end_id, request.py_orig_prompt_len
    return RequestFacts(
        prompt=prompt,
        end=prompt + request.py_max_new_tokens,
        stops=frozenset() if end is None or end < 0 else frozenset({end}),
    )
