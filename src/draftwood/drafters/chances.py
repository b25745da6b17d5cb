"""Who is about to win under known noise, where confidence may or may not stand for the law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, Draft
from draftwood.fork import fork_lock

SHARPNESS: Final = 2.0
"""How far confidence is trusted to be the law: the weight of a lead of log c + g."""

SHARES: Final = (0.0, 1.0)
"""How much of the noise counts, if the law is known beforehand (0) or is the confidence (1)."""

LEAST: Final = 1e-6
"""Confidence below this counts as this."""

_CLASSES: Final = 8
"""Classes of a node's highest confidence."""

_FADE: Final = 1000.0
"""Outcomes of a class at which they fade to half."""


class Trust:
    """How far confidence stands for the law, learned online: one mixture for all requests.

    A drafter may be unsure because the law is (then the noise decides) or because it does not know
    the place (then the noise says nothing). Each of `SHARES` is an answer, and their weights
    follow from which of them saw best what came, apart for each class of a node's highest
    confidence. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._weights = np.ones((_CLASSES, len(SHARES)))
        self._lock = fork_lock()

    def mix(self, chances: NDArray[np.float64], classes: NDArray[np.intp]) -> NDArray[np.float64]:
        """float64 [n]: the mixture of chances [answers, n]; classes: of each node's parent."""
        weights = self._weights[classes]
        mixed: NDArray[np.float64] = np.einsum("ne,en->n", weights, chances) / weights.sum(axis=1)
        return mixed

    def learn(self, seen: Sequence[tuple[int, NDArray[np.float64]]]) -> None:
        """Count, for the class of each node passed, what each answer gave to what came there."""
        with self._lock:
            for place, given in seen:
                weights = self._weights[place]
                parts = weights * (given + LEAST)
                weights += parts / parts.sum()
                if weights.sum() > _FADE:
                    weights /= 2


class Chances:
    """What every answer of `SHARES` gives to each candidate of one draft.

    Of an answer's scores s = log c + share * g, the others of a node's children get beaten with
    chance softmax(SHARPNESS * s), as if scores were off by a noise of their own, and all tokens
    that are no candidates, of weight r = 1 - sum c, with chance exp(-r exp(-s)), since their
    largest score has the Gumbel law of location log r. Where the share is 0: c itself.
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

    def under(self, trust: Trust) -> NDArray[np.float32]:
        """float32 [n]: P(child wins | noise)."""
        mixed = trust.mix(self._answers, self._classes[self._draft.parents + 1])
        return mixed.astype(np.float32)

    def seen(self, came: Sequence[int]) -> list[tuple[int, NDArray[np.float64]]]:
        """For every node passed: its class, and what each answer gave to the token that came."""
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
