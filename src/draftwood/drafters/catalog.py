"""All drafters that a spec can name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from draftwood.budget.calibration import Calibrated, calibrated
from draftwood.drafters.mix.blend import Blend
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.none import NoDraft
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.recycled import RecycledDrafter
from draftwood.drafters.spec import build, parse
from draftwood.errors import InvalidSpec
from draftwood.protocols import Drafter

DRAFTERS: Final = {
    "recall": "draftwood.drafters.recall:RecallDrafter",
    "suffix": "draftwood.drafters.suffix:SuffixDrafter",
    "lookup": "draftwood.drafters.lookup:PromptLookup",
    "trigram": "draftwood.drafters.trigram:TrigramDrafter",
    "recycled": "draftwood.drafters.recycled:RecycledDrafter",
    "blend": "draftwood.drafters.catalog:make_blend",
    "hybrid": "draftwood.drafters.catalog:make_hybrid",
    "chain": "draftwood.drafters.small.by_path:chain",
    "specinfer": "draftwood.drafters.small.by_path:specinfer",
    "bestfirst": "draftwood.drafters.small.by_path:bestfirst",
    "sampled": "draftwood.drafters.small.by_path:sampled",
    "overlapped": "draftwood.drafters.small.by_path:overlapped",
    "gsd": "draftwood.drafters.small.graph_by_path:gsd",
    "cape": "draftwood.drafters.small.graph_by_path:cape",
    "ouroboros": "draftwood.drafters.small.graph_by_path:ouroboros",
    "none": "draftwood.drafters.none:NoDraft",
}
"""Spec name -> where its factory lives; imported when first asked for."""

ESTIMATING: Final = (RecallDrafter, RecycledDrafter, Blend, NoDraft, Calibrated)
"""Drafters whose confidence is an estimate of acceptance as it is."""

SPENDING: Final = {"recall": {"nodes": "64", "floor": "0.001"}}
"""Options of drafters whose drafts are cut to what pays, where a spec does not give them."""


def make_drafter(spec: str) -> Drafter:
    """A new drafter from its spec, such as `suffix` or `lookup:max_ngram=3,nodes=16`.

    Raises:
        InvalidSpec: for an unknown name, option or value; the message lists the valid ones.
        InvalidOption: for a value outside the drafter's limits.
    """
    drafter: Drafter = build(spec, DRAFTERS)
    return drafter


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A drafter, and what its spec says about the cost of verification.

    cost: the part of a plain step that a drafted token adds, "auto" where it is to be measured;
    None: drafts are not cut to what pays. With a cost, the drafter's confidence is calibrated.
    """

    drafter: Drafter
    cost: float | Literal["auto"] | None = None


def make_service(spec: str, *, cost: float | Literal["auto"] | None = None) -> Service:
    """A drafter from its spec, in which any drafter may have the option `cost`.

    `recall:cost=auto`, `suffix:mode=tree,cost=0.01` or `lookup:cost=none`, for example.
    `Spending.of(service.cost)` is what spends the drafts; see docs/budgets.md. With a cost,
    Recall's own limits are by default wide ones (`SPENDING`), since the cut is made afterwards.

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
    return Service(drafter if cost is None else spendable(drafter), cost)


def spendable(drafter: Drafter) -> Drafter:
    """The drafter with confidence that is an estimate of acceptance; itself where it is so."""
    return drafter if isinstance(drafter, ESTIMATING) else calibrated(drafter)


def _cost(written: str, spec: str) -> float | Literal["auto"] | None:
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


def make_hybrid(
    *, first: str = "suffix", other: str = "lookup", tau: float | Literal["auto"] = "auto"
) -> Hybrid:
    """Two drafters by their specs, in which `;` parts the options.

    `hybrid:first=suffix:mode=tree;nodes=16,other=lookup,tau=2`, for example. tau: see `Hybrid`.
    """
    made = (make_drafter(spec.replace(";", ",")) for spec in (first, other))
    return Hybrid(*made, tau=tau)


def make_blend(
    *, first: str = "recall", other: str = "recycled", third: str | None = None, nodes: int = 32
) -> Blend:
    """Two or three drafters by their specs, in which `;` parts the options; see `Blend`.

    `blend:first=recall,other=bestfirst:model=PATH;nodes=16,third=recycled`, for example.
    """
    specs = [spec for spec in (first, other, third) if spec is not None]
    return Blend([make_drafter(spec.replace(";", ",")) for spec in specs], nodes=nodes)
