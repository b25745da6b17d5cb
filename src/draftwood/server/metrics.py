"""Figures for Prometheus, under the names that vLLM gave them, plus where drafts came from.

Acceptance rate of the last five minutes, and mean acceptance length (the target's own token
included):

    rate(vllm:spec_decode_num_accepted_tokens_total[5m])
        / rate(vllm:spec_decode_num_draft_tokens_total[5m])
    1 + rate(vllm:spec_decode_num_accepted_tokens_total[5m])
        / rate(vllm:spec_decode_num_drafts_total[5m])

Accepted tokens by source: `sum by (source) (rate(draftwood:accepted_tokens_total[5m]))`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from draftwood.language_model.generation import Generation
from draftwood.sources import source_of
from draftwood.stats import Stats
from draftwood.step import Step

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_POSITIONS: Final = 32
"""Positions of a draft that have a figure of their own; deeper ones are counted at the last."""


class ServerMetrics:
    """The figures of one server, in a registry of its own. model: the label `model_name`."""

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        labels = {"model_name": model}

        def counter(name: str, says: str, *more: str) -> Any:
            made = Counter(name, says, ["model_name", *more], registry=self._registry)
            return made if more else made.labels(**labels)

        def gauge(name: str, says: str) -> Gauge:
            return Gauge(name, says, list(labels), registry=self._registry).labels(**labels)

        def seconds(name: str, says: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            made = Histogram(name, says, list(labels), registry=self._registry, buckets=buckets)
            return made.labels(**labels)

        self._model = model
        self._running = gauge("vllm:num_requests_running", "Texts that share passes now.")
        self._waiting = gauge("vllm:num_requests_waiting", "Texts that wait for a seat.")
        self._prompt = counter("vllm:prompt_tokens", "Prompt tokens of finished texts.")
        self._generated = counter("vllm:generation_tokens", "Generated tokens.")
        self._success = counter(
            "vllm:request_success", "Texts that ended, by how.", "finished_reason"
        )
        self._refused = counter("draftwood:requests_refused", "Requests refused with 429.")
        self._first = seconds("vllm:time_to_first_token_seconds", "From admission to text.")
        self._token = seconds(
            "vllm:inter_token_latency_seconds", "Seconds a token, by step.", _TOKEN_SECONDS
        )
        self._whole = seconds("vllm:e2e_request_latency_seconds", "From admission to the end.")
        self._drafts = counter("vllm:spec_decode_num_drafts", "Steps that had a draft.")
        self._drafted = counter("vllm:spec_decode_num_draft_tokens", "Drafted tokens.")
        self._accepted = counter("vllm:spec_decode_num_accepted_tokens", "Accepted tokens.")
        self._positions = counter(
            "vllm:spec_decode_num_accepted_tokens_per_pos",
            "Steps whose accepted path reaches this position, from 0.",
            "position",
        )
        self._by_source = counter("draftwood:draft_tokens", "Drafted tokens.", "source")
        self._accepted_by_source = counter("draftwood:accepted_tokens", "Accepted.", "source")

    def stepped(self, step: Step, *, since: float, last: float | None, now: float) -> None:
        """Count a step of one text. since: its admission; last: its step before this one."""
        self._generated.inc(len(step.tokens))
        if last is None:
            self._first.observe(now - since)
        elif len(step.tokens):
            self._token.observe((now - last) / len(step.tokens))
        draft, path = step.draft, step.verdict.path
        if not len(draft):
            return
        self._drafts.inc()
        self._drafted.inc(len(draft))
        self._accepted.inc(len(path))
        for position in range(len(path)):
            shown = str(min(position, _POSITIONS - 1))
            self._positions.labels(self._model, shown).inc()
        for counter, numbers in (
            (self._by_source, draft.source),
            (self._accepted_by_source, draft.source[path]),
        ):
            for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
                counter.labels(self._model, str(source_of(int(number)))).inc(int(count))

    def finished(self, generation: Generation, seconds: float) -> None:
        """Count a text that ended."""
        self._prompt.inc(generation.prompt_tokens)
        self.ended(generation.finish or "abort", seconds)

    def ended(self, finish: str, seconds: float) -> None:
        """Count an end. finish: as in `Generation`, or "abort": the client went away."""
        self._success.labels(self._model, finish).inc()
        self._whole.observe(seconds)

    def refused(self) -> None:
        """Count a request that found the queue full."""
        self._refused.inc()

    def queue(self, *, running: int, waiting: int) -> None:
        """Say how many run and wait."""
        self._running.set(running)
        self._waiting.set(waiting)

    def page(self) -> bytes:
        """What Prometheus reads."""
        page: bytes = generate_latest(self._registry)
        return page


def speculation(stats: Stats) -> dict[str, Any]:
    """The figures of one request, under the keys that vLLM gives them (`speculative_decoding`).

    mean_acceptance_length includes the target's own token; acceptance_histogram[k]: steps with a
    draft of which k tokens were accepted.
    """
    reached = [stats.drafting_steps, *stats.accepted_by_position, 0]
    histogram = [here - beyond for here, beyond in pairwise(reached)]
    drafts = stats.drafting_steps
    return {
        "mean_acceptance_length": 1 + stats.accepted / drafts if drafts else 1.0,
        "draft_acceptance_rate": stats.acceptance_rate,
        "acceptance_histogram": histogram,
        "num_spec_steps": drafts,
        "num_accepted_draft_tokens": stats.accepted,
        "num_draft_tokens": stats.drafted,
    }
