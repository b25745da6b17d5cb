"""What every setting of the released suffix decoding drafts on a trace, in one walk over it.

A setting decides what is drafted and never what history holds: the trees take the response token
by token whatever was proposed. So all settings walk over one pair of trees, each from the place
where its last step ended, and a step is kept as the number of tokens that it drafted: priced
afterwards, at any cost. Prompt lookup walks along with its own settings.

Where a more generous setting of the same walk (more nodes, a higher alpha, a lower floor) drafted
within a setting's limits, that is the setting's own draft, and the tree is not asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from draftwood import _native
from draftwood.draft import Budget, Draft, TokenIds
from draftwood.drafters.lookup import PromptLookup
from draftwood.index.suffix_tree import Mode, SuffixPolicy
from draftwood.logs.call import Record
from draftwood.protocols import Feedback, Verdict

DEPTH = 64
"""Tokens of a suffix that the trees keep: the released code's default."""
MODES: tuple[Mode, ...] = ("linear", "tree")
ALPHAS = (4.0, 2.0, 1.0)
FLOORS = (0.0, 0.1, 0.2, 0.3, 0.5)
NODES = (64, 32, 24, 16, 8, 4)
LOOKUP_NODES = (10, 4)
PLAIN = "none"
_NOTHING = Verdict(np.empty(0, dtype=np.int32), None)


class Setting(NamedTuple):
    """One way to run the released drafter: all that its options say about a draft."""

    mode: Mode
    alpha: float
    floor: float
    nodes: int

    @property
    def policy(self) -> SuffixPolicy:
        """The policy of the suffix tree."""
        return SuffixPolicy(alpha=self.alpha, floor=self.floor, mode=self.mode)

    @property
    def spec(self) -> str:
        """The drafter that it is in this library."""
        rule = f"mode={self.mode},alpha={self.alpha:g},floor={self.floor:g}"
        return f"suffix:{rule},nodes={self.nodes},depth={DEPTH}"


SETTINGS = [Setting(*each) for each in product(MODES, ALPHAS, FLOORS, NODES)]


class Drawn(NamedTuple):
    """A draft as far as it matters: size, matched tokens, least probable node, accepted tokens."""

    size: int
    match: int
    least: float
    accepted: int


Steps = dict[str, list[int]]
"""By drafter spec: entry n, the steps that drafted n tokens."""


def count_steps(records: Iterable[Record]) -> Steps:
    """The steps of every setting over `records`, history online from empty."""
    steps = np.zeros((len(SETTINGS), max(NODES) + 1), dtype=np.int64)
    shared = _native.SuffixTree(DEPTH)
    policies = [each.policy.native(witness=False) for each in SETTINGS]
    looked_up = {nodes: [0] * (nodes + 1) for nodes in LOOKUP_NODES}
    tokens = 0
    for record in records:
        _walk(record, shared, policies, steps)
        _look_up(record, looked_up)
        tokens += len(record.response)
    found = {setting.spec: row.tolist() for setting, row in zip(SETTINGS, steps, strict=True)}
    found |= {f"lookup:nodes={nodes}": row for nodes, row in looked_up.items()}
    return found | {PLAIN: [tokens]}


def best(steps: Mapping[str, Sequence[int]], times: np.ndarray[Any, Any]) -> tuple[float, str]:
    """The highest predicted speed, tokens in the time of a plain step, and the spec that has it.

    times: t(0), t(1), ..; every spec's steps generate the same tokens.
    """
    plain = steps[PLAIN][0] * times[0]
    speeds = {
        spec: float(plain / np.dot(row, times[: len(row)]))
        for spec, row in steps.items()
        if spec != PLAIN
    }
    spec = max(speeds, key=speeds.__getitem__)
    return speeds[spec], spec


def _walk(
    record: Record,
    shared: _native.SuffixTree,
    policies: Sequence[_native.SuffixPolicy],
    steps: np.ndarray[Any, Any],
) -> None:
    """One response, by every setting."""
    text = np.concatenate((record.prompt, record.response))
    start, response = len(record.prompt), record.response.tolist()
    own = _native.SuffixTree(DEPTH)
    own_sequence, shared_sequence = own.begin(), shared.begin()
    own.extend(own_sequence, record.prompt)
    waiting: dict[int, list[int]] = {0: list(range(len(SETTINGS)))}
    for at in range(len(response)):
        context = text[max(0, start + at - DEPTH + 1) : start + at]
        known: list[tuple[Setting, Drawn]] = []
        for number in sorted(waiting.pop(at, ())):  # generous settings come first
            setting = SETTINGS[number]
            drawn = _same(setting, known)
            if drawn is None:
                ask = context, policies[number], setting.nodes, setting.nodes
                guess, other = own.speculate(*ask), shared.speculate(*ask)
                drawn = _drawn(other if other.score > guess.score else guess, response, at)
                known.append((setting, drawn))
            steps[number, drawn.size] += 1
            waiting.setdefault(at + drawn.accepted + 1, []).append(number)
        token = record.response[at : at + 1]
        own.extend(own_sequence, token)
        shared.extend(shared_sequence, token)
    shared.finish(shared_sequence)


def _same(setting: Setting, known: Sequence[tuple[Setting, Drawn]]) -> Drawn | None:
    """The draft of a more generous setting that this one would have drawn, too."""
    mode, alpha, floor, nodes = setting
    for other, drawn in known:
        if (
            drawn.size <= nodes
            and drawn.least >= floor
            and other.mode == mode
            and other.alpha >= alpha
            and other.floor <= floor
            and other.nodes >= nodes
            and drawn.size <= int(alpha * drawn.match)
            # Which of two equally probable nodes comes first depends on the nodes below the floor.
            and (
                other.floor == floor
                or mode == "linear"
                or drawn.size < min(other.nodes, int(other.alpha * drawn.match))
            )
        ):
            return drawn
    return None


def _drawn(guess: _native.SuffixDraft, response: Sequence[int], at: int) -> Drawn:
    size = len(guess.tokens)
    if not size:
        return Drawn(0, guess.match, 1.0, 0)
    accepted = _accepted(guess.tokens.tolist(), guess.parents.tolist(), response, at)
    return Drawn(size, guess.match, float(guess.probability[-1]), accepted)


def _accepted(tokens: list[int], parents: list[int], response: Sequence[int], at: int) -> int:
    """How many tokens of a draft, parents before children, stand in the response after `at`."""
    node, end = -1, len(response)
    first = at
    for number, (token, parent) in enumerate(zip(tokens, parents, strict=True)):
        if parent == node and at < end and token == response[at]:
            node, at = number, at + 1
    return at - first


def _look_up(record: Record, steps: Mapping[int, list[int]]) -> None:
    """One response by prompt lookup, of so many copied tokens at most."""
    response: TokenIds = record.response
    known = response.tolist()
    places = dict.fromkeys(steps, 0)
    with closing(PromptLookup().open(record.prompt)) as stream:
        for at in range(len(known)):
            for nodes, place in places.items():
                if place != at:
                    continue
                draft = stream.propose(Budget(nodes))
                accepted = _accepted(draft.tokens.tolist(), draft.parents.tolist(), known, at)
                steps[nodes][len(draft)] += 1
                places[nodes] = at + accepted + 1
            stream.observe(Feedback(Draft.empty(), _NOTHING, response[at : at + 1]))
