"""The law that tokens are drawn from.

The processors and their order are those of Hugging Face `generate`: repetition penalty,
temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption
from draftwood.sampling.chance import Weights

Law: TypeAlias = Callable[[Any, TokenIds], Weights]
"""From the logits after some tokens, and those tokens, to the weights of the next one."""


def same(weights: Any, seen: TokenIds) -> Any:
    """The law of a target whose rows are weights already."""
    return weights


@dataclass(frozen=True, slots=True)
class Sampling:
    """A law on logits, with the meaning that Hugging Face `generate` gives to these words.

    temperature: >= 0; 0 is greedy. top_k: keep the k most likely tokens; 0 keeps all. top_p: keep
    the fewest tokens whose probabilities reach p, 1 keeps all. min_p: keep tokens at least p times
    as likely as the likeliest, 0 keeps all. repetition_penalty: > 0; logits of tokens seen before
    are divided by it where positive, multiplied where negative; 1 changes nothing.

    Raises:
        InvalidOption: for a value outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name, good, remedy in (
            ("temperature", 0 <= self.temperature < float("inf"), "use 0 for greedy, or more"),
            ("top_k", self.top_k >= 0, "use 0 to keep every token, or more"),
            ("top_p", 0 < self.top_p <= 1, "use a share in (0, 1]; 1 keeps every token"),
            ("min_p", 0 <= self.min_p <= 1, "use a share in [0, 1]; 0 keeps every token"),
            ("repetition_penalty", self.repetition_penalty > 0, "use 1 for none, or more than 0"),
        ):
            if not good:
                raise InvalidOption(f"{name} is {getattr(self, name)}; {remedy}")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0

    @property
    def penalizes(self) -> bool:
        """Whether the law depends on the tokens seen before."""
        return self.repetition_penalty != 1

    def scores(self, logits: NDArray[np.floating[Any]], seen: TokenIds) -> NDArray[np.float32]:
        """float32 [V]: a copy of the logits, those of the tokens in `seen` penalized."""
        scores = np.array(logits, dtype=np.float32)
        if self.penalizes:
            seen = seen[seen < len(scores)]  # an embedding may hold more ids than there are logits
            penalty = np.float32(self.repetition_penalty)
            at = scores[seen]
            scores[seen] = np.where(at < 0, at * penalty, at / penalty)
        return scores

    def __call__(self, logits: NDArray[np.floating[Any]], seen: TokenIds) -> NDArray[np.float64]:
        """float64 [V]: the weights of the next token; the likeliest kept token has weight 1.

        logits: float [V]. seen: the tokens before it, prompt included.
        """
        scores = self.scores(logits, seen)
        if self.greedy:
            one_hot = np.zeros(len(scores))
            one_hot[np.argmax(scores)] = 1
            return one_hot
        scores /= np.float32(self.temperature)
        if 0 < self.top_k < len(scores):
            least = np.partition(scores, -self.top_k)[-self.top_k]
            scores[scores < least] = -np.inf
        weights: NDArray[np.float64] = np.exp((scores - scores.max()).astype(np.float64))
        if self.top_p < 1:
            ascending = np.argsort(weights, kind="stable")
            share = np.cumsum(weights[ascending]) / weights.sum()
            beyond = share <= 1 - self.top_p
            beyond[-1] = False
            weights[ascending[beyond]] = 0
        if self.min_p > 0:
            weights[weights < self.min_p] = 0
        return weights
