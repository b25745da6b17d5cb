"""Prometheus metrics of an engine's drafting, beside vLLM's own, on vLLM's `/metrics`.

vLLM counts what it verifies itself (`vllm:spec_decode_num_*`). These say what only the drafter
knows, by source and batch size:

    rate(draftwood_accepted_tokens_total[5m]) / rate(draftwood_drafted_tokens_total[5m])
    rate(draftwood_draft_seconds_total[5m]) / rate(draftwood_steps_total[5m])    # seconds a step

The engine publishes its figures every `flush_seconds` in a file of the machine (housekeeping.py);
they are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from vllm.v1.metrics.loggers import StatLoggerBase

from draftwood.serving.housekeeping import read_figures

COUNTERS = {
    "steps": "Passes with a request that may be drafted for",
    "rows": "Requests in them",
    "tokens": "Tokens that they brought",
    "requests": "Requests that may be drafted for",
    "private_requests": "Requests that shared nothing",
    "draft_seconds": "Seconds spent in drafting",
}
GAUGES = {
    "running": "Requests that are known now",
    "namespaces": "Namespaces that were seen",
    "history_tokens": "Tokens of shared history",
    "history_capacity": "Most tokens of shared history",
    "history_bytes": "Bytes of shared history",
    "seconds_saved": "Seconds saved so far against passes without drafts, as they are timed now",
}


class DraftwoodCollector:
    """What Prometheus asks for the metrics of one vLLM instance."""

    def __init__(self, instance: str) -> None:
        self.instance = instance

    def collect(self) -> Iterator[Metric]:
        """All metrics, with a label for the engine of each data-parallel rank."""
        reports = read_figures(self.instance)
        for name, said in COUNTERS.items():
            yield _family(CounterMetricFamily, name, said, reports)
        for name, said in GAUGES.items():
            yield _family(GaugeMetricFamily, name, said, reports)
        for name, said in (("drafted", "Tokens drafted"), ("accepted", "Drafted tokens accepted")):
            yield _labelled(
                CounterMetricFamily, f"{name}_tokens", f"{said}, by source", "source", reports, name
            )
        yield _labelled(CounterMetricFamily, "errors", "Errors", "kind", reports, "errors")
        for name, said in (
            ("drafting", "1 where drafts pay at this batch size, 0 where they are switched off"),
            ("speedup", "Estimated speed-up over plain decoding"),
        ):
            family = GaugeMetricFamily(f"draftwood_{name}", said, labels=["engine", "batch"])
            for rank, report in reports.items():
                for batch, state in report["budget"].items():
                    family.add_metric([rank, batch], float(state[name]))
            yield family


class StatLogger(StatLoggerBase):  # type: ignore[misc]  # vLLM has no types here
    """Registers the metrics where vLLM serves; loaded by the group `vllm.stat_logger_plugins`."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        register(vllm_config.instance_id)

    def record(self, *_: Any, **__: Any) -> None:
        """Nothing: the figures are the engine's own."""

    def log_engine_initialized(self) -> None:
        """Nothing: the engine logs its own line."""


def register(instance: str) -> None:
    """Let Prometheus ask for an instance's metrics, once a process."""
    if instance not in _registered:
        REGISTRY.register(DraftwoodCollector(instance))
        _registered.add(instance)


_registered: set[str] = set()


def _family(kind: Any, name: str, said: str, reports: dict[str, dict[str, Any]]) -> Any:
    family = kind(f"draftwood_{name}", said, labels=["engine"])
    for rank, report in reports.items():
        family.add_metric([rank], float(report[name]))
    return family


def _labelled(
    kind: Any, name: str, said: str, label: str, reports: dict[str, dict[str, Any]], field: str
) -> Any:
    family = kind(f"draftwood_{name}", said, labels=["engine", label])
    for rank, report in reports.items():
        for value, count in report[field].items():
            family.add_metric([rank, value], float(count))
    return family
