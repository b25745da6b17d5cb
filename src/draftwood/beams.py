r"""Speculative beam sampling: several sequences out, drawn as without drafts, in fewer passes.

Beam sampling keeps W beams. A layer draws W times from all one-token extensions of all beams, each
in proportion to its beam's likelihood times the token's probability.

    prompt  a   c   d        committed: what all beams begin with
             \   \
              b   e f        beams and, below them, the draft: layers that the small model drew in
               \     \       the same way; one pass of the target gives p after every node
                g     h

A layer of the draft is verified as a whole (`accept_several`): it gives W independent draws from p,
which are drafted tokens where p and q allow it. While all W draws are nodes of the draft, the pass
already has their rows, and the next layer is verified.

Qin et al. 2024, *Dynamic-Width Speculative Beam Decoding for LLM Inference* (arXiv 2409.16560).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draftwood.draft import ROOT, Draft, TokenIds, as_tokens
from draftwood.drafters.small.seat import DraftModel, DraftSeat
from draftwood.errors import InvalidDraft, InvalidOption, InvalidTokens, UnsupportedModel
from draftwood.protocols import Cursor, Rows, Target, Verdict
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import Law
from draftwood.verify.laws import Probabilities, normalized, target_law
from draftwood.verify.multiround import accept_several

Prefix: TypeAlias = tuple[int, ...]
_WIDEST = 4
"""The draft's width is at most so many times that of the output."""
_FORGET = 0.9
"""Weight of the past in the share of offers that are accepted."""


@dataclass(frozen=True, slots=True, eq=False)
class Beam:
    """A sequence and how often it was drawn.

    tokens: int32, generated so far. count: how many of the `width` draws are this sequence. weight:
    its likelihood divided by that of the likeliest beam.
    """

    tokens: TokenIds
    count: int
    weight: Any


@dataclass(frozen=True, slots=True, eq=False)
class BeamStep:
    """One pass of the target: the beams after it, and how many layers it verified.

    drafted: nodes of the draft, those of the beams themselves not counted. finish: None while
    generation goes on, else "stop" (all beams have ended), "length" or "context".
    """

    beams: tuple[Beam, ...]
    layers: int
    drafted: int
    finish: str | None = None


def sample_beams(
    target: Target,
    model: DraftModel,
    prompt: ArrayLike,
    *,
    width: int,
    chance: Chance,
    law: Law,
    depth: int = 4,
    max_tokens: int = 256,
    end_tokens: Collection[int] = (),
) -> Iterator[BeamStep]:
    """Beam sampling after `prompt` with `width` draws a layer; yields a step for each target pass.

    law: a function from logits and the tokens before them to weights (`Sampling`), for the target
    and the small model. depth: layers that the small model drafts for a pass; 0 drafts none. It
    draws more than `width` times a layer where few of its draws were accepted lately. A beam that
    ends with an end token stays in the pool with its likelihood. The beams after every layer have
    exactly the distribution of plain beam sampling, whatever the small model.

    Raises:
        InvalidOption: width or max_tokens below 1, or a negative depth.
        InvalidTokens: an empty prompt, or invalid token ids.
        UnsupportedModel: a target that takes no trees.
    """
    prompt = as_tokens(prompt)
    if not len(prompt):
        raise InvalidTokens("the prompt has 0 tokens; begin with at least one, such as BOS")
    for name, value, least in (
        ("width", width, 1),
        ("max_tokens", max_tokens, 1),
        ("depth", depth, 0),
    ):
        if value < least:
            raise InvalidOption(f"{name} is {value}; use {least} or more")
    if not target.trees:
        raise UnsupportedModel("beams need a target that takes trees; sample them one by one")
    return _steps(target, model, prompt, width, chance, law, depth, max_tokens, end_tokens)


def _steps(
    target: Target,
    model: DraftModel,
    prompt: TokenIds,
    width: int,
    chance: Chance,
    law: Law,
    depth: int,
    max_tokens: int,
    end_tokens: Collection[int],
) -> Iterator[BeamStep]:
    pool = _Pool([()], [1], [width], end_tokens)
    committed = prompt
    layers = 0
    rate = 1.0
    finish: str | None = None
    with closing(target.open(prompt)) as cursor, closing(model.open(prompt)) as seat:
        small = _Small(seat, law)
        while finish is None:
            room = cursor.room
            longest = max(map(len, pool.prefixes))
            reach = min(depth, max_tokens - layers - 1)
            if room is not None:
                reach = min(reach, room - 1 - longest)
            draws = min(_WIDEST * width, int(np.ceil(width / max(rate, 1e-3))))
            forest = _grow(pool, small, committed, max(0, reach), draws, chance)
            rows = cursor.score(forest.draft)
            settled = 0
            while finish is None and pool.known(forest.nodes):
                pool, offered, taken = forest.settle(settled, pool, rows, law, width, chance)
                rate = _FORGET * rate + (1 - _FORGET) * taken / offered if offered else rate
                settled += 1
                layers += 1
                finish = _finish(pool, layers, max_tokens, room)
            yield BeamStep(
                pool.beams(committed[len(prompt) :]),
                settled,
                len(forest.draft) - forest.own,
                finish,
            )
            shared = pool.common()
            if shared and finish is None:
                _commit(cursor, forest, shared)
                small.keep(shared)
                committed = np.concatenate((committed, np.array(shared, dtype=np.int32)))
                pool = pool.behind(len(shared))


