"""Presence and frequency penalties, as OpenAI's API defines them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds


@dataclass(frozen=True, slots=True)
class CountPenalty:
    """A logits processor: what the text holds already becomes less likely.

    A token's logit falls by `presence` where the text after the prompt holds it, and by `frequency`
    for each time. prompt_tokens: length of the prompt, whose tokens are not counted.
    """

    presence: float
    frequency: float
    prompt_tokens: int

    def __call__(self, ids: TokenIds, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits [V], lowered in place."""
        tokens, counts = np.unique(ids[self.prompt_tokens :], return_counts=True)
        logits[tokens] -= self.presence + self.frequency * counts.astype(np.float32)
        return logits
