"""All drafters that a spec can name."""

from __future__ import annotations

from typing import Final, Literal

from draftwood.drafters.hybrid import Hybrid
from draftwood.protocols import Drafter
from draftwood.spec import build

DRAFTERS: Final = {
    "recall": "draftwood.drafters.recall:RecallDrafter",
    "suffix": "draftwood.drafters.suffix:SuffixDrafter",
    "lookup": "draftwood.drafters.lookup:PromptLookup",
    "hybrid": "draftwood.drafters.catalog:make_hybrid",
    "none": "draftwood.drafters.none:NoDraft",
}
"""Spec name -> where its factory lives; imported when first asked for."""


def make_drafter(spec: str) -> Drafter:
    """A new drafter from its spec, such as `suffix` or `lookup:max_ngram=3,nodes=16`.

    Raises:
        InvalidSpec: for an unknown name, option or value; the message lists the valid ones.
        InvalidOption: for a value outside the drafter's limits.
    """
    drafter: Drafter = build(spec, DRAFTERS)
    return drafter


def make_hybrid(
    *, first: str = "suffix", other: str = "lookup", tau: float | Literal["auto"] = "auto"
) -> Hybrid:
    """Two drafters by their specs, in which `;` parts the options.

    `hybrid:first=suffix:mode=tree;nodes=16,other=lookup,tau=2`, for example. tau: see `Hybrid`.
    """
    made = (make_drafter(spec.replace(";", ",")) for spec in (first, other))
    return Hybrid(*made, tau=tau)
