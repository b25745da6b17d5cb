"""The texts of the stress test, which name themselves, and the judge of drafts made from them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.sources import SHARED

LENGTH = 126
"""Tokens of a sequence; with its marks it fills two blocks of the ring."""
WORDS = 61
SEQUENCES = 1 << 24
"""Numbers of sequences, before they begin again at 0."""
FIRST_TAG = 1000
REMOVED = 64
"""Of so many sequences in a row, the last two are removed as soon as they are written."""
NODES = 16
FAULTS = ("torn", "stale", "leaked", "undead", "lost")

Read = Callable[[], int]


def texts(first: int, count: int) -> TokenIds:
    """Sequences `first` to `first + count - 1`, int32 [count, LENGTH]."""
    numbers = (np.arange(first, first + count, dtype=np.int64) % SEQUENCES)[:, None]
    places = np.arange(LENGTH, dtype=np.int64)
    words = (numbers * 7919 + places * places * 31 + places) % 1009 % WORDS
    tags = FIRST_TAG + numbers * (LENGTH // 2) + places // 2
    return np.where(places % 2 == 1, tags, words).astype(np.int32)


def token_of(number: int, place: int) -> int:
    """One token of `texts`, faster."""
    if place % 2:
        return FIRST_TAG + number * (LENGTH // 2) + place // 2
    return (number * 7919 + place * place * 31 + place) % 1009 % WORDS


def namespace_of(number: int) -> str:
    """Sequences belong to two namespaces in turn."""
    return f"parity {number % 2}"


def is_removed(number: int) -> bool:
    """Whether a sequence is removed at once."""
    return number % REMOVED >= REMOVED - 2


def stride() -> int:
    """Slots that a sequence takes. It must fill whole blocks, or namespaces would pad them."""
    recall = Recall(4096)
    for number in range(2):
        recall.add(texts(number, 1)[0], namespace=namespace_of(number))
    slots, rest = divmod(recall.written, 2)
    if rest or slots % 64:
        raise SystemExit(
            f"two sequences of {LENGTH} tokens take {recall.written} slots; mend LENGTH"
        )
    return slots


def endless(first: int) -> Iterator[tuple[int, TokenIds]]:
    """Sequences by their numbers."""
    while True:
        for at, text in enumerate(texts(first, 512)):
            yield (first + at) % SEQUENCES, text
        first += 512


def write(recall: Recall, first: int, stop: Callable[[], bool], done: Callable[[int], None]) -> int:
    """Add sequences until told to stop; returns how many."""
    for count, (number, text) in enumerate(endless(first)):
        if stop():
            return count
        sequence = recall.add(text, namespace=namespace_of(number))
        if is_removed(number):
            recall.remove(sequence)
        done(number)
    raise AssertionError("endless() ended")


class Judge:
    """Asks for drafts and counts what is false in them.

    written: slots written so far; None where the place of a sequence in the ring is not known.
    """

    def __init__(self, recall: Recall, seed: int, slots: int, written: Read | None) -> None:
        self.recall, self._slots, self._written = recall, slots, written
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []

    def question(self, newest: int) -> tuple[int, TokenIds]:
        """A sequence that is in the ring, or was until now, and the first part of its text."""
        held = self.recall.capacity // self._slots
        pick = self._random.random()
        back = (
            self._random.randrange(4)
            if pick < 0.3
            else held - self._random.randrange(held // 8 + 2)
            if pick < 0.6
            else self._random.randrange(held + 4)
        )
        number = (newest - back) % SEQUENCES
        end = self._random.randrange(1, LENGTH)
        context = [token_of(number, place) for place in range(max(0, end - 20), end)]
        return number, np.array(context, dtype=np.int32)

    def ask(self, newest: int) -> None:
        """One draft, judged."""
        number, context = self.question(newest)
        before = self._written() if self._written else 0
        with closing(RecallStream(self.recall, context, namespace=namespace_of(number))) as stream:
            guess = stream.propose(Budget(NODES))
        after = self._written() if self._written else 0
        self.judge(number, context, guess, before, after)

    def judge(self, number: int, context: TokenIds, guess: Draft, before: int, after: int) -> None:
        """Count the false nodes of a draft that was drawn while `written` went from-to."""
        tokens, parents = guess.tokens.tolist(), guess.parents.tolist()
        sources = guess.source.tolist()
        self.counts["drafts"] += 1
        self.counts["nodes"] += len(tokens)
        self.counts["shared"] += sources.count(SHARED)
        last = int(context[-1])
        runs: list[tuple[int, int] | None] = []
        for token, parent, source in zip(tokens, parents, sources, strict=True):
            above = _run(last) if parent == ROOT else runs[parent]
            here = _next(last if parent == ROOT else tokens[parent], above, token)
            runs.append(here)
            if here is None:
                self._fault("torn", number, context, guess)
                return
            if here[0] % 2 != number % 2:
                self._fault("leaked", number, context, guess)
            if source == SHARED and self._written:
                first = (before - self.recall.capacity) // self._slots - 1
                newest = after // self._slots + 1
                if (here[0] - first) % SEQUENCES > newest - first:
                    self._fault("stale", number, context, guess)
                if is_removed(here[0]) and (here[0] + 2 - before // self._slots) % SEQUENCES > (
                    SEQUENCES // 2
                ):
                    self._fault("undead", number, context, guess)

    def _fault(self, kind: str, number: int, context: TokenIds, guess: Draft) -> None:
        self.counts[kind] += 1
        if len(self.examples) < 3:
            told = list(zip(guess.tokens.tolist(), guess.parents.tolist(), strict=True))
            self.examples.append(f"{kind}: sequence {number}, context {context.tolist()}, {told}")


def _run(token: int) -> tuple[int, int] | None:
    """The sequence and place that a tag names."""
    if token < FIRST_TAG:
        return None
    number, pair = divmod(token - FIRST_TAG, LENGTH // 2)
    return number, 2 * pair + 1


def _next(before: int, above: tuple[int, int] | None, token: int) -> tuple[int, int] | None:
    """Where a drafted token stands, the token before it standing at `above`; None: nowhere."""
    if above is not None:
        number, place = above
        true = place + 1 < LENGTH and token_of(number, place + 1) == token
        return (number, place + 1) if true else None
    here = _run(token)
    if here is None or token_of(here[0], here[1] - 1) != before:
        return None
    return here


# --- Processes --------------------------------------------------------------------------------
