"""The settings that advice compares, and the engines that can run them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Candidate:
    """A drafter by its spec. engines: those that can run it, the first one by preference."""

    spec: str
    engines: tuple[str, ...]


_TREES = ("draftwood", "sglang")
_CHAINS = ("vllm", *_TREES)

CANDIDATES: Final[tuple[Candidate, ...]] = (
    Candidate("recall:cost=auto", _TREES),
    Candidate("recall", _TREES),
    Candidate("recall:mode=chain,cost=auto", _CHAINS),
    Candidate("suffix:mode=tree,alpha=4,floor=0,nodes=32,cost=auto", _TREES),
    Candidate("suffix:mode=linear", ("vllm-suffix", *_CHAINS)),
    Candidate("hybrid:first=recall,other=lookup,cost=auto", _TREES),
    Candidate("lookup:nodes=5", ("vllm-ngram", "llama.cpp", "sglang-ngram", *_CHAINS)),
)
"""Trees, trees cut to what pays, the chain that vLLM can verify, and what engines have built in."""


def with_others(specs: Sequence[str]) -> tuple[Candidate, ...]:
    """The candidates, and those of a user. What a spec drafts is not known, so engines are ours."""
    known = {each.spec for each in CANDIDATES}
    return (*CANDIDATES, *(Candidate(each, _TREES) for each in specs if each not in known))
