"""Multi-step speculative sampling: siblings in random order, each against its own drafter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from draftwood.draft import Draft
from draftwood.sampling.chance import Chance
from draftwood.verify.laws import Probabilities, proposal_law, residual
from draftwood.verify.levels import LevelByLevel
from draftwood.verify.rejection import try_in_turn


class MultiRound(LevelByLevel):
    """MSS of SpecInfer: siblings are independent draws, equal tokens allowed. Lossless.

    Each sibling has its own proposal row, so that several small models may share a tree. The order
    in which siblings are tried is random: it must not depend on the tokens.

    Miao et al. 2024 (arXiv 2305.09781), section 4.3, algorithm 2.
    """

    def choose(self, draft: Draft, p: Probabilities, children: list[int]) -> int:
        """Try the siblings in random order against what p has left."""
        return try_in_turn(self._chance, p, self.offers(draft, p, children))

    def offers(
        self, draft: Draft, p: Probabilities, children: list[int]
    ) -> Iterator[tuple[int, Probabilities]]:
        """The siblings' tokens in random order, each with the law that it was drawn from."""
        waiting = list(children)
        while waiting:
            node = waiting.pop(self._chance.pick([1] * len(waiting)) if len(waiting) > 1 else 0)
            yield int(draft.tokens[node]), proposal_law(draft, node, p)


def accept_several(
    chance: Chance, p: Probabilities, offers: Iterable[tuple[int, Probabilities]], count: int
) -> list[int]:
    """`count` independent draws from p, by accepting or rejecting offered ones: one layer of beams.

    p: the target's law over all possible outputs, such as every next token of every beam, weighted
    by its beam. offers: independent draws, each with its law q; each is tried once. After an
    accepted draw the next output starts from p again; after a rejected one it continues with
    norm(relu(p - q)).

    Qin et al. 2024, *Dynamic-Width Speculative Beam Decoding* (arXiv 2409.16560), the verification
    of one layer.
    """
    outputs: list[int] = []
    left = p
    for token, q in offers:
        if len(outputs) == count:
            break
        if chance.accept(left[token] / q[token]):
            outputs.append(token)
            left = p
        else:
            left = residual(left, q)
    while len(outputs) < count:
        outputs.append(chance.pick(left))
        left = p
    return outputs
