"""Draftwood: the same text in fewer steps, from any language model, without training.

    import draftwood as dw
    llm = dw.load("path/or/hub-id")
    for piece in llm.stream("Rewrite this file ...", max_tokens=256):
        print(piece, end="", flush=True)
    print(llm.stats)

`load` brings a model and a drafter together. Below it: `decode` is the loop; `Draft` is what a
drafter proposes; `Drafter`, `Target` and `Verifier` are what to implement to bring your own.
"""

from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, Draft, TokenIds, as_tokens
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.load import load
from draftwood.protocols import (
    Cursor,
    Drafter,
    Feedback,
    Rows,
    Seconds,
    Step,
    Stream,
    Target,
    Verdict,
    Verifier,
)
from draftwood.sampling.chance import Chance, SeededChance
from draftwood.sampling.law import Sampling
from draftwood.stats import Stats
from draftwood.targets.replay import ReplayTarget
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel
from draftwood.verify.match import SampleAndMatch

__all__ = [
    "ROOT",
    "Budget",
    "Chance",
    "Cursor",
    "Draft",
    "Drafter",
    "Feedback",
    "Greedy",
    "GumbelNoise",
    "Hybrid",
    "PromptLookup",
    "ReplayTarget",
    "Request",
    "Rows",
    "SampleAndMatch",
    "Sampling",
    "Seconds",
    "SeededChance",
    "SharedGumbel",
    "Stats",
    "Step",
    "Stop",
    "Stream",
    "SuffixDrafter",
    "Target",
    "TokenIds",
    "TransformersTarget",
    "Verdict",
    "Verifier",
    "as_tokens",
    "decode",
    "decode_batch",
    "load",
]


def __getattr__(name: str) -> object:
    """`TransformersTarget` imports torch, and so only when it is asked for."""
    if name == "TransformersTarget":
        from draftwood.targets.transformers.target import TransformersTarget

        return TransformersTarget
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
