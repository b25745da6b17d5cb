"""Small models as drafters hold them: seats that rank, and models that suit the target."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.protocols import DraftModel, DraftSeat, Paired, Partner, RankedSeat, Top
from draftwood.sampling.ranking import k_likeliest


class Ranked:
    """Any seat as a `RankedSeat`: its rows are ranked here."""

    def __init__(self, seat: DraftSeat) -> None:
        self._seat = seat

    def __getattr__(self, name: str) -> Any:
        return getattr(self._seat, name)

    def root_top(self, k: int) -> Top:
        """The k likeliest tokens after the context."""
        return k_likeliest(self._seat.root()[None], k)

    def expand_top(self, tokens: TokenIds, parents: NDArray[np.int32], k: int) -> Top:
        """Add m nodes in one pass; the k likeliest tokens after each."""
        return k_likeliest(self._seat.expand(tokens, parents), k)


def ranked_seat(model: DraftModel, prompt: TokenIds) -> RankedSeat:
    """A new seat behind `prompt` that names the likeliest tokens."""
    seat: Any = model.open(prompt)
    return seat if isinstance(seat, RankedSeat) else Ranked(seat)


def pair_models(models: Iterable[DraftModel], partner: Partner) -> None:
    """Raise PairMismatch where one of the models, if it can tell, does not suit the target."""
    for model in models:
        if isinstance(model, Paired):
            model.pair(partner)


def ends_of(model: DraftModel) -> frozenset[int]:
    """Tokens behind which the model need not be asked, where it knows them (`end_tokens`)."""
    return frozenset(getattr(model, "end_tokens", ()))
