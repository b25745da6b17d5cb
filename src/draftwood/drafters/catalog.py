"""All drafters that a spec can name."""

from __future__ import annotations

from typing import Final

from draftwood.protocols import Drafter
from draftwood.spec import build

DRAFTERS: Final = {
    "suffix": "draftwood.drafters.suffix:SuffixDrafter",
    "lookup": "draftwood.drafters.lookup:PromptLookup",
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
