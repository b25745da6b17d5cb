"""What is wrong with a draft, in a sentence: the slow look, for drafts that fail the fast one."""

from __future__ import annotations

from operator import lt
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from draftwood.errors import InvalidDraft
from draftwood.tokens import TokenIds

ROOT = -1
"""Parent of a first token: the committed context."""

_INT32, _FLOAT32, _UINT8 = (np.dtype(kind) for kind in (np.int32, np.float32, np.uint8))


class DraftArrays(Protocol):
    """The arrays of a `Draft`, n nodes each."""

    @property
    def tokens(self) -> TokenIds: ...  # noqa: D102
    @property
    def parents(self) -> NDArray[np.int32]: ...  # noqa: D102
    @property
    def confidence(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def source(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def proposal(self) -> NDArray[Any] | None: ...  # noqa: D102
    @property
    def evidence(self) -> NDArray[np.uint8] | None: ...  # noqa: D102


def require_arrays(draft: DraftArrays) -> None:
    """Check types, shapes, lengths, parents and signs.

    Raises:
        InvalidDraft: what is wrong with which array.
    """
    n = len(draft.tokens)
    if not len(draft.parents) == len(draft.confidence) == len(draft.source) == n:
        raise InvalidDraft(
            f"{n} tokens with {len(draft.parents)} parents, {len(draft.confidence)} confidences "
            f"and {len(draft.source)} sources; all four need one entry a node"
        )
    _require_flat("tokens", draft.tokens, _INT32)
    _require_flat("parents", draft.parents, _INT32)
    _require_flat("confidence", draft.confidence, _FLOAT32)
    _require_flat("source", draft.source, _UINT8)
    if draft.proposal is not None:
        if len(draft.proposal) != n:
            raise InvalidDraft(f"{n} tokens with {len(draft.proposal)} proposal rows; need {n}")
        if not isinstance(draft.proposal, np.ndarray):
            raise InvalidDraft("proposal rows are no numpy array; give one of [n, V]")
    if draft.evidence is not None:
        if len(draft.evidence) != n:
            raise InvalidDraft(f"{n} tokens with {len(draft.evidence)} evidence classes; need {n}")
        _require_flat("evidence", draft.evidence, _UINT8)
    if not n:
        return
    parents = draft.parents.tolist()  # lists beat numpy at the size of a draft
    if not (min(parents) >= ROOT and all(map(lt, parents, range(n)))):
        node = next(i for i, parent in enumerate(parents) if not ROOT <= parent < i)
        raise InvalidDraft(
            f"node {node} has parent {parents[node]}; a parent is {ROOT} or an earlier node"
        )
    low = min(draft.tokens.tolist())
    if low < 0:
        raise InvalidDraft(f"a draft holds token id {low}; ids are 0 or more")


def require_fit(draft: DraftArrays, vocab_size: int | None, *, sure: float) -> None:
    """Check everything that `Draft.check` promises. sure: the highest confidence.

    Raises:
        InvalidDraft: what is wrong.
    """
    if vocab_size is not None and max(draft.tokens.tolist(), default=0) >= vocab_size:
        raise InvalidDraft(
            f"a draft holds token id {draft.tokens.max()}, and the target has {vocab_size}; "
            "use the tokenizer that belongs to the model"
        )
    require_arrays(draft)
    given = draft.confidence.tolist()
    if not all(0.0 <= value <= sure for value in given):
        wrong = next(value for value in given if not 0.0 <= value <= sure)
        raise InvalidDraft(f"a draft has confidence {wrong}; give a probability from 0 to 1")
    if draft.proposal is not None and len(draft.tokens):
        _require_proposal(draft, vocab_size)


def _require_proposal(draft: DraftArrays, vocab_size: int | None) -> None:
    rows: NDArray[Any] = np.asarray(draft.proposal)
    if rows.ndim != 2 or (vocab_size is not None and rows.shape[1] != vocab_size):
        raise InvalidDraft(
            f"proposal rows have shape {rows.shape}; give one row a node, with an entry for "
            f"each of {'all' if vocab_size is None else vocab_size} tokens"
        )
    if int(draft.tokens.max()) >= rows.shape[1] or not (
        bool((rows >= 0).all())
        and bool((rows.sum(axis=1) < np.inf).all())
        and bool((rows[np.arange(len(rows)), draft.tokens] > 0).all())
    ):
        raise InvalidDraft(
            "a proposal row cannot have given its token; pass the rows that tokens were drawn "
            "from: finite weights of 0 or more, above 0 for the token itself"
        )


def _require_flat(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Nothing, for a flat array of this type.

    Raises:
        InvalidDraft: for anything else.
    """
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        found = type(array).__name__
        if isinstance(array, np.ndarray):
            found = f"an array of {array.dtype} with shape {array.shape}"
        raise InvalidDraft(f"{name} of a draft are {found}; give a flat numpy array of {dtype}")
