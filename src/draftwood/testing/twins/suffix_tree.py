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
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, TokenIds
from draftwood.errors import UnknownSequence
from draftwood.index.suffix_tree import SuffixPolicy

Tokens = tuple[int, ...]
ONE = np.float32(1)
END: Tokens = (-1,)  # a string that nothing follows


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
    """A token that may be drafted next, below the draft's node `parent`.

    ends: not a token but the end of `string`; taken, it gives its continuations as candidates.
    """

    probability: np.float32
    confidence: np.float32
    parent: int
    string: Tokens  # match, path and the token itself
    ends: bool = False


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
        self.evict(sequence, tokens=len(self._text(sequence)))
        del self.text[sequence]

    def evict(self, sequence: int, *, tokens: int) -> None:
        """Take the first `tokens` tokens of a sequence out, suffix by suffix."""
        text = self._text(sequence)
        for start in range(min(tokens, len(text))):
            self.counts[()] -= 1
            for end in reversed(range(start, min(start + self.depth, len(text)))):
                self._lower(tuple(text[start:end]), text[end])
        del text[:tokens]

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
        waiting: list[Candidate] = []
        _push(waiting, self._onward(Candidate(ONE, ONE, ROOT, string), reach > 0))
        while waiting and len(drawn) < limit:
            best = _pop(waiting)
            if best.ends:
                for child in self._below(best.string, best.probability, best.parent, policy):
                    _push(waiting, child)
                continue
            drawn.append(best)
            after = replace(best, parent=len(drawn) - 1)
            _push(waiting, self._onward(after, len(best.string) - len(string) < reach))
        return drawn

    def _onward(self, last: Candidate, further: bool) -> Candidate:
        """What waits after `last`: the one token that always follows, else the place itself.

        further: whether anything may be drafted there at all.
        """
        children = self.children[last.string] if further else []
        if len(children) == 1:
            only = (*last.string, children[0])
            if self.counts[only] == self.counts[last.string]:
                return replace(last, string=only, confidence=ONE)
        return replace(last, string=last.string if further else END, ends=True)

    def _below(
        self, string: Tokens, above: np.float32, parent: int, policy: SuffixPolicy
    ) -> list[Candidate]:
        """What may follow `string`, whose own probability is `above`."""
        children = self.children.get(string, [])
        of = np.float32(self.count(string))
        if policy.counts == "paper":
            of = np.float32(sum(self.counts[(*string, child)] for child in children))
        if policy.mode == "linear":
            children = children[:1]
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


def _push(heap: list[Candidate], item: Candidate) -> None:
    """Add to a binary heap, the most probable first; which equal one is first is up to the heap.

    With `_pop` this is C++'s std::priority_queue as the released code uses it, step by step.
    """
    heap.append(item)
    _rise(heap, len(heap) - 1, item)


def _pop(heap: list[Candidate]) -> Candidate:
    """Take out the first: the hole sinks along the better children, then the last rises there."""
    best, last = heap[0], heap.pop()
    if not heap:
        return best
    hole = 0
    while 2 * hole + 2 < len(heap):
        left, right = 2 * hole + 1, 2 * hole + 2
        better = left if heap[right].probability < heap[left].probability else right
        heap[hole] = heap[better]
        hole = better
    if 2 * hole + 2 == len(heap):
        heap[hole] = heap[-1]
        hole = len(heap) - 1
    _rise(heap, hole, last)
    return best


def _rise(heap: list[Candidate], hole: int, item: Candidate) -> None:
    while hole and heap[(hole - 1) // 2].probability < item.probability:
        heap[hole] = heap[(hole - 1) // 2]
        hole = (hole - 1) // 2
    heap[hole] = item


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
