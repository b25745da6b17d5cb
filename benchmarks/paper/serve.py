"""One request served over suffix trees that stay as they are, or learn; for run.py.

`draftwood replay` measures drafters as they are used. Here the trees are in the open, so that one
of them can be left out, frozen or started from a history, and the match behind a draft is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from draftwood.draft import TokenIds
from draftwood.index.suffix_tree import Guess, SuffixPolicy, SuffixTree
from draftwood.logs.call import Record

MATCHES = 64
"""Match lengths that are counted apart; longer ones count as this one."""


@dataclass(slots=True)
class Tally:
    """Counts. by_match[p]: steps, accepted and drafted tokens after matches of p tokens."""

    steps: int = 0
    tokens: int = 0
    drafted: int = 0
    by_match: np.ndarray = field(default_factory=lambda: np.zeros((MATCHES + 1, 3), np.int64))

    def add(self, drafted: int, accepted: int, tokens: int, match: int) -> None:
        """Count one step."""
        self.steps += 1
        self.tokens += tokens
        self.drafted += drafted
        self.by_match[min(match, MATCHES)] += (1, accepted, drafted)

    @property
    def tokens_per_step(self) -> float:
        """Generated tokens a step, the target's own included."""
        return self.tokens / max(self.steps, 1)

    @property
    def drafted_per_step(self) -> float:
        """Drafted tokens a step."""
        return self.drafted / max(self.steps, 1)

    def as_dict(self) -> dict[str, float]:
        """The figures that the plots show."""
        return {
            "steps": self.steps,
            "tokens_per_step": round(self.tokens_per_step, 4),
            "drafted_per_step": round(self.drafted_per_step, 4),
        }


def serve(
    record: Record,
    shared: SuffixTree,
    policy: SuffixPolicy,
    tally: Tally,
    *,
    own: bool = True,
    common: bool = True,
    learn: bool = False,
    nodes: int = 64,
) -> None:
    """Serve one recorded request and count its steps.

    own, common: draft from the request's own tree, from the shared one, or from the better of both.
    learn: the response joins the shared tree as it is generated.
    """
    depth = shared.depth
    native = policy.native()
    text = np.concatenate((record.prompt, record.response))
    at = len(record.prompt)
    mine = SuffixTree(depth)
    number = mine.begin(record.prompt) if own else None
    joined = shared.begin() if learn else None
    while at < len(text):
        context = text[max(0, at - depth + 1) : at]
        most = min(nodes, len(text) - at - 1)
        guesses: list[Guess] = []
        if own:
            guesses.append(mine.speculate(context, native, nodes=nodes, reach=most))
        if common:
            guesses.append(shared.speculate(context, native, nodes=nodes, reach=most))
        best = max(guesses, key=lambda guess: guess.score)  # the first of equals: the request's own
        accepted = _accepted(best, text, at)
        step = text[at : at + accepted + 1]
        tally.add(len(best), accepted, len(step), best.match if len(best) else 0)
        if number is not None:
            mine.extend(number, step)
        if joined is not None:
            shared.extend(joined, step)
        at += len(step)
    if joined is not None:
        shared.finish(joined)


def _accepted(guess: Guess, text: TokenIds, at: int) -> int:
    """How many drafted tokens the recorded text agrees with, along one path."""
    node, accepted = -1, 0
    pairs = zip(guess.tokens.tolist(), guess.parents.tolist(), strict=True)
    for i, (token, parent) in enumerate(pairs):
        if parent == node and at + accepted < len(text) and token == text[at + accepted]:
            node, accepted = i, accepted + 1
    return accepted


def store(shared: SuffixTree, texts: list[TokenIds]) -> None:
    """Put past outputs into the shared tree."""
    for text in texts:
        shared.finish(shared.begin(text))
