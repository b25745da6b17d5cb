"""Rejection sampling: accept a drafted token with min(1, p/q), else go on with p's residual."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from draftwood.draft import Draft
from draftwood.errors import InvalidDraft
from draftwood.protocols import Rows, Verdict
from draftwood.sampling.chance import Chance
from draftwood.verify.laws import Probabilities, proposal_law, require_chain, residual
from draftwood.verify.levels import LevelByLevel


def try_in_turn(
    chance: Chance, p: Probabilities, offers: Iterable[tuple[int, Probabilities]]
) -> int:
    """A token distributed as p, by accepting or rejecting offered ones.

    offers: tokens, each with the law q that it was drawn from. It is accepted with min(1, p/q);
    if it is not, p becomes norm(relu(p - q)) and the next one is tried. After the last, p decides.
    """
    for token, q in offers:
        if chance.accept(p[token] / q[token]):
            return token
        p = residual(p, q)
    return chance.pick(p)


class ChainRejection(LevelByLevel):
    """Speculative sampling: a chain, each token drawn from its proposal row. Lossless.

    Leviathan et al. 2023 (arXiv 2211.17192), section 2.3; Chen et al. 2023 (arXiv 2302.01318),
    algorithm 2.
    """

    def choose(self, draft: Draft, p: Probabilities, children: list[int]) -> int:
        """Accept with min(1, p/q), else draw from norm(relu(p - q))."""
        offers = ((int(draft.tokens[node]), proposal_law(draft, node, p)) for node in children)
        return try_in_turn(self._chance, p, offers)

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The accepted path and the token after it.

        Raises:
            InvalidDraft: for a tree, or tokens that were not sampled.
        """
        require_chain(draft)
        return super().verify(draft, rows)


class RecursiveRejection(LevelByLevel):
    """Recursive rejection: siblings are ordered draws without replacement. Lossless.

    A sibling's law is its proposal row without the tokens of the siblings before it; rows may be
    given before or after that removal. Siblings stand in the order in which they were drawn.

    Jeon et al. 2024, *Recursive Speculative Decoding* (arXiv 2402.14160); Yang et al. 2024,
    *Multi-Candidate Speculative Decoding* (arXiv 2401.06706).
    """

    def choose(self, draft: Draft, p: Probabilities, children: list[int]) -> int:
        """Try the siblings in order, each against the residual of p."""
        return try_in_turn(self._chance, p, self.offers(draft, p, children))

    def offers(
        self, draft: Draft, p: Probabilities, children: list[int]
    ) -> Iterator[tuple[int, Probabilities]]:
        """The siblings' tokens, each with q as it was when the token was drawn."""
        tokens = require_distinct(draft, children)
        for at, node in enumerate(children):
            yield tokens[at], proposal_law(draft, node, p, without=tokens[:at])


def require_distinct(draft: Draft, children: list[int]) -> list[int]:
    """The tokens of some siblings.

    Raises:
        InvalidDraft: where two are equal.
    """
    tokens: list[int] = draft.tokens[children].tolist()
    if len(set(tokens)) < len(tokens):
        token = next(token for token in tokens if tokens.count(token) > 1)
        raise InvalidDraft(
            f"token {token} stands twice among siblings {children}, so they were not drawn without "
            "replacement; use MultiRound, or TraversalVerification with replacement=True"
        )
    return tokens
