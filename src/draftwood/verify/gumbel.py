"""Seeded sampling by shared Gumbel noise: the same seed, the same text, whatever is drafted.

    token at position t = argmax over v of  log law(v) + g[t, v]         g: one fixed table a seed

The token with the largest sum of log-weight and independent Gumbel noise is a draw from the law
(the Gumbel-max trick: Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030, section 2), so the text
has the law of plain sampling. The table depends on the seed only, not on the draft: the token at a
position follows from the text before it, and a draft can only predict it rightly or wrongly.
"""

from __future__ import annotations

import math
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draftwood.draft import Draft
from draftwood.errors import InvalidOption
from draftwood.protocols import Rows, Verdict
from draftwood.sampling.chance import Weights
from draftwood.sampling.law import Law
from draftwood.verify.match import follow, seen

WORD: Final = (1 << 64) - 1
GAMMA: Final = 0x9E3779B97F4A7C15
"""2**64 / golden ratio: the step of a SplitMix64 stream."""

MIX: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""Shifts and factors of its finalizer, which ends with a shift by 31."""

BLOCK: Final = 8192
"""Tokens whose noise is computed at a time: what fits a core's cache."""

HOPELESS: Final = 1e-18
"""Tokens below this share of the likeliest token's weight cannot win: -3.61 < g < 36.74."""

SLACK: Final = 1 + 1e-9
"""Covers the rounding of a bound."""


class Noise(Protocol):
    """Randomness indexed by position: one draw a position, independent between positions."""

    def pick(self, position: int, weights: Weights) -> int:
        """An index drawn in proportion to the weights; the same one for the same arguments."""


class GumbelNoise:
    """The table g[position, token] of a seed: standard Gumbel numbers, each computed when needed.

    The bits of a row are a SplitMix64 stream (Steele, Lea and Flood, OOPSLA 2014): with `mix` its
    finalizer, all arithmetic modulo 2**64,

        key  = mix(mix(seed + GAMMA) + (position + 1) * GAMMA)
        bits = mix(key + (token + 1) * GAMMA)
        u    = (bits >> 12, plus a half) / 2**52, exact, within (0, 1)
        g    = -log(-log(u))

    Any entry costs the same in any order, so a drafter may look up what the verifier will use.
    Probabilities below 2**-52 are beyond its resolution. Stateless: safe to share between threads.

    seed: in [0, 2**64).
    """

    __slots__ = ("_key", "seed")

    def __init__(self, seed: int) -> None:
        if not 0 <= seed <= WORD:
            raise InvalidOption(f"seed {seed} is outside [0, 2**64); use a number within")
        self.seed = seed
        self._key = _mix(seed + GAMMA)

    def __repr__(self) -> str:
        return f"GumbelNoise({self.seed})"

    def at(self, position: int, tokens: ArrayLike) -> NDArray[np.float64]:
        """float64 [n]: the noise of `tokens` [n] at `position` (>= 0)."""
        return -np.log(-np.log(self._uniform(position, np.asarray(tokens))))

    def table(self, positions: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
        """float64 [n]: the noise of each of `tokens` [n] at its own of `positions` [n]."""
        places, inverse = np.unique(np.asarray(positions), return_inverse=True)
        keys = [_mix(self._key + (place + 1) * GAMMA) for place in places.tolist()]
        own = np.array(keys, dtype=np.uint64)[inverse]
        return -np.log(-np.log(_uniform(own, np.asarray(tokens))))

    def pick(self, position: int, weights: Weights) -> int:
        """The token that the law `weights` [V] gets at `position`.

        Only tokens that can still beat the best so far get their logarithms: since -log(u) is at
        least 1 - u, a score of s takes 1 - u <= weight * exp(-s).
        """
        law = np.asarray(weights, dtype=np.float64)
        winner, best = int(np.argmax(law)), -math.inf
        top = law[winner]
        possible = np.flatnonzero(law > top * HOPELESS)
        for start in range(0, len(possible), BLOCK):
            tokens = possible[start : start + BLOCK]
            shares = law[tokens] / top
            uniform = self._uniform(position, tokens)
            bound = SLACK * math.exp(-best) if best > -math.inf else math.inf
            near = np.flatnonzero(1 - uniform <= shares * bound)
            if len(near):
                scores = np.log(shares[near]) - np.log(-np.log(uniform[near]))
                at = int(np.argmax(scores))
                if scores[at] > best:
                    winner, best = int(tokens[near[at]]), float(scores[at])
        return winner

    def rank(self, position: int, tokens: ArrayLike, weights: ArrayLike) -> NDArray[np.intp]:
        """The order in which to draft these tokens at `position`: the likeliest to be drawn first.

        tokens: [n]. weights: [n], > 0, what the drafter takes for their probabilities, such as
        counts or confidences. A drafter that orders children by log(weight) + g instead of weight
        proposes what this seed is about to draw, where its weights are near the target's.
        """
        scores = np.log(np.asarray(weights, dtype=np.float64)) + self.at(position, tokens)
        return np.argsort(-scores, kind="stable")

    def _uniform(self, position: int, tokens: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        return _uniform(np.uint64(_mix(self._key + (position + 1) * GAMMA)), tokens)


class SharedGumbel:
    """Seeded sampling, lossless for drafts of *chosen* tokens: one seed gives one text.

    At each node the law's winner under the noise is the next token; if the draft has it as a
    child, go on from that child, else it is the step's last token. One seed therefore gives one
    text, with and without drafts, as far as the target computes the same rows in passes of other
    shapes (in float32 all but always). Over seeds the text has the target's law, and of a draft
    that knows nothing of the noise it accepts as much as `SampleAndMatch`.

    noise: `GumbelNoise(seed)`. law: from logits and the tokens before them to weights, such as
    `Sampling(temperature=0.7, top_p=0.9)`. A token's position counts all tokens before it, those
    of the prompt included. Safe to share between threads where noise and law are.
    """

    lossless = True

    def __init__(self, noise: Noise, law: Law) -> None:
        self._noise = noise
        self._law = law

    def __repr__(self) -> str:
        return f"SharedGumbel({self._noise!r}, {self._law!r})"

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The accepted path and the token after it."""

        def draw(row: int, accepted: list[int]) -> int:
            before = seen(rows, accepted)
            return self._noise.pick(len(before), self._law(rows.logits(row), before))

        return follow(draft, draw)


def _uniform(
    keys: np.uint64 | NDArray[np.uint64], tokens: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """The stream of `keys` (one, or one a token) at each of `tokens`."""
    word = tokens.astype(np.uint64)  # unsigned arrays wrap, as the hash wants it
    word += np.uint64(1)
    word *= np.uint64(GAMMA)
    word += keys
    for shift, factor in MIX:
        word ^= word >> np.uint64(shift)
        word *= np.uint64(factor)
    word ^= word >> np.uint64(31)
    word >>= np.uint64(12)
    return np.asarray((word + 0.5) * 2.0**-52, dtype=np.float64)


def _mix(word: int) -> int:
    """The finalizer of SplitMix64, for a number of any size."""
    word &= WORD
    for shift, factor in MIX:
        word = (word ^ word >> shift) * factor & WORD
    return word ^ word >> 31
