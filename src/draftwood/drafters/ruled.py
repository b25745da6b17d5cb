"""Drafts within the rules of a text: what a logits processor will refuse is not drafted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from draftwood.draft import Budget, Draft
from draftwood.guarded import open_stream
from draftwood.protocols import Drafter, Feedback, Stream
from draftwood.sampling.processors import Foreseeing
from draftwood.tokens import TokenIds


class RuledDrafter:
    """Cuts another drafter's drafts at the first token of each path that a rule refuses.

    For one text, as its rules are. The text stays the same: refused tokens would not have been
    accepted. drafter: stays open when this one is closed.
    """

    def __init__(self, drafter: Drafter, rules: Sequence[Foreseeing]) -> None:
        self._drafter = drafter
        self._rules = tuple(rules)

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> RuledStream:
        """A stream of the other drafter's, within the rules."""
        stream = open_stream(self._drafter, prompt, namespace, prediction)
        return RuledStream(stream, prompt, self._rules)

    def close(self) -> None:
        """Nothing: the other drafter is its owner's to close."""


class RuledStream:
    """A stream whose drafts keep to the rules."""

    def __init__(self, stream: Stream, prompt: TokenIds, rules: Sequence[Foreseeing]) -> None:
        self._stream = stream
        self._ids = prompt
        self._rules = rules
        self._asked = Draft.empty()

    def propose(self, budget: Budget) -> Draft:
        """The other's draft, cut; sampled drafts stay whole, since what is drawn is not chosen."""
        draft = self._asked = self._stream.propose(budget)
        if draft.proposal is not None:
            return draft
        for rule in self._rules:
            kept = rule.keeps(self._ids, draft) if len(draft) else []
            if len(kept) < len(draft):
                draft = draft.select(kept)
        return draft

    def observe(self, feedback: Feedback) -> None:
        """Tell the other stream how its own draft went."""
        self._ids = np.concatenate((self._ids, feedback.tokens))
        asked = self._asked
        self._stream.observe(feedback if asked.proposal is not None else feedback.for_draft(asked))

    def close(self) -> None:
        """End the other stream."""
        self._stream.close()
