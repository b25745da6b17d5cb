"""The check that shows rules exact sees those that are not: each seeded fault is caught by it."""

from unittest import mock

import numpy as np
import pytest
from exact import by_last_token, emitted, is_exact, row

from draftwood.draft import ROOT
from draftwood.sampling.law import same
from draftwood.verify import block, multiround, rejection, transport, traversal
from draftwood.verify.block import BlockVerification
from draftwood.verify.drawing import distinct, hub_pair, independent
from draftwood.verify.laws import proposal_law, residual
from draftwood.verify.levels import families
from draftwood.verify.multiround import MultiRound
from draftwood.verify.rejection import ChainRejection, RecursiveRejection
from draftwood.verify.transport import KSeq, SpecHub
from draftwood.verify.traversal import TraversalVerification

P = by_last_token(row(1, 5, 4), row(3, 2, 1), row(2, 1, 1))
Q = by_last_token(row(6, 1, 3), row(1, 3, 2), row(1, 1, 3))
CHAIN = (independent, [ROOT, 0])
SIBLINGS = (distinct, [ROOT, ROOT, 0])
DRAWS = (independent, [ROOT, ROOT, 0])
PAIR = (independent, [ROOT, ROOT])
HUB = (hub_pair, [ROOT, ROOT])


class DrawsFromP(ChainRejection):
    """A rejected token is replaced by a draw from p, not from what p has left."""

    def choose(self, draft, p, children):
        token = int(draft.tokens[children[0]])
        q = proposal_law(draft, children[0], p)
        return token if self._chance.accept(p[token] / q[token]) else self._chance.pick(p)


class TurnsTheRatio(ChainRejection):
    """A token is accepted with q/p."""

    def choose(self, draft, p, children):
        token = int(draft.tokens[children[0]])
        q = proposal_law(draft, children[0], p)
        if p[token] and self._chance.accept(q[token] / p[token]):
            return token
        return self._chance.pick(residual(p, q))


class IgnoresTheProposal(ChainRejection):
    """A token is accepted with p."""

    def choose(self, draft, p, children):
        token = int(draft.tokens[children[0]])
        if self._chance.accept(p[token]):
            return token
        return self._chance.pick(residual(p, proposal_law(draft, children[0], p)))


class KeepsTheSiblingsInQ(RecursiveRejection):
    """q is the same for all siblings, though no token is drawn twice."""

    def offers(self, draft, p, children):
        return ((int(draft.tokens[c]), proposal_law(draft, c, p)) for c in children)


class DoesNotRenormalizeQ(RecursiveRejection):
    """Earlier siblings are taken out of q, and the rest is left as small as it is."""

    def offers(self, draft, p, children):
        for at, node in enumerate(children):
            q = proposal_law(draft, node, p).copy()
            q[draft.tokens[children[:at]]] = 0
            yield int(draft.tokens[node]), q


class TriesInReverse(RecursiveRejection):
    """The sibling drawn last is tried first."""

    def offers(self, draft, p, children):
        return super().offers(draft, p, children[::-1])


class TriesTheLikeliestFirst(MultiRound):
    """Siblings are tried by what the target thinks of them."""

    def offers(self, draft, p, children):
        for node in sorted(children, key=lambda c: -p[draft.tokens[c]]):
            yield int(draft.tokens[node]), proposal_law(draft, node, p)


class OffersPastTheFirst(MultiRound):
    """A rejected sibling leaves p as it was: each is tried against all of p."""

    def choose(self, draft, p, children):
        for token, q in self.offers(draft, p, children):
            if self._chance.accept(p[token] / q[token]):
                return token
        return self._chance.pick(residual(p, q))


class DividesByOne(KSeq):
    """rho is 1, below the least valid value."""

    def division(self, p, q, count):
        return p.sum()


class CountsOneSiblingLess(KSeq):
    """rho is right for one sibling less."""

    def division(self, p, q, count):
        return super().division(p, q, count - 1)


class WeighsByTheWeight(BlockVerification):
    """A path stands with its weight, as if it were the whole chain."""

    def keep(self, weight, p, q):
        return weight


class ForgetsTheWeight(BlockVerification):
    """What follows is compared with p, not with p times the weight of the path."""

    def keep(self, weight, p, q):
        left = np.maximum(p - q, 0).sum()
        return left / (left + 1 - weight) if weight < 1 else 1


class TakesTheFirstPairForTheSecond(SpecHub):
    """The pair that begins with the hub is judged as the one that ends with it, and conversely."""

    def choose(self, draft, p, children):
        return super().choose(draft, p, children[::-1])


class TraversalKeepsTheSiblingsInQ(TraversalVerification):
    """q is the same for all siblings, though no token is drawn twice."""

    def proposal(self, draft, node, p, gone):
        return proposal_law(draft, node, p)


