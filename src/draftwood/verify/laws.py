"""Distributions as arrays: p of the target, q of the drafter, and the residual norm(relu(p - q)).

All of it is generic in the number type: arrays of `Fraction`s stay exact, everything else becomes
float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import Draft
from draftwood.errors import InvalidDraft
from draftwood.protocols import Rows
from draftwood.sampling.chance import Weights
from draftwood.sampling.law import Law
from draftwood.verify.match import seen

Probabilities: TypeAlias = NDArray[Any]
"""[V]: float64 or `Fraction`s that sum to 1."""


def normalized(weights: Weights) -> Probabilities:
    """The weights divided by their sum; all 0 where all weights are 0."""
    array = np.asarray(weights)
    if array.dtype != np.object_:
        array = array.astype(np.float64)
    total = array.sum()
    return array / total if total > 0 else array


def target_law(law: Law, rows: Rows, row: int, accepted: list[int]) -> Probabilities:
    """p: the target's law of the token after `row`, which follows the `accepted` tokens."""
    return normalized(law(rows.logits(row), seen(rows, accepted)))


def proposal_law(
    draft: Draft, node: int, p: Probabilities, *, without: Sequence[int] = ()
) -> Probabilities:
    """q: the law that a node was drawn from.

    p: the target's law at the same place. without: tokens that could no longer be drawn, such as
    earlier siblings drawn without replacement; never the node's own token.

    Raises:
        InvalidDraft: where the node cannot have been drawn from its row, or the row is of another
            vocabulary than p.
    """
    row = proposal_row(draft, node)
    if len(row) != len(p):
        raise InvalidDraft(
            f"proposal rows have {len(row)} entries and the target's have {len(p)}; "
            "pair a drafter and a target of one vocabulary"
        )
    if without:
        row = np.array(row)
        row[list(without)] = 0
    return normalized(row)


def residual(p: Probabilities, taken: Probabilities) -> Probabilities:
    """The residual norm(relu(p - taken)): the law after a draw from `taken` was rejected.

    Where nothing is left, only rounding can have caused the rejection, and p itself is returned.
    """
    left = np.maximum(p - taken, 0)
    total = left.sum()
    return left / total if total > 0 else p


def proposal_row(draft: Draft, node: int) -> NDArray[Any]:
    """[V]: the weights that a node was sampled with, as the drafter gave them.

    Raises:
        InvalidDraft: where it cannot have been drawn by them.
    """
    if draft.proposal is None:
        raise InvalidDraft(
            f"the {len(draft)} tokens of this draft were chosen, not sampled: it has no proposal "
            "rows; verify it by SampleAndMatch"
        )
    token = int(draft.tokens[node])
    row: NDArray[Any] = draft.proposal[node]
    if token >= len(row) or not row[token] > 0:
        raise InvalidDraft(
            f"node {node} holds token {token}, which its proposal row gives probability 0; "
            "pass the rows that tokens were sampled from, or verify chosen tokens by SampleAndMatch"
        )
    return row


def require_sampled(draft: Draft) -> None:
    """Check that every token of a draft can have been drawn from its proposal row.

    Raises:
        InvalidDraft: where one cannot.
    """
    for node in range(len(draft)):
        proposal_row(draft, node)


def require_chain(draft: Draft) -> None:
    """Check that a draft does not branch.

    Raises:
        InvalidDraft: where it does.
    """
    if not draft.is_chain:
        branch = next(n for n, parent in enumerate(draft.parents.tolist()) if parent != n - 1)
        raise InvalidDraft(
            f"node {branch} of this draft opens a branch, and the rule takes chains only; use "
            "RecursiveRejection, MultiRound or TraversalVerification for trees"
        )
