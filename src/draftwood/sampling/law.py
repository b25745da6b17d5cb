"""Laws: the distribution that the next token is drawn from, as a function of logits and context.

The steps and their order are those of `generate` in the transformers library: repetition penalty,
other logits processors, temperature, top-k, top-p, min-p, other warpers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption, UnusableLogits
from draftwood.sampling.chance import Weights
from draftwood.sampling.processors import LogitsProcessor, process

Law: TypeAlias = Callable[[Any, TokenIds], Weights]
"""From the logits after some tokens, and those tokens, to the weights of the next one."""


SMALLEST: Final = 1.2e-38
"""About the smallest normal float32: no two float32 scores are apart by so little."""


def same(weights: Any, seen: TokenIds) -> Any:
    """The law of a target whose rows are already weights: returns them unchanged."""
    return weights


RANGES: Final[tuple[tuple[str, type, Callable[[Any], bool], str], ...]] = (
    ("temperature", Real, lambda t: 0 <= t < float("inf"), "use 0 for greedy, or more"),
    ("top_k", Integral, lambda k: k >= 0, "use 0 to keep every token, or more"),
    ("top_p", Real, lambda p: 0 < p <= 1, "use a share in (0, 1]; 1 keeps every token"),
    ("min_p", Real, lambda p: 0 <= p <= 1, "use a share in [0, 1]; 0 keeps every token"),
    ("repetition_penalty", Real, lambda r: 1e-6 <= r <= 1e6, "use 1 for none, or 1e-6 to 1e6"),
)
"""What the numbers of a `Sampling` may be, and what to use instead."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters as a law, each with the meaning it has in `generate` of transformers.

    temperature: >= 0; 0 is greedy. top_k: keep the k most likely tokens; 0 keeps all. top_p: keep
    the fewest tokens whose probabilities reach p, 1 keeps all. min_p: keep tokens at least p times
    as likely as the likeliest, 0 keeps all. repetition_penalty: 1e-6 to 1e6, so that no score
    overflows; logits of tokens seen before are divided by it where positive, multiplied where
    negative; 1 changes nothing.

    processors: called with the tokens before the row and its logits, after the repetition penalty
    and before the temperature, at temperature 0 as well. warpers: called last, at temperature > 0
    only, with the logits of what was kept (-inf for the rest).

    Raises:
        InvalidOption: for a value that is no number or outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    processors: tuple[LogitsProcessor, ...] = ()
    warpers: tuple[LogitsProcessor, ...] = ()

    def __post_init__(self) -> None:
        given: tuple[Any, ...] = (
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.repetition_penalty,
        )
        for value, (name, kind, good, remedy) in zip(given, RANGES, strict=True):
            if isinstance(value, bool) or not isinstance(value, kind) or not good(value):
                raise InvalidOption(f"{name} is {value!r}; {remedy}")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0

    @property
    def changes_logits(self) -> bool:
        """Whether the likeliest token may differ from that of the model's own logits."""
        return self.repetition_penalty != 1 or bool(self.processors)

    def scores(self, logits: NDArray[np.floating[Any]], seen: TokenIds) -> NDArray[np.float32]:
        """float32 [V]: a copy of the logits after the repetition penalty and the processors.

        logits: float [V]. seen: int32 [n], the tokens before the row, prompt included.
        """
        scores = np.array(logits, dtype=np.float32)
        if self.repetition_penalty != 1:
            known = seen[seen < len(scores)]  # an embedding may hold more ids than there are logits
            penalty = np.float32(self.repetition_penalty)
            at = scores[known]
            scores[known] = np.where(at < 0, at * penalty, at / penalty)
        return process(self.processors, seen, scores)

    def likeliest(self, logits: NDArray[np.floating[Any]], seen: TokenIds) -> int:
        """The greedy choice: the token with the largest score, ties to the lowest id.

        Raises:
            UnusableLogits: where no token is left, or a score is NaN.
        """
        scores = self.scores(logits, seen)
        best = int(np.argmax(scores))
        if not scores[best] > -np.inf:
            raise UnusableLogits.after(len(seen), scores)
        return best

    def __call__(self, logits: NDArray[np.floating[Any]], seen: TokenIds) -> NDArray[np.float64]:
        """float64 [V]: the weights of the next token; the likeliest kept token has weight 1.

        logits: float [V]. seen: int32 [n], the tokens before it, prompt included.

        Raises:
            UnusableLogits: where no token is left, or a score is NaN or +inf.
        """
        if self.greedy:
            one_hot = np.zeros(len(logits))
            one_hot[self.likeliest(logits, seen)] = 1
            return one_hot
        scores = self.scores(logits, seen)
        highest = scores.max()
        if not np.isfinite(highest):
            raise UnusableLogits.after(len(seen), scores)
        scores = _divided(scores, highest, self.temperature)
        if 0 < self.top_k < len(scores):
            least = np.partition(scores, -self.top_k)[-self.top_k]
            scores[scores < least] = -np.inf
        weights = _weights(scores)
        if self.top_p < 1:
            ascending = np.argsort(weights, kind="stable")
            share = np.cumsum(weights[ascending]) / weights.sum()
            beyond = share <= 1 - self.top_p
            beyond[-1] = False
            weights[ascending[beyond]] = 0
        if self.min_p > 0:
            weights[weights < self.min_p] = 0
        if self.warpers:
            scores[weights == 0] = -np.inf
            scores = process(self.warpers, seen, scores)
            if not np.isfinite(scores.max()):
                raise UnusableLogits.after(len(seen), scores)
            weights = _weights(scores)
        return weights


def _divided(
    scores: NDArray[np.float32], highest: np.float32, temperature: float
) -> NDArray[np.float32]:
    """The scores over the temperature, shifted to a maximum of 0 where they would overflow."""
    divisor = np.float32(max(temperature, SMALLEST))
    with np.errstate(over="ignore"):
        if not np.isfinite(highest / divisor):
            scores = scores - highest
        return scores / divisor


def _weights(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.exp((scores - scores.max()).astype(np.float64))
    return weights