class TraversalDoesNotRenormalizeQ(TraversalVerification):
    """Earlier siblings are taken out of q, and the rest is left as small as it is."""

    def proposal(self, draft, node, p, gone):
        q = proposal_law(draft, node, p).copy()
        q[gone] = 0
        return q


class KeepsTheWeight(TraversalVerification):
    """A node weighs after the loss of a child what it weighed before."""

    def reject(self, parent, token, p, q):
        weight = parent.weight
        super().reject(parent, token, p, q)
        parent.weight = weight


class KeepsTheTarget(TraversalVerification):
    """The loss of a child leaves p as it was: the weights of its siblings are not recomputed."""

    def reject(self, parent, token, p, q):
        super().reject(parent, token, p, q)
        parent.p = p


BROKEN_RULES = [
    (DrawsFromP, *CHAIN),
    (TurnsTheRatio, *CHAIN),
    (IgnoresTheProposal, *CHAIN),
    (KeepsTheSiblingsInQ, *SIBLINGS),
    (DoesNotRenormalizeQ, *SIBLINGS),
    (TriesInReverse, *SIBLINGS),
    (TriesTheLikeliestFirst, *DRAWS),
    (OffersPastTheFirst, *DRAWS),
    (DividesByOne, *PAIR),
    (CountsOneSiblingLess, *PAIR),
    (TakesTheFirstPairForTheSecond, *HUB),
    (WeighsByTheWeight, *CHAIN),
    (ForgetsTheWeight, *CHAIN),
    (TraversalKeepsTheSiblingsInQ, *SIBLINGS),
    (TraversalDoesNotRenormalizeQ, *SIBLINGS),
    (KeepsTheWeight, *SIBLINGS),
    (KeepsTheTarget, *SIBLINGS),
]


@pytest.mark.parametrize(
    ("broken", "draw", "parents"), BROKEN_RULES, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_broken_rule_is_caught(broken, draw, parents):
    sound = broken.__bases__[0]
    assert is_exact(emitted(lambda chance: sound(chance, same), P, Q, parents, draw), P)
    assert not is_exact(emitted(lambda chance: broken(chance, same), P, Q, parents, draw), P)


def leaves_all_of_p(p, taken):
    """residual() that takes nothing away."""
    return p


def takes_the_difference(p, taken):
    """residual() with |p - taken| for relu(p - taken)."""
    left = np.abs(p - taken)
    return left / left.sum() if left.sum() else p


def backward(draft):
    """families() that gives the last sibling first."""
    return [children[::-1] for children in families(draft)]


def one_for_all(draft, p, children):
    """shared_proposal() that gives every token the same probability."""
    return p * 0 + p.sum() / len(p)


def takes_once(p, taken):
    """residual() as if one sibling only had been tried."""
    left = np.maximum(p - taken / 2, 0)
    return left / left.sum()


MUTATIONS = [
    (rejection, "residual", leaves_all_of_p, ChainRejection, *CHAIN),
    (rejection, "residual", takes_the_difference, RecursiveRejection, *SIBLINGS),
    (multiround, "proposal_law", lambda draft, node, p: p, MultiRound, *DRAWS),
    (transport, "residual", leaves_all_of_p, KSeq, *PAIR),
    (transport, "residual", takes_once, KSeq, *PAIR),
    (transport, "shared_proposal", one_for_all, KSeq, *PAIR),
    (transport, "residual", leaves_all_of_p, SpecHub, *HUB),
    (transport, "shared_proposal", one_for_all, SpecHub, *HUB),
    (block, "residual", leaves_all_of_p, BlockVerification, *CHAIN),
    (block, "residual", takes_the_difference, BlockVerification, *CHAIN),
    (traversal, "families", backward, TraversalVerification, *SIBLINGS),
]


@pytest.mark.parametrize(
    ("module", "name", "wrong", "rule", "draw", "parents"),
    MUTATIONS,
    ids=lambda value: getattr(value, "__name__", None) if not isinstance(value, list) else "",
)
def test_a_mutated_function_is_caught(module, name, wrong, rule, draw, parents):
    def make(chance):
        return rule(chance, same)

    assert is_exact(emitted(make, P, Q, parents, draw), P)
    with mock.patch.object(module, name, wrong):
        assert not is_exact(emitted(make, P, Q, parents, draw), P)


def falls_back_to_one(chance, q, siblings):
    """A hub pair whose second token is always the hub or token 1."""
    return hub_pair(chance, q, siblings) if siblings != [0] else 1


@pytest.mark.parametrize(
    ("rule", "draw"),
    [
        (KSeq, distinct),
        (MultiRound, distinct),
        (SpecHub, falls_back_to_one),
    ],
)
def test_a_rule_with_the_draws_of_another_is_caught(rule, draw):
    law = emitted(lambda chance: rule(chance, same), P, Q, [ROOT, ROOT], draw)
    assert not is_exact(law, P)
