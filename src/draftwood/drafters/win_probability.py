"""The probability that each candidate of a draft is drawn, given the Gumbel noise.

The drawn token is the one whose log-probability plus noise is largest: it *wins*. A drafter does
not know the probabilities, only its own confidence, which may or may not stand for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, Draft
from draftwood.fork import fork_lock

SHARPNESS: Final = 2.0
"""How much a lead in log c + g counts: infinite if confidence c were exactly the law."""

SHARES: Final = (0.0, 1.0)
"""How much of the noise counts: none (the law is sharp where the drafter is unsure), or all of it
(the law is as open as the confidence says)."""

LEAST: Final = 1e-6
"""Confidence below this counts as this."""

_CLASSES: Final = 8
"""Classes of a node's highest confidence."""

_FADE: Final = 1000.0
"""Outcomes of a class at which they fade to half."""


class NoiseTrust:
    """How much the noise says about what is drawn, learned online: one mixture for all requests.

    A drafter may be unsure because the law is open (then the noise decides) or because it does not
    know the place (then the noise says nothing). Each of `SHARES` is an answer to that; their
    weights follow from which of them gave more to the tokens that came, by classes of the highest
    confidence among siblings. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._weights = np.ones((_CLASSES, len(SHARES)))
        self._lock = fork_lock()

    def mix(self, answers: NDArray[np.float64], classes: NDArray[np.intp]) -> NDArray[np.float64]:
        """float64 [n]: the mixture of answers [answers, n]; classes: of each node's parent."""
        weights = self._weights[classes]
        mixed: NDArray[np.float64] = np.einsum("ne,en->n", weights, answers) / weights.sum(axis=1)
        return mixed

    def learn(self, seen: Sequence[tuple[int, NDArray[np.float64]]]) -> None:
        """Learn from nodes that the text went through: class, and what each answer gave to it."""
        with self._lock:
            for place, given in seen:
                weights = self._weights[place]
                parts = weights * (given + LEAST)
                weights += parts / parts.sum()
                if weights.sum() > _FADE:
                    weights /= 2


class WinProbability:
    """P(wins | noise) of each candidate of one draft, by every answer of `SHARES`.

    Where the share is 0: the confidence c. Else, with scores s = log c + share * g, a candidate
    beats its siblings with probability softmax(SHARPNESS * s), as if scores were off by a noise of
    their own, and all tokens that are no candidates, of weight r = 1 - sum c, with probability
    exp(-r exp(-s)), since the largest of their scores has the Gumbel law of location log r.
    """

    def __init__(self, draft: Draft, noise: NDArray[np.float64]) -> None:
        self._draft = draft
        rows = draft.parents + 1
        sure = np.clip(np.nan_to_num(draft.confidence.astype(np.float64)), 0.0, 1.0)
        total = np.bincount(rows, sure)  # by parent
        sure = sure / np.maximum(total, 1.0)[rows]
        rest = np.maximum(1.0 - total, 0.0)[rows]
        highest = np.zeros(len(total))
        np.maximum.at(highest, rows, sure)
        self._classes = np.minimum((highest * _CLASSES).astype(np.intp), _CLASSES - 1)
        logs = np.log(np.maximum(sure, LEAST))
        answers = []
        for share in SHARES:
            if not share:
                answers.append(sure)
                continue
            scores = logs + share * noise
            best = np.full(len(total), -np.inf)
            np.maximum.at(best, rows, scores)
            weights = np.exp(SHARPNESS * (scores - best[rows]))
            beaten = weights / np.bincount(rows, weights)[rows]
            answers.append(beaten * np.exp(-rest * np.exp(-np.maximum(scores, -30.0))))
        self._answers = np.array(answers)

    def under(self, trust: NoiseTrust) -> NDArray[np.float32]:
        """float32 [n]: P(wins | parent is accepted, noise) of each node."""
        mixed = trust.mix(self._answers, self._classes[self._draft.parents + 1])
        return mixed.astype(np.float32)

    def seen(self, came: Sequence[int]) -> list[tuple[int, NDArray[np.float64]]]:
        """For every node that the text went through: its class, and what each answer gave it."""
        below: dict[int, list[int]] = {}
        for node, parent in enumerate(self._draft.parents.tolist()):
            below.setdefault(parent, []).append(node)
        found: list[tuple[int, NDArray[np.float64]]] = []
        at = ROOT
        for token in came:
            children = below.get(at)
            if children is None:
                break
            right = [node for node in children if self._draft.tokens[node] == token]
            place = int(self._classes[at + 1])
            if not right:
                others = 1.0 - self._answers[:, children].sum(axis=1)
                found.append((place, np.maximum(others, 0.0)))
                break
            at = right[0]
            found.append((place, self._answers[:, at]))
        return found
