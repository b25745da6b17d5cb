"""New tokens of a step as engines keep them: lists of rows, or rows of one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from draftwood import _native
from draftwood.draft import TokenIds


@dataclass(frozen=True, slots=True, eq=False)
class TokenRows:
    """New tokens where the engine keeps them: rows of one matrix, read in place.

    tokens: int32 [rows, width]; row i belongs to key i. ends: integers [rows], how many tokens of a
    row are valid. starts: integers [rows], where the new ones begin; None: at the length that each
    sequence has, so that rows hold whole texts.
    """

    tokens: TokenIds
    ends: ArrayLike
    starts: ArrayLike | None = None


NewTokens: TypeAlias = Sequence[ArrayLike] | TokenRows


def rows_of(new_tokens: NewTokens, whole: bool, count: int) -> ListRows | MatrixRows:
    """What the native step reads for `count` keys. whole: rows hold texts from their beginning."""
    if isinstance(new_tokens, TokenRows):
        return MatrixRows(new_tokens, whole, count)
    return ListRows(list(new_tokens), whole)


def row_count(rows: Any) -> int:
    """How many rows there are; 0 for what holds none."""
    try:
        return len(np.asarray(rows.ends)) if isinstance(rows, TokenRows) else len(rows)
    except (TypeError, ValueError):
        return 0


class ListRows:
    """A list of rows, each of them a list of ints, an int32 array or another sequence of ints."""

    __slots__ = ("_rows", "_whole")

    def __init__(self, rows: list[Any], whole: bool) -> None:
        self._rows = rows
        self._whole = whole

    def step(
        self, table: _native.Sequences, slots: list[int], rooms: list[int], *limits: Any
    ) -> tuple[Any, ...]:
        """The native step over these rows."""
        return table.step(slots, self._rows, self._whole, rooms, *limits)

    def came(self, total: int) -> int:
        """New tokens of all rows, whose texts had `total` tokens together."""
        return sum(map(len, self._rows)) - (total if self._whole else 0)

    def came_to(self, row: int, length: int) -> int:
        """New tokens of a row whose text had `length` tokens."""
        return len(self._rows[row]) - (length if self._whole else 0)


class MatrixRows:
    """Rows of one matrix (`TokenRows`)."""

    __slots__ = ("_ends", "_starts", "_tokens")

    def __init__(self, rows: TokenRows, whole: bool, count: int) -> None:
        given = None if whole else rows.starts
        self._tokens = rows.tokens
        self._ends = np.ascontiguousarray(rows.ends, np.int64)[:count]
        self._starts = None if given is None else np.ascontiguousarray(given, np.int64)[:count]

    def step(
        self, table: _native.Sequences, slots: list[int], rooms: list[int], *limits: Any
    ) -> tuple[Any, ...]:
        """The native step over these rows."""
        return table.step_matrix(slots, self._tokens, self._starts, self._ends, rooms, *limits)

    def came(self, total: int) -> int:
        """New tokens of all rows, whose texts had `total` tokens together."""
        before = total if self._starts is None else int(self._starts.sum())
        return int(self._ends.sum()) - before

    def came_to(self, row: int, length: int) -> int:
        """New tokens of a row whose text had `length` tokens."""
        before = length if self._starts is None else int(self._starts[row])
        return int(self._ends[row]) - before
