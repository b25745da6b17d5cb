"""Drafters that are functions, and drafts sampled from a toy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.protocols import Feedback
from draftwood.sampling.chance import Chance, Weights
from draftwood.testing.toys import Row


class DraftFrom:
    """A drafter made of a function from (context, budget) to a draft; no learning, no state.

    memory: how many of the last tokens the function is given; None: all.
    """

    def __init__(
        self, propose: Callable[[TokenIds, Budget], Draft], *, memory: int | None = None
    ) -> None:
        self._propose = propose
        self._memory = memory

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> _FunctionStream:
        """A stream that remembers the tokens."""
        return _FunctionStream(self._propose, prompt, self._memory)

    def close(self) -> None:
        """Nothing to give back."""


class _FunctionStream:
    def __init__(
        self, propose: Callable[[TokenIds, Budget], Draft], prompt: TokenIds, memory: int | None
    ) -> None:
        self._function = propose
        self._memory = memory
        self._context = prompt

    def propose(self, budget: Budget) -> Draft:
        start = 0 if self._memory is None else max(0, len(self._context) - self._memory)
        return self._function(self._context[start:], budget)

    def observe(self, feedback: Feedback) -> None:
        self._context = np.concatenate((self._context, feedback.tokens))

    def close(self) -> None:
        pass


def random_trees(vocab_size: int, *, seed: int = 0, chains: bool = False) -> DraftFrom:
    """Random drafts: any shape (often empty), any tokens, also equal siblings."""
    random = np.random.default_rng(seed)

    def propose(context: TokenIds, budget: Budget) -> Draft:
        count = int(random.integers(0, budget.nodes + 1))
        tokens = random.integers(0, vocab_size, count)
        parents = [at - 1 if chains else int(random.integers(ROOT, at)) for at in range(count)]
        return Draft.tree(tokens, parents)

    return DraftFrom(propose)


def oracle(
    text: Sequence[int], *, vocab_size: int, decoys: int = 0, errors: float = 0.0, seed: int = 0
) -> DraftFrom:
    """Drafts from a text that is known beforehand.

    text: the prompt and all that follows. decoys: wrong siblings at every level, before or after
    the right token, some of them with children. errors: the share of levels whose right token is
    replaced by a wrong one.
    """
    random = np.random.default_rng(seed)

    def propose(context: TokenIds, budget: Budget) -> Draft:
        tokens: list[int] = []
        parents: list[int] = []
        right = stray = ROOT
        for true in text[len(context) : len(context) + budget.reach]:
            if len(tokens) + decoys + 1 > budget.nodes:
                break
            place = int(random.integers(0, decoys + 1))
            below, above = right, stray
            for sibling in range(decoys + 1):
                wrong = (true + 1 + int(random.integers(0, vocab_size - 1))) % vocab_size
                keeps = sibling == place and random.random() >= errors
                tokens.append(true if keeps else wrong)
                lost = sibling != place and above != ROOT and random.random() < 0.5
                parents.append(above if lost else below)
                if sibling == place:
                    right = len(tokens) - 1
                else:
                    stray = len(tokens) - 1
        return Draft.tree(tokens, parents)

    return DraftFrom(propose)


def sampled_draft(
    chance: Chance,
    model: Row,
    context: TokenIds,
    parents: Sequence[int],
    draw: Callable[[Chance, Weights, Sequence[int]], int | None],
) -> Draft:
    """A draft of a given shape, its tokens drawn from a small model, with proposal rows.

    model: its rows are weights. parents: the shape. draw: how, from the functions of
    `draftwood.verify.drawing`; where it has no more siblings to give, the node is left out with
    all that hangs below it.
    """
    prefixes = {ROOT: tuple(context.tolist())}
    place = {ROOT: ROOT}
    siblings: dict[int, list[int]] = {}
    ids: list[int] = []
    kept: list[int] = []
    rows: list[Any] = []
    for node, parent in enumerate(parents):
        if parent not in place:
            continue
        q = np.asarray(model(prefixes[parent]))
        token = draw(chance, q, siblings.setdefault(parent, []))
        if token is None:
            continue
        siblings[parent].append(token)
        place[node] = len(ids)
        prefixes[node] = (*prefixes[parent], token)
        ids.append(token)
        kept.append(place[parent])
        rows.append(q)
    return Draft.tree(ids, kept, proposal=np.array(rows)) if ids else Draft.empty()


def raising(*, after: int = 0) -> DraftFrom:
    """A drafter that fails when it is asked for draft number `after` (from 0)."""
    asked = 0

    def propose(context: TokenIds, budget: Budget) -> Draft:
        nonlocal asked
        asked += 1
        if asked > after:
            raise RuntimeError(f"draft {asked - 1} fails, as this drafter was told to")
        return Draft.empty()

    return DraftFrom(propose)
