"""Drafters whose small models are given by path, as specs do: `chain:model=PATH,gamma=8`."""

from __future__ import annotations

import pkgutil
from typing import Any, Final, Literal, TypeAlias

from draftwood.drafters.small.model import ModelChain
from draftwood.drafters.small.overlapped import Overlapped
from draftwood.drafters.small.sampled import Drawing, MultiCandidate
from draftwood.drafters.small.tree import BestFirstTree, SpecInferTree
from draftwood.errors import InvalidSpec, MissingExtra
from draftwood.protocols import DraftModel
from draftwood.sampling.law import Sampling

Auto: TypeAlias = float | Literal["auto"]

LOADER: Final = "draftwood.targets.transformers.draft_model:TransformersDraftModel.load"
"""What reads a small model; imported when the first one is asked for."""


def small_model(path: str, *, device: str | None = None, dtype: str | None = None) -> DraftModel:
    """The small model in a folder, or of a Hub id; device and dtype as for `draftwood.load`.

    Raises:
        MissingExtra, ModelNotFound, InvalidOption: as `draftwood.load`.
        UnsupportedModel: for a model whose cache cannot forget a token.
    """
    try:
        loader: Any = pkgutil.resolve_name(LOADER)
    except ImportError as error:
        raise MissingExtra(
            f"running a small model needs {error.name or 'torch'}, which is not installed; "
            "run: pip install 'draftwood[hf]'"
        ) from error
    model: DraftModel = loader(path, device=device, dtype=dtype)
    return model


def chain(
    *,
    model: str,
    gamma: int = 16,
    gain: Auto = "auto",
    device: str | None = None,
    dtype: str | None = None,
) -> ModelChain:
    """A `ModelChain`: `chain:model=PATH`."""
    return ModelChain(small_model(model, device=device, dtype=dtype), gamma=gamma, gain=gain)


def specinfer(
    *,
    model: str,
    widths: str = "4x2x1x1",
    gain: Auto = "auto",
    device: str | None = None,
    dtype: str | None = None,
) -> SpecInferTree:
    """A `SpecInferTree`; `+` parts paths of several models: `specinfer:model=A+B,widths=4x2`."""
    models = [small_model(path, device=device, dtype=dtype) for path in model.split("+")]
    return SpecInferTree(models, widths=read_widths(widths), gain=gain)


def bestfirst(
    *,
    model: str,
    nodes: int = 32,
    top_k: int = 4,
    width: int = 8,
    passes: int = 16,
    floor: float = 0.05,
    gain: Auto = "auto",
    device: str | None = None,
    dtype: str | None = None,
) -> BestFirstTree:
    """A `BestFirstTree`: `bestfirst:model=PATH,nodes=32`."""
    small = small_model(model, device=device, dtype=dtype)
    return BestFirstTree(
        small, nodes=nodes, top_k=top_k, width=width, passes=passes, floor=floor, gain=gain
    )


def overlapped(
    *,
    model: str,
    ahead: int = 8,
    least: int = 1,
    device: str | None = None,
    dtype: str | None = None,
) -> Overlapped:
    """An `Overlapped`, best with a device of its own: `overlapped:model=PATH,device=cuda:1`."""
    small = small_model(model, device=device, dtype=dtype)
    return Overlapped(small, ahead=ahead, least=least)


def sampled(
    *,
    model: str,
    widths: str = "3x1x1",
    draw: Drawing = "distinct",
    gain: Auto = 0.0,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    device: str | None = None,
    dtype: str | None = None,
) -> MultiCandidate:
    """A `MultiCandidate`, its q of the given temperature, top-k and top-p."""
    return MultiCandidate(
        small_model(model, device=device, dtype=dtype),
        widths=read_widths(widths),
        draw=draw,
        law=Sampling(temperature, top_k, top_p),
        chance=seed,
        gain=gain,
    )


def read_widths(text: str) -> tuple[int, ...]:
    """An expansion configuration from `4x2x1`.

    Raises:
        InvalidSpec: for anything but numbers with `x` between them.
    """
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise InvalidSpec(
            f"widths={text} are none; write the candidates a level as 4x2x1"
        ) from None
