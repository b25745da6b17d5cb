"""The drafters that `run.py` compares, and a small model that counts its passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.mix.blend import Blend
from draftwood.drafters.mix.ouroboros import Ouroboros
from draftwood.drafters.small.grow import ModelDrafter
from draftwood.drafters.small.overlapped import Overlapped
from draftwood.drafters.small.sampled import Drawing, MultiCandidate
from draftwood.drafters.small.seat import DraftModel
from draftwood.drafters.small.shapes import Shape
from draftwood.protocols import Drafter, Top, Verifier
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling
from draftwood.verify.block import BlockVerification
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel
from draftwood.verify.multiround import MultiRound
from draftwood.verify.rejection import RecursiveRejection
from draftwood.verify.transport import KSeq, SpecHub
from draftwood.verify.traversal import TraversalVerification

MakeDrafter = Callable[[DraftModel], Drafter]
MakeVerifier = Callable[[int], Verifier]


class Counted:
    """A small model whose passes, tokens and seconds are counted, over all seats."""

    def __init__(self, model: DraftModel) -> None:
        self.model = model
        self.vocab_size = model.vocab_size
        self.end_tokens = model.end_tokens
        self.passes = self.tokens = 0
        self.seconds = 0.0

    def open(self, prompt: TokenIds) -> CountedSeat:
        """A seat after `prompt`."""
        return CountedSeat(self, self.model.open(prompt))


class CountedSeat:
    """One sequence of a `Counted` model."""

    def __init__(self, counts: Counted, seat: Any) -> None:
        self._counts, self._seat = counts, seat
        self.keep, self.close = seat.keep, seat.close

    @property
    def room(self) -> int | None:
        """Tokens that still fit."""
        room: int | None = self._seat.room
        return room

    @property
    def passes(self) -> int:
        """Passes of this seat."""
        return int(self._seat.passes)

    def root(self) -> NDArray[np.float32]:
        """The row after the context."""
        return self._counted(self._seat.root)  # type: ignore[no-any-return]

    def root_top(self, k: int) -> Top:
        """The likeliest tokens after the context."""
        return self._counted(self._seat.root_top, k)  # type: ignore[no-any-return]

    def expand(self, tokens: TokenIds, parents: NDArray[np.int32]) -> NDArray[np.float32]:
        """Rows of new nodes."""
        return self._counted(self._seat.expand, tokens, parents)  # type: ignore[no-any-return]

    def expand_top(self, tokens: TokenIds, parents: NDArray[np.int32], k: int) -> Top:
        """The likeliest tokens after new nodes."""
        return self._counted(self._seat.expand_top, tokens, parents, k)  # type: ignore[no-any-return]

    def _counted(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        passes, rows, start = self._seat.passes, self._seat.rows, perf_counter()
        result = verb(*arguments)
        self._counts.seconds += perf_counter() - start
        self._counts.passes += self._seat.passes - passes
        self._counts.tokens += self._seat.rows - rows
        return result


@dataclass(frozen=True, slots=True)
class Side:
    """A way to decode at a temperature. same_text: whether its text must be plain decoding's."""

    name: str
    temperature: float
    drafter: MakeDrafter
    verifier: MakeVerifier
    same_text: bool = True


def sides(temperature: float) -> Iterator[Side]:
    """Plain decoding first, then every drafter that goes with this temperature."""
    law = Sampling(temperature)

    def seeded(seed: int) -> Verifier:
        return SharedGumbel(GumbelNoise(seed), law)

    chosen: MakeVerifier = (lambda seed: Greedy()) if law.greedy else seeded
    for name, drafter in CHOSEN.items():
        yield Side(name, temperature, drafter, chosen)
    if law.greedy:
        return
    for rule, (widths, draw, verifier) in SAMPLED.items():

        def sampled(
            model: DraftModel, widths: Sequence[int] = widths, draw: Drawing = draw
        ) -> Drafter:
            return MultiCandidate(model, widths=widths, draw=draw, law=law)

        def verify(seed: int, make: Callable[..., Verifier] = verifier) -> Verifier:
            return make(SeededChance(seed), law)

        shape = "x".join(map(str, widths))
        yield Side(f"sampled {shape} {rule}", temperature, sampled, verify, same_text=False)


def spec(text: str) -> MakeDrafter:
    """A drafter that needs no small model."""
    return lambda model: make_drafter(text)


def graph(overlap: int | None) -> MakeDrafter:
    """GSD, or without merging the best-first tree of the same thresholds."""
    return lambda model: ModelDrafter(model, Shape.gsd(overlap=overlap))


CHOSEN: dict[str, MakeDrafter] = {
    "plain": spec("none"),
    **{
        f"chain {gamma}": lambda model, gamma=gamma: ModelDrafter(  # type: ignore[misc]
            model, Shape.chain(gamma), gain=0.0
        )
        for gamma in (2, 4, 6, 8, 12, 16)
    },
    "chain": lambda model: ModelDrafter(model, Shape.chain()),
    "specinfer 4x2x1x1": lambda model: ModelDrafter(model, Shape.expansion((4, 2, 1, 1)), gain=0.0),
    "specinfer 2x1x1x1x1x1": lambda model: ModelDrafter(
        model, Shape.expansion((2, 1, 1, 1, 1, 1)), gain=0.0
    ),
    "specinfer": lambda model: ModelDrafter(model, Shape.expansion()),
    "bestfirst": lambda model: ModelDrafter(model, Shape.best_first()),
    "gsd": graph(1),
    "gsd, no merging": graph(None),
    "cape": lambda model: ModelDrafter(model, Shape.cape()),
    "ouroboros": lambda model: Ouroboros(ModelDrafter(model, Shape.chain(8))),
    "overlapped": lambda model: Overlapped(model),
    "trigram": spec("trigram"),
    "suffix": spec("suffix:mode=tree,alpha=4,floor=0,nodes=32"),
    "recall": spec("recall"),
    "blend": lambda model: Blend([make_drafter("recall"), ModelDrafter(model, Shape.best_first())]),
}
"""Drafters that choose their tokens, by name."""

SAMPLED: dict[str, tuple[Sequence[int], Drawing, Callable[..., Verifier]]] = {
    "block": ((1, 1, 1, 1), "independent", BlockVerification),
    "traversal": ((3, 1, 1, 1), "distinct", TraversalVerification),
    "recursive rejection": ((3, 1, 1, 1), "distinct", RecursiveRejection),
    "MSS": ((3, 1, 1, 1), "independent", MultiRound),
    "K-SEQ": ((3, 1, 1, 1), "independent", KSeq),
    "SpecHub": ((2, 2), "hub", SpecHub),
}
"""Rules for sampled drafts: the shape, how siblings are drawn, and the verifier."""
