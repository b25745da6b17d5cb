"""Calibration: corrects drafters' confidence to the observed probability of acceptance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from draftwood.budget.isotonic import isotonic
from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.fork import fork_lock
from draftwood.guarded import ask_all, open_stream, tell_all
from draftwood.protocols import Drafter, Feedback, PairsWithTarget, Stream, TargetInfo

_FLOORS = (0.0, 0.03, 0.06, 0.1, 0.15, 0.22, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96, 1.0)
"""Where classes of raw confidence begin; what a drafter is sure of is a class of its own."""
_SOURCES, _LEVELS, _EVIDENCE, _DEPTHS = 8, len(_FLOORS), 16, 6
_SHAPE = (_SOURCES, _LEVELS, _EVIDENCE, _DEPTHS)
_FINE = 1024
_LEVEL_OF = (np.searchsorted(_FLOORS, np.arange(_FINE + 1) / _FINE, side="right") - 1) * (
    _EVIDENCE * _DEPTHS
)
_DEPTH_OF = np.array([0, 0, 1, 2, 3, 3, 4, 4, 4, 4], dtype=np.intp)
"""Class of depth 0 (there is none), 1, 2, ..; deeper nodes are of the last class."""
_PRIOR = 8.0
"""How many outcomes the coarser estimate counts for."""
_KEPT = 2048.0
"""Outcomes of a class at which old ones fade to half."""
_REFRESH = 64
"""Steps after which the estimates are drawn anew, at most."""


class Calibrator:
    """P(accepted | parent accepted) from a drafter's raw confidence, learned online.

    Outcomes are counted by source, raw confidence, evidence (`Draft.evidence`) and depth, from
    every drafted node whose parent was accepted. The first seven sources are kept apart, all others
    are pooled. An estimate combines the counts of its class with a prior of 8 outcomes from the
    coarser class without depth, whose prior is the class without evidence either; that one never
    falls with raw confidence, and its prior is the raw confidence itself. So estimates are usable
    from the first draft on. Old outcomes are gradually forgotten.

    Drafts of sampled tokens are not changed: cutting them by confidence would bias the samples.
    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._tried = np.zeros(_SHAPE)
        self._right = np.zeros(_SHAPE)
        self._lock = fork_lock()
        self._places = np.full(256, _SOURCES - 1, dtype=np.intp)
        self._seen: set[int] = set()
        self._steps, self._refresh_at = 0, 1
        self._table = self._estimates()

    def cells(self, draft: Draft) -> NDArray[np.intp]:
        """intp [n]: the class of every node."""
        sources = set(draft.source.tolist())
        if not sources <= self._seen:
            with self._lock:
                for source in sorted(sources - self._seen):
                    self._places[source] = min(len(self._seen), _SOURCES - 1)
                    self._seen.add(source)
        return cells_of(draft, self._places)

    def confidence(self, cells: NDArray[np.intp]) -> NDArray[np.float32]:
        """float32 [n]: the estimates for nodes of these classes."""
        found: NDArray[np.float32] = self._table[cells]
        return found

    def learn(self, draft: Draft, cells: NDArray[np.intp], tokens: TokenIds) -> None:
        """Learn from the tokens (one or more) that came after the context of `draft`.

        cells: the classes of the draft's nodes, as they were when it was made.
        """
        came = tokens.tolist()
        reached = {ROOT: 0}
        tried: list[int] = []
        right: list[int] = []
        nodes = zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)
        for node, (parent, token) in enumerate(nodes):
            place = reached.get(parent)
            if place is None or place == len(came):
                continue
            tried.append(node)
            if came[place] == token:
                right.append(node)
                reached[node] = place + 1
        with self._lock:
            np.add.at(self._tried.reshape(-1), cells[tried], 1.0)
            if right:
                np.add.at(self._right.reshape(-1), cells[right], 1.0)
            self._steps += 1
            if self._steps >= self._refresh_at:
                self._refresh_at = self._steps + min(self._steps, _REFRESH)
                self._fade()
                self._table = self._estimates()

    def _fade(self) -> None:
        full = self._tried > _KEPT
        if full.any():
            self._tried[full] *= 0.5
            self._right[full] *= 0.5

    def _estimates(self) -> NDArray[np.float32]:
        """float32 [classes]: P(accepted | parent accepted) of all classes."""
        raw = (np.array(_FLOORS) + np.array([*_FLOORS[1:], 1.0])) / 2
        tried, right = self._tried.sum(axis=(2, 3)), self._right.sum(axis=(2, 3))
        by_level = (right + _PRIOR * raw) / (tried + _PRIOR)
        for source in np.flatnonzero(tried.any(axis=1)):
            by_level[source] = isotonic(by_level[source].tolist(), (tried[source] + 1.0).tolist())
        tried, right = self._tried.sum(axis=3), self._right.sum(axis=3)
        by_evidence = (right + _PRIOR * by_level[:, :, None]) / (tried + _PRIOR)
        found = (self._right + _PRIOR * by_evidence[..., None]) / (self._tried + _PRIOR)
        table: NDArray[np.float32] = found.astype(np.float32).ravel()
        return table


