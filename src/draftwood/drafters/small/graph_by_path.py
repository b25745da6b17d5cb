"""The graph's drafters with their small model given by path, as specs do: `gsd:model=PATH`."""

from __future__ import annotations

from draftwood.drafters.mix.ouroboros import Ouroboros
from draftwood.drafters.small.by_path import Auto, small_model
from draftwood.drafters.small.graph import GraphDrafter
from draftwood.drafters.small.model import ModelChain
from draftwood.drafters.small.widen import Widening


def gsd(
    *,
    model: str,
    top_k: int = 4,
    siblings: float = 0.3,
    probability: float = 0.1,
    overlap: int | None = 1,
    width: int = 16,
    levels: int = 16,
    gain: Auto = "auto",
    nodes: int = 32,
    device: str | None = None,
    dtype: str | None = None,
) -> GraphDrafter:
    """A `GraphDrafter`: `gsd:model=PATH,overlap=0`."""
    return GraphDrafter(
        small_model(model, device=device, dtype=dtype),
        top_k=top_k,
        siblings=siblings,
        probability=probability,
        overlap=overlap,
        width=width,
        levels=levels,
        gain=gain,
        nodes=nodes,
    )


def cape(
    *,
    model: str,
    levels: int = 16,
    gain: Auto = "auto",
    nodes: int = 32,
    device: str | None = None,
    dtype: str | None = None,
) -> GraphDrafter:
    """A chain that is widened where the small model is less sure: `cape:model=PATH`.

    GliDe's way of using the rule: one node a pass, its siblings left to the target (`Widening`).
    """
    return GraphDrafter(
        small_model(model, device=device, dtype=dtype),
        top_k=Widening(),
        siblings=0.0,
        probability=0.0,
        overlap=None,
        width=1,
        levels=levels,
        gain=gain,
        nodes=nodes,
    )


def ouroboros(
    *,
    model: str,
    gamma: int = 8,
    gain: Auto = "auto",
    length: int = 4,
    each: int = 3,
    tips: int = 1,
    device: str | None = None,
    dtype: str | None = None,
) -> Ouroboros:
    """A small model's chain, lengthened by phrases: `ouroboros:model=PATH,length=6`."""
    small = small_model(model, device=device, dtype=dtype)
    chain = ModelChain(small, gamma=gamma, gain=gain)
    return Ouroboros(chain, length=length, each=each, tips=tips)
