"""Drafts for seeded sampling: candidates ranked by the noise that the text will be drawn with.

Under `SharedGumbel` the next token is argmax(log p + g), and the noise g is known beforehand. A
drafter whose confidence c stands for p can therefore tell which child of a node will be drawn:

    children      a 0.5    b 0.3    c 0.1    others 0.1
    log c + g     -0.9      1.4     -1.7                   b will be drawn, unless c is far off p

The candidates come from any drafter of chosen tokens, more of them than are to be verified; each
gets the probability that it wins given the noise, and the best part of the tree stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from draftwood.budget.cut import rank
from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.drafters.win_probability import NoiseTrust, WinProbability
from draftwood.errors import InvalidOption
from draftwood.guarded import open_stream
from draftwood.protocols import Drafter, Feedback, Resizable, Stream
from draftwood.verify.gumbel import GumbelNoise

_REMEMBERED: Final = 0.995
"""Weight of the past in a lead: about two hundred steps."""

_WORTH: Final = 0.01
"""Gain in tokens per step from which looking at the noise is worth its time."""

_TRIAL: Final = 128
_PROBE: Final = 8
"""Steps that look at the noise at first, and then one of so many where it does not gain."""


class NoiseLookahead:
    """A drafter's drafts for requests whose noise is known; `under` gives the drafter of one.

    drafter: proposes candidates, a `Resizable` one `width` times as many as are to be verified;
    drafts of sampled tokens pass as they are. nodes: the largest draft; None: that of a `Resizable`
    drafter, else the budget's. What is learned about its confidence is shared by all requests. Only
    for `SharedGumbel` with the same noise: under any other rule drafts are worse, though no text
    is. Thread-safe where the drafter is.

    Raises:
        InvalidOption: a number of nodes below 0, or a width below 1.
    """

    def __init__(self, drafter: Drafter, *, nodes: int | None = None, width: int = 3) -> None:
        if (nodes is not None and nodes < 0) or width < 1:
            raise InvalidOption(
                f"nodes is {nodes} and width {width}; use 0 or more nodes and a width of 1 or more"
            )
        self.candidates, self.nodes, self.width = drafter, nodes, width
        if isinstance(drafter, Resizable):
            self.nodes = drafter.nodes if nodes is None else nodes
            self.candidates = drafter.with_nodes(self.nodes * width)
        self.trust, self.lead = NoiseTrust(), Lead()

    def under(self, noise: GumbelNoise) -> LookaheadDrafter:
        """The drafter for one request, whose text is drawn with this noise."""
        return LookaheadDrafter(self, noise)


class LookaheadDrafter:
    """A `NoiseLookahead` under the noise of one request."""

    def __init__(self, shared: NoiseLookahead, noise: GumbelNoise) -> None:
        self._shared, self._noise = shared, noise

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> LookaheadStream:
        """A stream after `prompt`, which is the request's whole context."""
        inner = open_stream(self._shared.candidates, prompt, namespace, prediction)
        return LookaheadStream(self._shared, inner, self._noise, len(prompt))

    def close(self) -> None:
        """Nothing to give back: the candidates' drafter serves other requests, too."""


class LookaheadStream:
    """One sequence and its place in the noise. Used by one thread at a time."""

    def __init__(
        self, shared: NoiseLookahead, inner: Stream, noise: GumbelNoise, position: int
    ) -> None:
        self._shared, self._inner, self._noise = shared, inner, noise
        self._position = position
        self._candidates = Draft.empty()
        self._winning: WinProbability | None = None
        self._choices: list[list[int]] = []

    def propose(self, budget: Budget) -> Draft:
        """The candidates that are likeliest to win, best first; the stream itself does not move.

        Where the noise has not helped lately, the inner stream's own draft; every eighth step looks
        whether it would have.
        """
        shared, self._winning = self._shared, None
        nodes = budget.nodes if shared.nodes is None else min(budget.nodes, shared.nodes)
        if not shared.lead.asks():
            self._candidates = self._inner.propose(Budget(nodes, budget.depth, budget.floor))
            return self._candidates
        wide = Budget(nodes * shared.width, nodes if budget.depth is None else budget.depth)
        draft = self._candidates = self._inner.propose(wide)
        if draft.proposal is not None:
            return draft.cut(nodes=nodes)
        if not len(draft):
            return draft
        noise = self._noise.table(self._position + draft.depths - 1, draft.tokens)
        self._winning = WinProbability(draft, noise)
        sure = self._winning.under(shared.trust)
        seen = Draft(draft.tokens, draft.parents, sure, draft.source, evidence=draft.evidence)
        self._choices = [_best(each, nodes, budget.floor) for each in (seen, draft)]
        if shared.lead.pays:
            return _reordered(seen, self._choices[0])
        return _reordered(draft, self._choices[1])

    def observe(self, feedback: Feedback) -> None:
        """Learn how well the noise predicted the text; tell the inner stream of all candidates."""
        if self._candidates.proposal is not None:
            told = feedback
        else:
            told = feedback.for_draft(self._candidates)
        if self._winning is not None:
            self._shared.trust.learn(self._winning.seen(feedback.tokens.tolist()))
            path = told.verdict.path.tolist()
            self._shared.lead.learn(*(_along(path, choice) for choice in self._choices))
        self._inner.observe(told)
        self._position += len(feedback.tokens)

    def close(self) -> None:
        """Close the inner stream."""
        self._inner.close()


class Lead:
    """Whether drafts ranked by the noise have been accepted enough better than those without it.

    Both are judged by the text that came, whichever was verified. The noise is looked at in every
    step at first, and while it gains; else in every eighth. Safe to use from several threads: a
    race costs a count.
    """

    def __init__(self) -> None:
        self._ahead = self._tokens = 0.0
        self._steps = 0

    @property
    def pays(self) -> bool:
        """Whether it raises tokens per step by 1 % or more."""
        return self._ahead > _WORTH * self._tokens

    def asks(self) -> bool:
        """Whether the next step looks at the noise."""
        self._steps += 1
        return self._steps <= _TRIAL or self.pays or self._steps % _PROBE == 0

    def learn(self, seeded: int, plain: int) -> None:
        """Count the accepted tokens of one step with either choice."""
        self._ahead = _REMEMBERED * self._ahead + seeded - plain
        self._tokens = _REMEMBERED * self._tokens + plain + 1


def _best(draft: Draft, nodes: int, floor: float) -> list[int]:
    """The nodes of the highest values, best first and so below their parents."""
    ranked = rank(draft)
    count = sum(key >= floor for key in ranked.keys[:nodes])
    return list(range(count)) if ranked.order is None else list(ranked.order[:count])


def _reordered(draft: Draft, order: list[int]) -> Draft:
    """The nodes of a draft in another order, parents before children."""
    if not order:
        return Draft.empty()
    place = np.full(len(draft) + 1, ROOT, dtype=np.int32)  # entry -1 stands for ROOT
    place[order] = np.arange(len(order), dtype=np.int32)
    return Draft(
        draft.tokens[order],
        place[draft.parents[order]],
        draft.confidence[order],
        draft.source[order],
        evidence=None if draft.evidence is None else draft.evidence[order],
    )


def _along(path: list[int], chosen: list[int]) -> int:
    """How many first nodes of a path were chosen."""
    nodes = set(chosen)
    return next((at for at, node in enumerate(path) if node not in nodes), len(path))