def _finish(pool: _Pool, layers: int, max_tokens: int, room: int | None) -> str | None:
    if all(map(pool.ended, pool.prefixes)):
        return "stop"
    if layers == max_tokens:
        return "length"
    if room is not None and max(map(len, pool.prefixes)) >= room:
        return "context"
    return None


class _Pool:
    """Different prefixes after the committed text, each with likelihood and number of draws."""

    def __init__(
        self,
        prefixes: list[Prefix],
        weights: list[Any],
        counts: list[int],
        end_tokens: Collection[int],
    ) -> None:
        self.prefixes, self.weights, self.counts = prefixes, weights, counts
        self.end_tokens = end_tokens

    def ended(self, prefix: Prefix) -> bool:
        return bool(prefix) and prefix[-1] in self.end_tokens

    def known(self, nodes: dict[Prefix, int]) -> bool:
        """Whether a pass gave rows after all of them."""
        return all(prefix in nodes for prefix in self.prefixes)

    def law(self, row: Callable[[Prefix], Probabilities]) -> tuple[Probabilities, int]:
        """The law over all extensions, end to end, and the size of each prefix's part.

        Its last entry is for staying, which is all that an ended prefix does. row: the law of the
        token after a prefix.
        """
        rows = [None if self.ended(prefix) else row(prefix) for prefix in self.prefixes]
        example = next(row for row in rows if row is not None)
        size = len(example) + 1
        joined = np.zeros(size * len(rows), dtype=example.dtype)
        for at, (one, weight, count) in enumerate(
            zip(rows, self.weights, self.counts, strict=True)
        ):
            if one is None:
                joined[(at + 1) * size - 1] = weight * count
            else:
                joined[at * size : (at + 1) * size - 1] = one * (weight * count)
        return normalized(joined), size

    def extended(self, draws: Iterable[int], pool_law: Probabilities, size: int) -> _Pool:
        """What some draws from the law over extensions give."""
        found: dict[Prefix, tuple[Any, int]] = {}
        for draw in draws:
            at, token = divmod(draw, size)
            prefix = self.prefixes[at]
            longer = prefix if token == size - 1 else (*prefix, token)
            weight = pool_law[draw] / self.counts[at]
            found[longer] = (weight, found.get(longer, (weight, 0))[1] + 1)
        top = max(weight for weight, _ in found.values())
        weights = [weight / top for weight, _ in found.values()]
        return _Pool(list(found), weights, [count for _, count in found.values()], self.end_tokens)

    def common(self) -> Prefix:
        """The tokens that all prefixes begin with."""
        first, last = min(self.prefixes), max(self.prefixes)
        for at, (a, b) in enumerate(zip(first, last, strict=False)):
            if a != b:
                return first[:at]
        return first

    def behind(self, count: int) -> _Pool:
        """The same pool, once `count` tokens of all prefixes are committed."""
        prefixes = [prefix[count:] for prefix in self.prefixes]
        return _Pool(prefixes, self.weights, self.counts, self.end_tokens)

    def beams(self, done: TokenIds) -> tuple[Beam, ...]:
        """The pool as its users see it, `done` in front of all prefixes."""
        texts = [
            np.concatenate((done, np.array(prefix, dtype=np.int32))) for prefix in self.prefixes
        ]
        return tuple(map(Beam, texts, self.counts, self.weights))


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """A layer of the draft: draws from q, the small model's law over the extensions of a pool."""

    pool: _Pool
    q: Probabilities
    size: int
    draws: list[int]

    def offers(self, pool: _Pool, size: int) -> list[tuple[int, Probabilities]]:
        """The draws that extend a prefix of `pool`, as its own law numbers them, each with its law.

        Which draws these are depends on their prefixes only, so that given their number they are
        independent draws from the part of q that belongs to `pool`.
        """
        if size != self.size:
            raise InvalidDraft(
                f"the small model has {self.size - 1} tokens and the target {size - 1}; "
                "pair two models of one vocabulary"
            )
        place = {prefix: at for at, prefix in enumerate(self.pool.prefixes)}
        q = np.zeros(size * len(pool.prefixes), dtype=self.q.dtype)
        number: dict[int, int] = {}
        for at, prefix in enumerate(pool.prefixes):
            if prefix in place:
                number[place[prefix]] = at
                start = place[prefix] * size
                q[at * size : (at + 1) * size] = self.q[start : start + size]
        q = normalized(q)
        split = (divmod(draw, size) for draw in self.draws)
        return [(number[at] * size + token, q) for at, token in split if at in number]


