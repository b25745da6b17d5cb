"""Hypothesis strategies: tokens, trees, models of exact probabilities."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from draftwood.draft import ROOT, Draft, TokenIds, as_tokens
from draftwood.sampling.chance import Weights
from draftwood.testing.toys import Row

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def tokens(vocab_size: int, *, min_size: int = 0, max_size: int = 32) -> SearchStrategy[TokenIds]:
    """Strategy: int32 token ids."""
    from hypothesis import strategies as st

    ids = st.integers(0, vocab_size - 1)
    return st.lists(ids, min_size=min_size, max_size=max_size).map(as_tokens)


def drafts(
    vocab_size: int, *, max_nodes: int = 8, max_depth: int | None = None, distinct: bool = False
) -> SearchStrategy[Draft]:
    """Strategy: token trees of any shape, the empty one and chains included.

    distinct: no two children of a node hold the same token.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_tree(draw: Any) -> Draft:
        count = draw(st.integers(0, max_nodes))
        tree = Draft.tree(
            [draw(st.integers(0, vocab_size - 1)) for _ in range(count)],
            [draw(st.integers(ROOT, at - 1)) for at in range(count)],
        )
        if max_depth is not None:
            tree = tree.to_depth(max_depth)
        return merge_doubles(tree) if distinct else tree

    return draw_tree()


def merge_doubles(draft: Draft) -> Draft:
    """The draft with equal siblings merged: the same paths, each of them once."""
    place = {ROOT: ROOT}
    children: dict[tuple[int, int], int] = {}
    ids: list[int] = []
    parents: list[int] = []
    for node, (parent, token) in enumerate(
        zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)
    ):
        key = (place[parent], token)
        if key not in children:
            children[key] = len(ids)
            ids.append(token)
            parents.append(key[0])
        place[node] = children[key]
    return Draft.tree(ids, parents)


def row_tables(vocab_size: int, *, max_rows: int = 13) -> SearchStrategy[Row]:
    """Strategy: models whose rows are exact probabilities (`Fraction`s that sum to 1, some 0).

    A model has up to `max_rows` rows; a prefix, read as a number, picks one of them.
    """
    from hypothesis import strategies as st

    counts = st.lists(st.integers(0, 5), min_size=vocab_size, max_size=vocab_size).filter(any)

    def model(table: list[list[int]]) -> Row:
        rows = [np.array([Fraction(n, sum(row)) for n in row], dtype=object) for row in table]

        def row(prefix: tuple[int, ...]) -> Weights:
            number = 0
            for token in prefix:
                number = number * vocab_size + token + 1
            return rows[number % len(rows)]

        return row

    return st.lists(counts, min_size=1, max_size=max_rows).map(model)
