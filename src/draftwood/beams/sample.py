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

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from draftwood.beams.layers import BeamForest, DrawnLayer
from draftwood.beams.pool import Beam, BeamPool, Prefix
from draftwood.beams.small_rows import SmallModelRows
from draftwood.draft import ROOT, Draft, TokenIds, as_tokens
from draftwood.drafters.small.seat import DraftModel
from draftwood.errors import InvalidOption, InvalidTokens, UnsupportedModel
from draftwood.protocols import Cursor, Target, Verdict
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import Law

_WIDEST = 4
"""The draft's width is at most so many times that of the output."""
_FORGET = 0.9
"""Weight of the past in the share of offers that are accepted."""


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
    pool = BeamPool([()], [1], [width], end_tokens)
    committed = prompt
    layers = 0
    rate = 1.0
    finish: str | None = None
    with closing(target.open(prompt)) as cursor, closing(model.open(prompt)) as seat:
        small = SmallModelRows(seat, law)
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
                pool, offered, taken = forest.verify_layer(settled, pool, rows, law, width, chance)
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
                pool = pool.after(len(shared))


def _finish(pool: BeamPool, layers: int, max_tokens: int, room: int | None) -> str | None:
    if all(map(pool.ended, pool.prefixes)):
        return "stop"
    if layers == max_tokens:
        return "length"
    if room is not None and max(map(len, pool.prefixes)) >= room:
        return "context"
    return None


def _grow(
    pool: BeamPool,
    small: SmallModelRows,
    committed: TokenIds,
    depth: int,
    draws: int,
    chance: Chance,
) -> BeamForest:
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
    layers: list[DrawnLayer] = []
    for _ in range(depth):
        alive = [prefix for prefix in pool.prefixes if not pool.ended(prefix)]
        if not alive or not small.rows(alive):
            break
        q, size = pool.law(lambda prefix: small.law(committed, prefix))
        drawn = [chance.pick(q) for _ in range(draws)]
        layers.append(DrawnLayer(pool, q, size, drawn))
        pool = pool.extended(drawn, q, size)
        add(pool.prefixes)
    return BeamForest(Draft.tree(tokens, parents), nodes, own, layers)


def _commit(cursor: Cursor, forest: BeamForest, settled: Prefix) -> None:
    """Settle what all beams begin with: its nodes stay in the target's cache."""
    path = forest.draft.path(forest.nodes[settled[:-1]])
    cursor.commit(forest.draft, Verdict(path, settled[-1]))
