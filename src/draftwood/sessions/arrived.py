"""What an engine brings to a step."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from draftwood.sessions.rows import ListRows, MatrixRows


@dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """The tokens that came for some sequences since the last step, and what may follow them.

    keys, slots: the sequences, and their places in the native table; -1: not open. rows: their
    tokens. rooms: tokens that each may still generate; empty: no limit but the context's. seconds:
    of the pass since the last step; None: not known. began: when the step did, by `perf_counter`.
    """

    keys: list[Hashable]
    slots: list[int]
    rows: ListRows | MatrixRows
    rooms: list[int]
    seconds: float | None
    began: float
