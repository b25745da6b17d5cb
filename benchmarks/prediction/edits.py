"""Predictions of recorded answers: real edits found in a trace, and versions made by a seed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from random import Random

import numpy as np

from draftwood.draft import TokenIds

PIECE = re.compile(r"\s+|\w+|[^\w\s]")
BLOCK = re.compile(r"<{5,9} SEARCH\n(.*?)\n?={5,9}\n(.*?)\n?>{5,9} REPLACE", re.DOTALL)
REPAIR = re.compile(r"### Current implementation\n```python\n(.*?)```", re.DOTALL)
FENCED = re.compile(r"```(?:python)?\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Edit:
    """A request whose answer was foreseen: the prompt does not hold the prediction."""

    prompt: str
    prediction: str
    answer: str


def real_edits(prompt: str, response: str) -> Iterator[Edit]:
    """The edits of files that a record holds.

    Of a SEARCH/REPLACE block the original is the prediction and the new text the answer; of a
    repair, the implementation that the prompt shows (and which is cut out of it) and the new one.
    """
    for block in BLOCK.finditer(response):
        if block[1].strip() and block[2].strip():
            yield Edit(prompt + "\n" + response[: block.start()], block[1], block[2])
    repair, answer = REPAIR.search(prompt), FENCED.search(response)
    if repair and answer:
        yield Edit(prompt.replace(repair[1], ""), repair[1], answer[1])


def version(text: str, other: str, overlap: float, seed: int) -> str:
    """`text` with deleted, inserted and replaced stretches and a renamed identifier.

    overlap: the part of its pieces (words, spaces, signs) that the version keeps; 0: `other`. Of
    what is changed, up to a third are all places of identifiers that get another name, the rest
    stretches of 1 to 24 pieces, a third each deleted, replaced by text of `other`, and replaced
    beside an insertion.
    """
    if overlap <= 0:
        return other
    rng = Random(seed)
    pieces, foreign = PIECE.findall(text), PIECE.findall(other) or ["?"]
    changed = round((1 - overlap) * len(pieces))
    names = Counter(each for each in pieces if each.isidentifier() and len(each) > 3)
    often = [name for name, count in names.items() if 3 <= count <= changed / 3]
    if often:
        name = rng.choice(sorted(often))
        pieces = [f"{name[::-1]}_" if each == name else each for each in pieces]
        changed -= names[name]
    cut = [False] * len(pieces)
    inserted: dict[int, list[str]] = {}
    for way in range(10_000):
        if changed <= 0:
            break
        size = min(rng.randint(1, 24), changed)
        first = rng.randrange(max(len(pieces) - size, 1))
        if any(cut[max(first - 4, 0) : first + size + 4]) and way < 9_000:
            continue
        changed -= sum(not each for each in cut[first : first + size])
        cut[first : first + size] = [True] * len(cut[first : first + size])
        if way % 3:
            start, length = rng.randrange(len(foreign)), size + (way % 3 == 2) * rng.randint(1, 24)
            inserted[first] = foreign[start : start + length]
    made = []
    for at, piece in enumerate(pieces):
        made += inserted.get(at, [])
        if not cut[at]:
            made.append(piece)
    return "".join(made)


def kept(answer: TokenIds, prediction: TokenIds) -> float:
    """The part of the answer's tokens that the prediction has, in order."""
    if not len(answer):
        return 0.0
    matcher = SequenceMatcher(None, answer.tolist(), np.asarray(prediction).tolist(), False)
    return sum(block.size for block in matcher.get_matching_blocks()) / len(answer)
