"""All drafters that a spec can name, each with the factory that makes it.

A factory's keyword parameters, with their types and defaults, are the options of the spec; the
first line of its docstring says what the drafter is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from draftwood.budget.calibration import Calibrated, calibrated
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.mix.blend import Blend
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.mix.ouroboros import Ouroboros
from draftwood.drafters.none import NoDraft
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.recycled import RecycledDrafter
from draftwood.drafters.small.grow import MergedDrafter, ModelDrafter
from draftwood.drafters.small.overlapped import Overlapped
from draftwood.drafters.small.sampled import Drawing, MultiCandidate
from draftwood.drafters.small.seat import DraftModel
from draftwood.drafters.small.shapes import Shape, read_widths
from draftwood.drafters.spec import build, parse
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.drafters.trigram import TrigramDrafter
from draftwood.errors import InvalidSpec, MissingExtra
from draftwood.protocols import Drafter
from draftwood.sampling.law import Sampling

Auto: TypeAlias = float | Literal["auto"]


def make_drafter(spec: str) -> Drafter:
    """A new drafter from its spec, such as `suffix` or `lookup:max_ngram=3,nodes=16`.

    Raises:
        InvalidSpec: for an unknown name, option or value; the message lists the valid ones.
        InvalidOption: for a value outside the drafter's limits.
    """
    drafter: Drafter = build(spec, DRAFTERS)
    return drafter


@dataclass(frozen=True, slots=True, eq=False)
class PricedDrafter:
    """What a spec names: a drafter, and what it says about the cost of verification.

    cost: the part of a plain step that a drafted token adds, "auto" where it is to be measured;
    None: drafts are not cut to what pays. With a cost, the drafter's confidence is calibrated.
    """

    drafter: Drafter
    cost: Auto | None = None


def make_priced_drafter(spec: str, *, cost: Auto | None = None) -> PricedDrafter:
    """A drafter from its spec, in which any drafter may have the option `cost`.

    `recall:cost=auto`, `suffix:mode=tree,cost=0.01` or `lookup:cost=none`, for example.
    `Spending.of(priced.cost)` is the matching spender; see docs/budgets.md. With a cost, Recall's
    own limits are by default wide (`SPENDING`), since drafts are cut afterwards.

    cost: where the spec says nothing about it. `none` drafts nothing, so that it has a cost only
    where its spec says so.

    Raises:
        InvalidSpec: as `make_drafter`, and for a cost that is not "auto", "none", or 0 or more.
    """
    parsed = parse(spec)
    written = parsed.options.get("cost")
    if written is not None:
        cost = _cost(written, spec)
    elif parsed.name == "none":
        cost = None
    given = dict(parsed.options)
    if cost is not None:
        given = {**SPENDING.get(parsed.name, {}), **given}
    options = ",".join(f"{key}={value}" for key, value in given.items() if key != "cost")
    drafter = make_drafter(f"{parsed.name}:{options}")
    return PricedDrafter(drafter if cost is None else spendable(drafter), cost)


def spendable(drafter: Drafter) -> Drafter:
    """The drafter with calibrated confidence; the same object where its confidence already is."""
    return drafter if isinstance(drafter, ESTIMATING) else calibrated(drafter)


def _cost(written: str, spec: str) -> Auto | None:
    if written == "auto":
        return "auto"
    if written.lower() == "none":
        return None
    try:
        part = float(written)
    except ValueError:
        part = -1.0
    if not 0.0 <= part < float("inf"):
        raise InvalidSpec(
            f"cost={written} in spec {spec!r} is no cost; use auto, none, or 0.01 of a step"
        )
    return part


def small_model(path: str, *, device: str | None = None, dtype: str | None = None) -> DraftModel:
    """The small model in a folder, or of a Hub id; device and dtype as for `draftwood.load`.

    Raises:
        DraftwoodError: what `draftwood.load` raises for a model that cannot be loaded.
        UnsupportedModel: for a model whose cache cannot forget a token.
    """
    try:
        from draftwood.targets.transformers.draft_model import TransformersDraftModel
    except ImportError as error:
        raise MissingExtra(
            f"running a small model needs {error.name or 'torch'}, which is not installed; "
            "run: pip install 'draftwood[hf]'"
        ) from error
    return TransformersDraftModel.load(path, device=device, dtype=dtype)


def make_hybrid(*, first: str = "suffix", other: str = "lookup", tau: Auto = "auto") -> Hybrid:
    """The first drafter's draft where it expects enough accepted tokens, else the other's.

    `hybrid:first=suffix:mode=tree;nodes=16,other=lookup,tau=2`: in the specs of the two, `;` parts
    the options. tau: accepted tokens that are enough, see `Hybrid`.
    """
    made = (make_drafter(spec.replace(";", ",")) for spec in (first, other))
    return Hybrid(*made, tau=tau)


def make_blend(
    *, first: str = "recall", other: str = "recycled", third: str | None = None, nodes: int = 32
) -> Blend:
    """Two or three drafters in one tree: each slot goes to the node that is worth most.

    `blend:first=recall,other=bestfirst:model=PATH;nodes=16,third=recycled`: in their specs, `;`
    parts the options. nodes: the largest draft.
    """
    specs = [spec for spec in (first, other, third) if spec is not None]
    return Blend([make_drafter(spec.replace(";", ",")) for spec in specs], nodes=nodes)


def make_chain(
    *,
    model: str,
    gamma: int = 16,
    gain: Auto = "auto",
    device: str | None = None,
    dtype: str | None = None,
) -> ModelDrafter:
    """A small model's likeliest token, then the likeliest after it, and so on.

    `chain:model=PATH`. model: a folder or a Hub id. gamma: the longest chain. gain: accepted
    tokens that one more pass of the small model must promise, 0: always `gamma` tokens, auto: what
    its time is worth. device, dtype: of the small model; none: as for the target.
    """
    small = small_model(model, device=device, dtype=dtype)
    return ModelDrafter(small, Shape.chain(gamma), gain=gain)


def make_specinfer(
    *,
    model: str,
    widths: str = "4x2x1x1",
    gain: Auto = "auto",
    device: str | None = None,
    dtype: str | None = None,
) -> ModelDrafter | MergedDrafter:
    """SpecInfer's tree: so many candidates a level, from one small model or several merged.

    `specinfer:model=A+B,widths=4x2`: `+` parts the paths of several models. gain, device, dtype:
    as for `chain`.
    """
    shape = Shape.expansion(read_widths(widths))
    models = [small_model(path, device=device, dtype=dtype) for path in model.split("+")]
    drafters = [ModelDrafter(small, shape, gain=gain) for small in models]
    return drafters[0] if len(drafters) == 1 else MergedDrafter(drafters)


def make_bestfirst(
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
) -> ModelDrafter:
    """A small model's dynamic tree: each pass extends the likeliest paths found so far.

    `bestfirst:model=PATH,nodes=32`. nodes: the largest draft. top_k: candidates after a node.
    width: nodes a pass. passes: at most. floor: paths less likely are not drafted. gain, device,
    dtype: as for `chain`.
    """
    shape = Shape.best_first(nodes=nodes, top_k=top_k, width=width, passes=passes, floor=floor)
    return ModelDrafter(small_model(model, device=device, dtype=dtype), shape, gain=gain)


def make_sampled(
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
    """A tree sampled from a small model, for the rules that ask how a draft was drawn.

    `sampled:model=PATH,widths=2x2,draw=hub`. widths: candidates a level. draw: how siblings are
    drawn. seed, temperature, top_k, top_p: of the drawing. gain, device, dtype: as for `chain`.
    """
    return MultiCandidate(
        small_model(model, device=device, dtype=dtype),
        widths=read_widths(widths),
        draw=draw,
        law=Sampling(temperature, top_k, top_p),
        chance=seed,
        gain=gain,
    )


def make_overlapped(
    *,
    model: str,
    ahead: int = 8,
    least: int = 1,
    device: str | None = None,
    dtype: str | None = None,
) -> Overlapped:
    """A small model's chain, drafted while the target verifies; best on a device of its own.

    `overlapped:model=PATH,device=cuda:1`. ahead: the most tokens beyond the committed text. least:
    tokens that a draft waits for. device, dtype: as for `chain`.
    """
    small = small_model(model, device=device, dtype=dtype)
    return Overlapped(small, ahead=ahead, least=least)


def make_gsd(
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
) -> ModelDrafter:
    """A small model's token graph (GSD): repeated runs of tokens are drafted once.

    `gsd:model=PATH,overlap=0`. top_k: candidates after a node. siblings: those less likely than
    this share of the likeliest are dropped. probability: paths less likely are not passed through
    the model. overlap: equal tokens before an equal token that make two runs one; none: a tree.
    width: nodes a pass. levels: passes. nodes: the largest draft. gain, device, dtype: as for
    `chain`.
    """
    shape = Shape.gsd(
        top_k=top_k,
        siblings=siblings,
        probability=probability,
        overlap=overlap,
        width=width,
        levels=levels,
        nodes=nodes,
    )
    return ModelDrafter(small_model(model, device=device, dtype=dtype), shape, gain=gain)


def make_cape(
    *,
    model: str,
    levels: int = 16,
    gain: Auto = "auto",
    nodes: int = 32,
    device: str | None = None,
    dtype: str | None = None,
) -> ModelDrafter:
    """A small model's chain with more siblings where the model is less sure (CaPE).

    `cape:model=PATH`. levels: the longest path. nodes: the largest draft. gain, device, dtype: as
    for `chain`.
    """
    small = small_model(model, device=device, dtype=dtype)
    return ModelDrafter(small, Shape.cape(levels=levels, nodes=nodes), gain=gain)


def make_ouroboros(
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
    """A small model's chain, lengthened by phrases that the target wrote before (Ouroboros).

    `ouroboros:model=PATH,length=6`. gamma: the longest chain. length: tokens of a phrase. each:
    phrases kept after a token. tips: ends of the draft that are lengthened. gain, device, dtype: as
    for `chain`.
    """
    small = small_model(model, device=device, dtype=dtype)
    chain = ModelDrafter(small, Shape.chain(gamma), gain=gain)
    return Ouroboros(chain, length=length, each=each, tips=tips)


DRAFTERS: Final[Mapping[str, Callable[..., Drafter]]] = {
    "recall": RecallDrafter,
    "suffix": SuffixDrafter,
    "lookup": PromptLookup,
    "trigram": TrigramDrafter,
    "recycled": RecycledDrafter,
    "blend": make_blend,
    "hybrid": make_hybrid,
    "chain": make_chain,
    "specinfer": make_specinfer,
    "bestfirst": make_bestfirst,
    "sampled": make_sampled,
    "overlapped": make_overlapped,
    "gsd": make_gsd,
    "cape": make_cape,
    "ouroboros": make_ouroboros,
    "none": NoDraft,
}
"""Spec name -> its factory."""

ESTIMATING: Final = (RecallDrafter, RecycledDrafter, Blend, NoDraft, Calibrated)
"""Drafters whose confidence is an estimate of acceptance as it is."""

SPENDING: Final = {"recall": {"nodes": "64", "floor": "0.001"}}
"""Options of drafters whose drafts are cut to what pays, where a spec does not give them."""
