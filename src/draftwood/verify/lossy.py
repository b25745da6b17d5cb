"""Rules that change what is generated. None of them is lossless, and none is ever a default.

They accept drafted tokens that are likely enough for the target, sampled or chosen alike, and keep
the longest accepted path (of equally long ones, that whose last node comes first). Ids beyond the
target's vocabulary are never accepted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from draftwood.draft import ROOT, Draft
from draftwood.errors import InvalidOption
from draftwood.protocols import Rows, Verdict
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import Law
from draftwood.verify.laws import Probabilities, target_law


class TypicalAcceptance:
    """Typical acceptance: a threshold that falls with the target's entropy; not lossless.

    A token x is accepted where p(x) > min(floor, share exp(-H(p))), H being the entropy of p in
    nats; the token after the path is drawn from p. Medusa accepts the first token in any case;
    there it is the target's own, which here the step before has emitted already.

    Cai et al. 2024, *Medusa* (arXiv 2401.10774), section 2.3.1. floor, share: in (0, 1]; epsilon
    and delta of the paper, by default as in its released code.
    """

    lossless = False

    def __init__(
        self, chance: Chance, law: Law, *, floor: float = 0.09, share: float = 0.3
    ) -> None:
        require_share("floor", floor)
        require_share("share", share)
        self._chance = chance
        self._law = law
        self._floor = floor
        self._share = share

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The longest path of likely enough tokens, and a token drawn after it."""

        def accepts(p: Probabilities, token: int) -> bool:
            positive = p[p > 0].astype(np.float64)
            entropy = -float(positive @ np.log(positive))
            return bool(p[token] > min(self._floor, self._share * np.exp(-entropy)))

        return _sampled_after(draft, rows, self._chance, self._law, accepts)


class RelaxedAcceptance:
    """Accept by a token's probability relative to the likeliest one's; not lossless.

    A token x is accepted with probability min(1, p(x) / (strictness max p)); the token after the
    path is drawn from p. Even at strictness 1 the law is not the target's.

    Li et al. 2024, *Nearest Neighbor Speculative Decoding* (arXiv 2405.19325), "relaxed speculative
    decoding". strictness: in (0, 1]; gamma of the paper.
    """

    lossless = False

    def __init__(self, chance: Chance, law: Law, *, strictness: float = 0.5) -> None:
        require_share("strictness", strictness)
        self._chance = chance
        self._law = law
        self._strictness = strictness

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The longest path of accepted tokens, and a token drawn after it."""

        def accepts(p: Probabilities, token: int) -> bool:
            return self._chance.accept(p[token] / (self._strictness * p.max()))

        return _sampled_after(draft, rows, self._chance, self._law, accepts)


class TopBeta:
    """Accept tokens of the target's top `best` that are close to the likeliest; not lossless.

    A token is accepted where fewer than `best` tokens are likelier, and its log-probability is at
    most `gap` below the highest; the token after the path is the likeliest one. best=1 is `Greedy`,
    but for ties, of which it accepts every token.

    Xia et al. 2023, *Speculative Decoding* (arXiv 2203.16487), section 3.2. best: >= 1, beta of the
    paper; gap: nats, >= 0, tau of the paper.
    """

    lossless = False

    def __init__(self, *, best: int = 3, gap: float = 1.0) -> None:
        if best < 1:
            raise InvalidOption(f"best is {best}; use 1 for the likeliest token only, or more")
        if not gap >= 0:
            raise InvalidOption(f"gap is {gap}; use 0 for the likeliest token only, or more")
        self._best = best
        self._gap = gap

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The longest path of good tokens, and the likeliest token after it."""

        def accepts(row: int, token: int) -> bool:
            logits = rows.logits(row)
            if not 0 <= token < len(logits):
                return False
            below = logits.max() - logits[token]
            return bool(below <= self._gap and (logits > logits[token]).sum() < self._best)

        node = _deepest(draft, accepts)
        return Verdict(draft.path(node), int(np.argmax(rows.logits(node + 1))))


def require_share(name: str, value: float) -> None:
    """Check that a value lies in (0, 1].

    Raises:
        InvalidOption: where it does not.
    """
    if not 0 < value <= 1:
        raise InvalidOption(f"{name} is {value}; use a share in (0, 1]")


def _sampled_after(
    draft: Draft,
    rows: Rows,
    chance: Chance,
    law: Law,
    accepts: Callable[[Probabilities, int], bool],
) -> Verdict:
    """The longest accepted path, and a token drawn from p after it."""
    known: dict[int, Probabilities] = {}

    def p_at(row: int) -> Probabilities:
        if row not in known:
            accepted = draft.tokens[draft.path(row - 1)].tolist()
            known[row] = target_law(law, rows, row, accepted)
        return known[row]

    def stands(row: int, token: int) -> bool:
        p = p_at(row)
        return 0 <= token < len(p) and accepts(p, token)

    node = _deepest(draft, stands)
    return Verdict(draft.path(node), chance.pick(p_at(node + 1)))


def _deepest(draft: Draft, accepts: Callable[[int, int], bool]) -> int:
    """The deepest node that is accepted with all before it; ROOT where none is."""
    depth = {ROOT: 0}
    for node, (parent, token) in enumerate(
        zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)
    ):
        if parent in depth and accepts(parent + 1, token):
            depth[node] = depth[parent] + 1
    return max(depth, key=lambda node: (depth[node], -node))
