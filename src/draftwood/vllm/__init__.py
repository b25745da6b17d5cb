"""Draftwood inside vLLM: two doors, each a thin adapter over `Sessions`.

    vllm serve MODEL --speculative-config \
        '{"model": "draftwood.vllm.Proposer", "num_speculative_tokens": 24}'

`Proposer` is a class that vLLM's runner asks for drafts; `Scheduler` is vLLM's scheduler, which
asks by itself (`--scheduler-cls draftwood.vllm.Scheduler`). docs/vllm.md says the rest. Importing
this package imports nothing of vLLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from draftwood.errors import MissingExtra
from draftwood.vllm.proposer import Proposer

if TYPE_CHECKING:
    from draftwood.vllm.scheduler import Scheduler

__all__ = ["Proposer", "Scheduler"]


def __getattr__(name: str) -> Any:
    """`Scheduler` derives from vLLM's, which is imported when it is first asked for."""
    if name == "Scheduler":
        try:
            from draftwood.vllm.scheduler import Scheduler
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"the scheduler needs {error.name}, which is not installed; "
                "run: pip install 'draftwood[vllm]'"
            ) from error
        return Scheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