@dataclass(frozen=True, slots=True, eq=False)
class _Forest:
    """What one pass of the target looks at: the beams, and below them the layers of the draft.

    nodes: the node of each prefix. own: how many nodes are the beams' own.
    """

    draft: Draft
    nodes: dict[Prefix, int]
    own: int
    layers: list[_Drawn]

    def settle(
        self, at: int, pool: _Pool, rows: Rows, law: Law, width: int, chance: Chance
    ) -> tuple[_Pool, int, int]:
        """Layer number `at` of the pass: the next pool, how many draws it was offered and took."""

        def row(prefix: Prefix) -> Probabilities:
            return target_law(law, rows, self.nodes[prefix] + 1, list(prefix))

        p, size = pool.law(row)
        offers = self.layers[at].offers(pool, size) if at < len(self.layers) else []
        outputs = accept_several(chance, p, offers, width)
        offered = {token for token, _ in offers}
        taken = min(len(offers), sum(output in offered for output in outputs))
        return pool.extended(outputs, p, size), len(offers), taken


class _Small:
    """The small model's rows after prefixes, each computed once while the seat holds it."""

    def __init__(self, seat: DraftSeat, law: Law) -> None:
        self._seat, self._law = seat, law
        self._rows: dict[Prefix, NDArray[Any]] = {}
        self._nodes: dict[Prefix, int] = {(): ROOT}

    def rows(self, prefixes: Sequence[Prefix]) -> bool:
        """Compute the rows after prefixes, a pass a level; False where the context is full."""
        room = self._seat.room
        if room is not None and max(map(len, prefixes)) > room:
            return False
        if () not in self._rows:
            self._rows[()] = self._seat.root()
        missing = {
            prefix[:end] for prefix in prefixes for end in range(1, len(prefix) + 1)
        } - self._rows.keys()
        for length in sorted({len(prefix) for prefix in missing}):
            level = sorted(prefix for prefix in missing if len(prefix) == length)
            tokens = np.array([prefix[-1] for prefix in level], dtype=np.int32)
            parents = np.array([self._nodes[prefix[:-1]] for prefix in level], dtype=np.int32)
            first = len(self._nodes) - 1
            self._nodes |= {prefix: first + at for at, prefix in enumerate(level)}
            self._rows |= zip(level, self._seat.expand(tokens, parents), strict=True)
        return True

    def law(self, committed: TokenIds, prefix: Prefix) -> Probabilities:
        """q after a prefix, once its row is there."""
        seen = np.concatenate((committed, np.array(prefix, dtype=np.int32)))
        return normalized(self._law(self._rows[prefix], seen))

    def keep(self, settled: Prefix) -> None:
        """Append the tokens that all beams begin with to the context."""
        ends = range(1, len(settled) + 1)
        path = [self._nodes[settled[:end]] for end in ends if settled[:end] in self._nodes]
        self._seat.keep(np.array(path, dtype=np.int32), np.array(settled, dtype=np.int32))
        self._rows, self._nodes = {}, {(): ROOT}


def _grow(
    pool: _Pool, small: _Small, committed: TokenIds, depth: int, draws: int, chance: Chance
) -> _Forest:
    """The beams as a tree, and below it up to `depth` layers of `draws` draws each."""
    nodes: dict[Prefix, int] = {(): ROOT}
    tokens: list[int] = []
    parents: list[int] = []

    def add(prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            for end in range(1, len(prefix) + 1):
                if prefix[:end] not in nodes:
                    nodes[prefix[:end]] = len(tokens)
                    tokens.append(prefix[end - 1])
                    parents.append(nodes[prefix[: end - 1]])

    add(pool.prefixes)
    own = len(tokens)
    layers: list[_Drawn] = []
    for _ in range(depth):
        alive = [prefix for prefix in pool.prefixes if not pool.ended(prefix)]
        if not alive or not small.rows(alive):
            break
        q, size = pool.law(lambda prefix: small.law(committed, prefix))
        drawn = [chance.pick(q) for _ in range(draws)]
        layers.append(_Drawn(pool, q, size, drawn))
        pool = pool.extended(drawn, q, size)
        add(pool.prefixes)
    return _Forest(Draft.tree(tokens, parents), nodes, own, layers)


def _commit(cursor: Cursor, forest: _Forest, settled: Prefix) -> None:
    """Settle what all beams begin with: its nodes stay in the target's cache."""
    path = forest.draft.path(forest.nodes[settled[:-1]])
    cursor.commit(forest.draft, Verdict(path, settled[-1]))