def cells_of(draft: Draft, places: NDArray[np.intp]) -> NDArray[np.intp]:
    """intp [n]: the class of every node. places: intp [256], where the table has each source."""
    raw = np.clip(np.nan_to_num(draft.confidence), 0.0, 1.0)
    cells = _LEVEL_OF[(raw * _FINE).astype(np.intp)]
    cells += _DEPTH_OF[np.minimum(draft.depths, len(_DEPTH_OF) - 1)]
    cells += places[draft.source] * (_LEVELS * _EVIDENCE * _DEPTHS)
    if draft.evidence is not None:
        cells += np.minimum(draft.evidence, _EVIDENCE - 1).astype(np.intp) * _DEPTHS
    return cells


class Calibrated:
    """A drafter whose confidence is calibrated by how its drafts were accepted.

    Drafts are the inner drafter's, node for node. calibrator: shared by all its streams; None: a
    new one. A budget's floor is not passed on: it is a probability, which the inner drafter's raw
    confidence need not be.
    """

    def __init__(self, drafter: Drafter, calibrator: Calibrator | None = None) -> None:
        self.drafter = drafter
        self.calibrator = calibrator or Calibrator()

    @property
    def parts(self) -> tuple[Drafter]:
        """The inner drafter alone."""
        return (self.drafter,)

    def __repr__(self) -> str:
        return f"calibrated({self.drafter!r})"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> CalibratedStream:
        """A stream of the inner drafter."""
        inner = open_stream(self.drafter, prompt, namespace, prediction)
        return CalibratedStream(inner, self.calibrator)

    def pair(self, target_info: TargetInfo) -> None:
        """Raise PairMismatch where the inner drafter does not suit the target."""
        if isinstance(self.drafter, PairsWithTarget):
            self.drafter.pair(target_info)

    def close(self) -> None:
        """Close the inner drafter."""
        self.drafter.close()

    def propose_all(
        self, streams: Sequence[CalibratedStream], budgets: Sequence[Budget]
    ) -> list[Draft]:
        """The inner drafter's drafts, calibrated; made in one call where it supports that."""
        inner = [stream.inner for stream in streams]
        drafts = ask_all(self.drafter, inner, [_without_floor(budget) for budget in budgets])
        return [stream.take(draft) for stream, draft in zip(streams, drafts, strict=True)]

    def observe_all(
        self, streams: Sequence[CalibratedStream], feedback: Sequence[Feedback]
    ) -> None:
        """Learn from each, then pass the feedback on."""
        for stream, each in zip(streams, feedback, strict=True):
            stream.learn(each.tokens)
        tell_all(self.drafter, [stream.inner for stream in streams], feedback)


class CalibratedStream:
    """One sequence of a `Calibrated` drafter. Used by one thread at a time."""

    __slots__ = ("_calibrator", "_drafted", "inner")

    def __init__(self, inner: Stream, calibrator: Calibrator) -> None:
        self.inner = inner
        self._calibrator = calibrator
        self._drafted: tuple[Draft, NDArray[np.intp]] | None = None

    def propose(self, budget: Budget) -> Draft:
        """The inner stream's draft, calibrated."""
        return self.take(self.inner.propose(_without_floor(budget)))

    def take(self, draft: Draft) -> Draft:
        """A draft of the inner stream, calibrated and remembered until its outcome is known."""
        self._drafted = None
        if not len(draft) or draft.proposal is not None:
            return draft
        cells = self._calibrator.cells(draft)
        self._drafted = draft, cells
        sure = self._calibrator.confidence(cells)
        return draft.with_confidence(sure)

    def learn(self, tokens: TokenIds) -> None:
        """Learn from the tokens that came after the last draft's context."""
        if self._drafted is not None:
            self._calibrator.learn(*self._drafted, tokens)
            self._drafted = None

    def observe(self, feedback: Feedback) -> None:
        """Learn, then pass the feedback on to the inner stream."""
        self.learn(feedback.tokens)
        self.inner.observe(feedback)

    def close(self) -> None:
        """Close the inner stream."""
        self.inner.close()


def calibrated(drafter: Drafter) -> Calibrated:
    """The drafter with calibrated confidence, which budgets need."""
    return Calibrated(drafter)


def _without_floor(budget: Budget) -> Budget:
    return Budget(budget.nodes, budget.depth) if budget.floor else budget
