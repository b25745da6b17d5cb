"""The suffix tree in a page of Python: slow, obvious, and equal to the native one to the last bit.

      () 4 -+- a 2 -+- ab 1           the sequence "a b a c" at depth 2: each string with the
            |       +- ac 1           number of its occurrences, of which "c" and "ac" end the
            +- b 1 --- ba 1           sequence and the others go on
            +- c 1

The tree is a table of strings: how often each occurs, up to `depth` tokens long, and in what order
the tokens stand that followed it. The native tree holds the same table with runs of equal counts
joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, TokenIds
from draftwood.errors import UnknownSequence
from draftwood.index.suffix_tree import SuffixPolicy

Tokens = tuple[int, ...]
ONE = np.float32(1)


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """What a native draft holds; arrays of n nodes."""

    tokens: TokenIds
    parents: NDArray[np.int32]
    confidence: NDArray[np.float32]
    probability: NDArray[np.float32]
    score: float
    match: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that may be drafted next, below the draft's node `parent`."""

    probability: np.float32
    confidence: np.float32
    parent: int
    string: Tokens  # match, path and the token itself

    def __lt__(self, other: Candidate) -> bool:
        """Whether the other is to be drafted first."""
        return (self.probability, -self.parent) < (other.probability, -other.parent)


class SuffixTree:
    """The twin of `draftwood.index.suffix_tree.SuffixTree`; see there."""

    def __init__(self, depth: int = 64) -> None:
        self.depth = depth
        self.text: dict[int, list[int]] = {}
        self.counts: dict[Tokens, int] = {(): 0}
        self.children: dict[Tokens, list[int]] = {(): []}  # most frequent first
        self._begun = 0

    def begin(self, tokens: Sequence[int] = ()) -> int:
        """A new sequence."""
        self._begun += 1
        self.text[self._begun] = []
        self.extend(self._begun, tokens)
        return self._begun

    def extend(self, sequence: int, tokens: Sequence[int]) -> None:
        """Append to a sequence: every suffix that now ends there occurs once more."""
        text = self._text(sequence)
        for token in tokens:
            text.append(token)
            self.counts[()] += 1
            for start in range(max(0, len(text) - self.depth), len(text)):
                self._raise(tuple(text[start:-1]), token)

    def finish(self, sequence: int) -> None:
        """Nothing to give back here."""
        self._text(sequence)

    def remove(self, sequence: int) -> None:
        """Take a sequence out: all that it said occurs once less."""
        text = self._text(sequence)
        for start in range(len(text)):
            self.counts[()] -= 1
            for end in reversed(range(start, min(start + self.depth, len(text)))):
                self._lower(tuple(text[start:end]), text[end])
        del self.text[sequence]

    def count(self, pattern: Sequence[int]) -> int:
        """How many suffixes begin with `pattern`."""
        return self.counts.get(tuple(pattern), 0)

    def _text(self, sequence: int) -> list[int]:
        if sequence not in self.text:
            raise UnknownSequence(sequence)
        return self.text[sequence]

    def _raise(self, string: Tokens, token: int) -> None:
        """One more `token` after `string`; it moves up among its siblings as in the released code.

        It moves in front of those it leaves behind; in front of those it joins, too, only if it
        stood first before.
        """
        siblings = self.children[string]
        longer = (*string, token)
        if longer not in self.counts:
            siblings.append(token)
            self.counts[longer] = 1
            self.children[longer] = []
            return
        counts = [self.counts[(*string, sibling)] for sibling in siblings]
        at, count = siblings.index(token), self.counts[longer]
        first = counts.index(count)
        place = first if at > first or count + 1 not in counts else counts.index(count + 1)
        siblings.insert(place, siblings.pop(at))
        self.counts[longer] += 1

    def _lower(self, string: Tokens, token: int) -> None:
        """One less `token` after `string`; it stands first of those it joins."""
        siblings = self.children[string]
        longer = (*string, token)
        count = self.counts[longer]
        below = sum(self.counts[(*string, sibling)] >= count for sibling in siblings)
        siblings.insert(below - 1, siblings.pop(siblings.index(token)))
        self.counts[longer] -= 1
        if count == 1:
            siblings.remove(token)
            del self.counts[longer], self.children[longer]

    def speculate(
        self,
        context: Sequence[int],
        policy: SuffixPolicy,
        *,
        nodes: int = 32,
        reach: int | None = None,
    ) -> Guess:
        """The draft of the highest score over all suffixes; of equal scores the longest match."""
        best = _guess([], 0)
        for match in range(1, min(len(context), self.depth - 1) + 1):
            string = tuple(context[-match:])
            if string not in self.counts:
                break
            allowed = np.float32(match) * np.float32(policy.alpha) + np.float32(policy.offset)
            limit = max(0, min(nodes, int(float(allowed) + 1e-6)))
            drawn = self._expand(string, policy, limit, nodes if reach is None else reach)
            guess = _guess(drawn, match)
            if guess.score >= best.score and drawn:
                best = guess
        return best

    def _expand(
        self, string: Tokens, policy: SuffixPolicy, limit: int, reach: int
    ) -> list[Candidate]:
        """The most probable nodes below `string`, best first: a chain or a tree."""
        drawn: list[Candidate] = []
        waiting = self._below(string, ONE, ROOT, policy) if reach > 0 else []
        while waiting and len(drawn) < limit:
            best = max(waiting)  # of equals the first: siblings keep their order
            waiting.remove(best)
            drawn.append(best)
            if len(best.string) - len(string) < reach:
                waiting += self._below(best.string, best.probability, len(drawn) - 1, policy)
        return drawn

    def _below(
        self, string: Tokens, above: np.float32, parent: int, policy: SuffixPolicy
    ) -> list[Candidate]:
        """What may follow `string`, whose own probability is `above`."""
        children = self.children[string]
        if policy.mode == "linear":
            children = children[:1]
        of = np.float32(self.counts[string])
        if policy.counts == "paper":
            of = np.float32(sum(self.counts[(*string, child)] for child in self.children[string]))
        candidates = []
        for child in children:
            count = np.float32(self.counts[(*string, child)])
            share = count / of
            # The order of the float32 operations is that of the released code.
            probability = above * share if policy.mode == "linear" else above * count / of
            probability = above if share == ONE else probability
            if probability >= np.float32(policy.floor):
                candidates.append(Candidate(probability, share, parent, (*string, child)))
        return candidates


def _guess(drawn: list[Candidate], match: int) -> Guess:
    score = np.float32(0)
    for node in drawn:
        score += node.probability
    return Guess(
        tokens=np.array([node.string[-1] for node in drawn], dtype=np.int32),
        parents=np.array([node.parent for node in drawn], dtype=np.int32),
        confidence=np.array([node.confidence for node in drawn], dtype=np.float32),
        probability=np.array([node.probability for node in drawn], dtype=np.float32),
        score=float(score),
        match=match,
    )
