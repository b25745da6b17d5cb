"""Whether both suffix trees draft the same: the same streams, context by context."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from benchmarks.suffix.released import ReleasedTree
from benchmarks.suffix.sides import (
    BEST_TREE,
    RELEASED,
    Guess,
    OurRequest,
    Ours,
    Peer,
    PeerRequest,
    Setting,
)
from draftwood.draft import TokenIds
from draftwood.index.suffix_tree import SuffixPolicy, SuffixTree
from draftwood.logs.call import Record

SETTINGS = (
    RELEASED,
    BEST_TREE,
    Setting("linear", alpha=2.0, offset=1.0, floor=0.0),
    Setting("tree", alpha=1.0, offset=0.0, floor=0.1),
)
TOLERANCE = 1e-6
"""Of probabilities, which either side multiplies up in float32."""


@dataclass(slots=True)
class Comparison:
    """Counts of contexts and of drafts, one draft for each context and setting.

    kinds: how many drafts were "equal" (tokens, parents, probabilities, score, match length), or
    what sets them apart. examples: the first few drafts of each other kind.
    """

    contexts: int = 0
    drafts: int = 0
    nodes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    by_setting: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    equal_contexts: int = 0
    largest_gap: float = 0.0

    def add(self, where: str, setting: Setting, context: int, ours: Guess, peer: Guess) -> bool:
        """Compare one pair after a context of so many tokens; whether they are equal."""
        kind = difference(ours, peer)
        if kind != "equal" and ours.match == context:
            kind = "whole context"
        self.drafts += 1
        self.nodes += len(peer.tokens)
        self.kinds[kind] += 1
        if kind == "equal":
            gaps = np.subtract(ours.probability, peer.probability)
            self.largest_gap = max(self.largest_gap, float(np.abs(gaps).max(initial=0.0)))
            return True
        self.by_setting[f"{kind}: {setting}"] += 1
        shown = self.examples.setdefault(kind, [])
        if len(shown) < 3:
            shown.append(f"{where}, {setting}\n    ours {ours}\n    peer {peer}")
        return False


EXPLAINED = {
    "order of ties": "the same tree; only nodes of equal probability stand in another order",
    "choice of ties": "node for node equally probable: where equals were more than fit, others "
    "were taken",
    "whole context": "the context is shorter than the depth and stands in the tree as a whole; the "
    "released code looks for proper suffixes only",
}
"""Known differences. The first two leave the score and every probability as they are."""


def difference(ours: Guess, peer: Guess) -> str:
    """What sets two drafts apart: "equal", one of EXPLAINED, or the name of what differs."""
    if len(ours.tokens) != len(peer.tokens):
        return "length"
    gaps = np.abs(np.subtract(ours.probability, peer.probability))
    if gaps.max(initial=0.0) > TOLERANCE:
        return "probabilities"
    if abs(ours.score - peer.score) > TOLERANCE * max(len(ours.tokens), 1):
        return "score"
    if ours.match != peer.match and ours.tokens:
        return "match length"
    if (ours.tokens, ours.parents) == (peer.tokens, peer.parents):
        return "equal"
    return "order of ties" if paths(ours) == paths(peer) else "choice of ties"


def paths(guess: Guess) -> Counter[tuple[int, ...]]:
    """The tokens from the context to each node, without the nodes' order."""
    found: list[tuple[int, ...]] = []
    for parent, token in zip(guess.parents, guess.tokens, strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return Counter(found)


@dataclass(slots=True)
class Running:
    """One request on all sides, and how much of it is generated."""

    record: Record
    text: TokenIds
    at: int
    peer: PeerRequest
    ours: list[OurRequest]


def compare(
    name: str, records: Sequence[Record], *, depth: int, contexts: int, seed: int = 0
) -> Comparison:
    """Serve `records` on both sides, eight requests at a time, for so many contexts.

    A step generates one to four tokens, as speculative decoding does; a seeded choice of how many.
    """
    found = Comparison()
    random = np.random.default_rng(seed)
    peer = Peer(depth)
    sides = [Ours(depth, setting) for setting in SETTINGS]
    waiting = iter(records)
    running: list[Running] = []
    while found.contexts < contexts:
        running += [_open(record, peer, sides) for record in islice(waiting, 8 - len(running))]
        if not running:
            break
        for request in running:
            _step(f"{name}@{found.contexts}", request, found, depth, int(random.integers(1, 5)))
        for request in _ended(running):
            request.peer.close()
            for side in request.ours:
                side.close()
        running = [request for request in running if request.at < len(request.text)]
    return found


def compare_evicting(
    name: str,
    texts: Sequence[TokenIds],
    *,
    depth: int,
    contexts: int,
    kept: int = 24,
    seed: int = 0,
) -> Comparison:
    """The trees alone: four sequences grow side by side, the oldest go when more than `kept` stand.

    After each 16 tokens a context of a stored text and one of the text that grows are drafted for.
    """
    found = Comparison()
    random = np.random.default_rng(seed)
    ours, peer = SuffixTree(depth), ReleasedTree(depth)
    stored: list[tuple[int, int, TokenIds]] = []
    growing: list[tuple[int, int, TokenIds, int]] = []
    waiting = enumerate(text for text in texts if len(text) > depth)
    while found.contexts < contexts:
        while len(growing) < 4 and (entry := next(waiting, None)) is not None:
            growing.append((ours.begin(), entry[0], entry[1], 0))
        if not growing:
            break
        turn = int(random.integers(len(growing)))
        mine, theirs, text, at = growing[turn]
        piece = text[at : at + 16]
        ours.extend(mine, piece)
        peer.extend_ndarray(theirs, piece)
        growing[turn] = (mine, theirs, text, at + len(piece))
        if at + len(piece) == len(text):
            del growing[turn]
            ours.finish(mine)
            stored.append((mine, theirs, text))
        if len(stored) > kept:
            old = stored.pop(0)
            ours.remove(old[0])
            peer.remove(old[1])
        asked = [text[: at + len(piece)]] if at + len(piece) > depth else []
        if stored:
            other = stored[int(random.integers(len(stored)))][2]
            asked.append(other[: int(random.integers(depth, len(other))) + 1])
        for context in asked:
            where, size = f"{name}@{found.contexts}", len(context)
            equal = [
                found.add(where, setting, size, *_drawn(ours, peer, context, setting))
                for setting in SETTINGS
            ]
            found.contexts += 1
            found.equal_contexts += all(equal)
    return found


def _drawn(
    ours: SuffixTree, peer: ReleasedTree, context: TokenIds, setting: Setting
) -> tuple[Guess, Guess]:
    """What both trees draft after a context."""
    policy = SuffixPolicy(setting.alpha, setting.offset, setting.floor, setting.mode)
    mine = ours.speculate(context, policy, nodes=setting.nodes)
    theirs = peer.speculate_ndarray(
        context[-ours.depth :],
        setting.nodes,
        setting.alpha,
        setting.offset,
        setting.floor,
        setting.mode == "tree",
    )
    return (
        Guess(
            mine.tokens.tolist(),
            mine.parents.tolist(),
            mine.probability.tolist(),
            mine.score,
            mine.match,
        ),
        Guess(theirs.token_ids, theirs.parents, theirs.probs, theirs.score, theirs.match_len),
    )


def _open(record: Record, peer: Peer, sides: list[Ours]) -> Running:
    text = np.concatenate((record.prompt, record.response))
    opened = [side.open(record.prompt) for side in sides]
    return Running(record, text, len(record.prompt), peer.open(record.prompt), opened)


def _ended(running: list[Running]) -> Iterator[Running]:
    return (request for request in running if request.at >= len(request.text))


def _step(where: str, request: Running, found: Comparison, depth: int, size: int) -> None:
    context = request.text[max(0, request.at - depth) : request.at]
    equal = [
        found.add(where, setting, request.at, side.guess(), request.peer.guess(context, setting))
        for setting, side in zip(SETTINGS, request.ours, strict=True)
    ]
    found.contexts += 1
    found.equal_contexts += all(equal)
    tokens = request.text[request.at : request.at + size]
    request.peer.append(tokens)
    for side in request.ours:
        side.append(tokens)
    request.at += len(tokens)
