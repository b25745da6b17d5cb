"""Sources: the meaning of the numbers in `Draft.source`, which say what proposed a node.

The numbers are the same in the whole package, so that calibration keeps drafters apart in any
mixture, and figures can be counted by name. A drafter of your own takes a number by `source_for`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock


@dataclass(frozen=True, slots=True)
class Source:
    """One source. drafter: the name in its spec. kind: what the node was drafted from."""

    drafter: str
    kind: str

    def __str__(self) -> str:
        return f"{self.drafter}: {self.kind}"


OWN: Final = 0
"""Recall, from the request's own prompt and output; also what a drafter says that says nothing."""
SHARED: Final = 1
"""Recall, from the history that requests share."""
PREDICTED: Final = 2
"""Recall, from a prediction that came with the request."""
SUFFIX_OWN: Final = 3
"""Suffix trees, from the request's own prompt and output."""
SUFFIX_SHARED: Final = 4
"""Suffix trees, from the outputs of all requests."""
LOOKUP: Final = 5
"""Prompt lookup."""
TRIGRAM: Final = 6
"""Trigrams of the target's outputs."""
RECYCLED: Final = 7
"""Recycled logits."""
PHRASE: Final = 8
"""Phrases that lengthen another drafter's draft (Ouroboros)."""
TARGET_ROWS: Final = 9
"""Recall, where no text goes on so, from what the target found likely in earlier passes."""
SMALL_MODEL: Final = 16
"""A small model; of several, the following numbers, up to 31."""
_FIRST_CUSTOM: Final = 64

_TABLE: dict[int, Source] = {
    OWN: Source("recall", "own text"),
    SHARED: Source("recall", "shared history"),
    PREDICTED: Source("recall", "prediction"),
    SUFFIX_OWN: Source("suffix", "own text"),
    SUFFIX_SHARED: Source("suffix", "shared history"),
    LOOKUP: Source("lookup", "own text"),
    TRIGRAM: Source("trigram", "trigrams"),
    RECYCLED: Source("recycled", "recycled logits"),
    TARGET_ROWS: Source("recall", "recycled logits"),
    PHRASE: Source("ouroboros", "phrases"),
    **{SMALL_MODEL + at: Source("small model", f"model {at + 1}") for at in range(16)},
}
_lock = fork_lock()


def small_model_source(place: int) -> int:
    """The number of small model `place`, from 0; from the sixteenth on they share one number."""
    return SMALL_MODEL + min(place, 15)


def source_of(number: int) -> Source:
    """The source that a number in `Draft.source` stands for.

    Raises:
        InvalidOption: for a number that is not in use.
    """
    found = _TABLE.get(int(number))
    if found is None:
        raise InvalidOption(f"source {number} is nobody's; take a number by source_for")
    return found


def source_for(drafter: str, kind: str = "own drafts") -> int:
    """A source number (64 to 255) for a drafter of your own; the same names get the same number.

    Raises:
        InvalidOption: where all numbers are taken.
    """
    wanted = Source(drafter, kind)
    with _lock:
        for number, source in _TABLE.items():
            if source == wanted:
                return number
        number = max(_FIRST_CUSTOM, max(_TABLE) + 1)
        if number > 255:
            raise InvalidOption(f"no number is left for {wanted}; give several of yours one name")
        _TABLE[number] = wanted
    return number
