"""Block verification: a chain judged as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from draftwood.draft import Draft
from draftwood.protocols import Rows, Verdict
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import Law
from draftwood.verify.laws import (
    Probabilities,
    proposal_law,
    require_chain,
    require_sampled,
    residual,
    target_law,
)


class BlockVerification:
    """The lossless rule with the longest expected acceptance for one sampled chain.

    After i tokens x_1 ... x_i the weight is w_i = min(1, w_{i-1} p(x_i) / q(x_i)), w_0 = 1. With
    S_i the sum of relu(w_i p - q) over the next token, the first i tokens are kept with chance
    h_i = S_i / (S_i + 1 - w_i), h_L = w_L, the longest success winning; then comes a token of
    norm(relu(w_i p - q)), or of p after the whole chain. The chances are tried from the end of the
    chain, so that no random number is wasted.

    Sun et al. 2025, *Block Verification Accelerates Speculative Decoding* (arXiv 2403.10444),
    algorithm 2. chance, law: as for `SampleAndMatch`.
    """

    lossless = True

    def __init__(self, chance: Chance, law: Law) -> None:
        self._chance = chance
        self._law = law

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The accepted path and the token after it.

        Raises:
            InvalidDraft: for a tree, or tokens that were not sampled.
        """
        require_chain(draft)
        require_sampled(draft)
        tokens = draft.tokens.tolist()
        weights: list[Any] = [1]
        targets = [target_law(self._law, rows, 0, [])]
        proposals: list[Probabilities] = []
        for node, token in enumerate(tokens):
            p, q = targets[node], proposal_law(draft, node, targets[node])
            proposals.append(q)
            weight = min(1, weights[node] * p[token] / q[token])
            if not weight > 0:  # the target never says this, whatever comes after
                break
            weights.append(weight)
            targets.append(target_law(self._law, rows, node + 1, tokens[: node + 1]))
        kept = len(weights) - 1
        if kept == len(tokens):
            if self._chance.accept(weights[kept]):
                return Verdict(draft.path(kept - 1), self._chance.pick(targets[kept]))
            kept -= 1
        while kept and not self._chance.accept(
            self.keep(weights[kept], targets[kept], proposals[kept])
        ):
            kept -= 1
        after = residual(weights[kept] * targets[kept], proposals[kept])
        return Verdict(draft.path(kept - 1), self._chance.pick(after))

    def keep(self, weight: Any, p: Probabilities, q: Probabilities) -> Any:
        """h: the chance of keeping a path of this weight, given that no longer path was kept."""
        left = np.maximum(weight * p - q, 0).sum()
        return left / (left + (1 - weight)) if weight < 1 else 1
