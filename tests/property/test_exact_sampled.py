"""Promise 1 for sampled drafts: each rule keeps the target's law, over its drafter's draws too.

Every branch of drafting and verifying is enumerated with fractions; laws are compared with `==`.
"""

from fractions import Fraction

import numpy as np
import pytest
from exact import (
    PROMPT,
    by_last_token,
    completed,
    emitted,
    few,
    is_exact,
    pairs,
    row,
    shapes,
    verified,
    very_few,
)
from hypothesis import given
from hypothesis import strategies as st

from draftwood.decode import decode
from draftwood.draft import ROOT, Draft
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import same
from draftwood.testing import DraftFrom, ToyTarget, law_of, row_tables, sampled_draft
from draftwood.text.stop import Stop
from draftwood.verify.block import BlockVerification
from draftwood.verify.drawing import distinct, hub_pair, independent
from draftwood.verify.match import SampleAndMatch
from draftwood.verify.multiround import MultiRound, accept_several
from draftwood.verify.rejection import ChainRejection, RecursiveRejection
from draftwood.verify.transport import KSeq, SpecHub
from draftwood.verify.traversal import TraversalVerification


def chain_rejection(chance):
    return ChainRejection(chance, same)


def block(chance):
    return BlockVerification(chance, same)


def recursive(chance):
    return RecursiveRejection(chance, same)


def multiround(chance):
    return MultiRound(chance, same)


def k_seq(chance):
    return KSeq(chance, same, halvings=2)


def spec_hub(chance):
    return SpecHub(chance, same)


def traversal(chance):
    return TraversalVerification(chance, same)


def traversal_with_replacement(chance):
    return TraversalVerification(chance, same, replacement=True)


CHAIN_RULES = [chain_rejection, block, recursive, multiround, k_seq, traversal]
TREE_RULES = [
    (recursive, distinct),
    (multiround, independent),
    (k_seq, independent),
    (traversal, distinct),
    (traversal_with_replacement, independent),
]
ALL_RULES = [
    (chain_rejection, independent, [ROOT, 0]),
    (block, independent, [ROOT, 0]),
    *((make, draw, [ROOT, ROOT, 0]) for make, draw in TREE_RULES),
    (spec_hub, hub_pair, [ROOT, ROOT, 0, 0]),
]
names = {"ids": lambda value: getattr(value, "__name__", None)}


@pytest.mark.parametrize("make", CHAIN_RULES, **names)
@given(pairs(3), st.integers(0, 3))
@few
def test_chains_keep_the_law_of_the_target(make, models, length):
    p, q = models
    assert is_exact(emitted(make, p, q, range(ROOT, length - 1), independent), p)


@pytest.mark.parametrize(("make", "draw"), TREE_RULES, **names)
@given(pairs(3), shapes(nodes=4, depth=3))
@few
def test_trees_keep_the_law_of_the_target(make, draw, models, parents):
    p, q = models
    assert is_exact(emitted(make, p, q, parents, draw), p)


@pytest.mark.parametrize(("make", "draw"), TREE_RULES, **names)
@given(pairs(4), shapes(nodes=3, depth=2))
@few
def test_trees_over_four_words_keep_the_law_of_the_target(make, draw, models, parents):
    p, q = models
    assert is_exact(emitted(make, p, q, parents, draw), p)


@given(
    st.integers(3, 4).flatmap(pairs),
    st.sampled_from([[], [ROOT, ROOT], [ROOT, ROOT, 0, 0], [ROOT, ROOT, 1, 1]]),
)
@few
def test_hubs_keep_the_law_of_the_target(models, parents):
    p, q = models
    assert is_exact(emitted(spec_hub, p, q, parents, hub_pair), p)


@given(pairs(3, rows=2))
@very_few
def test_hubs_below_both_siblings_keep_the_law_of_the_target(models):
    p, q = models
    assert is_exact(emitted(spec_hub, p, q, [ROOT, ROOT, 0, 0, 1, 1], hub_pair), p)


@pytest.mark.parametrize("make", [multiround, k_seq, traversal_with_replacement], **names)
@given(pairs(3, rows=3))
@very_few
def test_twins_with_children_each_keep_the_law_of_the_target(make, models):
    p, q = models
    assert is_exact(emitted(make, p, q, [ROOT, ROOT, 0, 1], independent), p)


@pytest.mark.parametrize(("make", "draw"), TREE_RULES[:1] + TREE_RULES[3:4], **names)
@given(st.integers(3, 4).flatmap(pairs))
@few
def test_a_drafter_that_runs_out_of_tokens_keeps_the_law_of_the_target(make, draw, models):
    p, q = models
    assert is_exact(emitted(make, p, q, [ROOT] * 5, draw), p)


@given(row_tables(3, max_rows=3), row_tables(3, max_rows=3), row_tables(3, max_rows=3))
@very_few
def test_several_small_models_may_share_a_multiround_tree(p, small, smaller):
    def program(chance):
        rows = [model((*PROMPT.tolist(),)) for model in (small, smaller, small)]
        draft = Draft.tree([chance.pick(q) for q in rows], [ROOT] * 3, proposal=np.array(rows))
        return verified(chance, multiround, p, draft)

    assert is_exact(law_of(program), p)


@given(pairs(3, rows=2), st.integers(0, 3), st.integers(0, 3))
@few
def test_several_outputs_are_independent_draws_from_the_target(models, drafts, count):
    p, q = (model(()) for model in models)

    def program(chance):
        offers = [(chance.pick(q), q) for _ in range(drafts)]
        return tuple(accept_several(chance, p, offers, count))

    assert law_of(program) == completed({(): Fraction(1)}, lambda prefix: p, count)


@given(pairs(3, rows=3), st.integers(1, 3), st.fractions(0, 1, max_denominator=7))
@very_few
def test_every_valid_rho_keeps_the_law_of_the_target(models, count, further):
    p, q = models

    class Further(KSeq):
        """rho anywhere between the end of the bisection and k."""

        def division(self, p, q, count):
            least = super().division(p, q, count)
            return least + further * (count - least)

    def make(chance):
        return Further(chance, same, halvings=4)

    assert is_exact(emitted(make, p, q, [ROOT] * count, independent), p)


@pytest.mark.parametrize(("make", "draw", "parents"), ALL_RULES, **names)
def test_the_whole_loop_is_exact(make, draw, parents):
    p = by_last_token(row(3, 1), row(1, 4))
    q = by_last_token(row(1, 2), row(2, 1))

    def program(chance):
        drafter = DraftFrom(
            lambda context, budget: sampled_draft(chance, q, context, parents, draw).to_depth(
                budget.reach
            )
        )
        steps = decode(ToyTarget(p), drafter, make(chance), PROMPT, stop=Stop(max_tokens=2))
        return tuple(token for step in steps for token in step.tokens.tolist())

    assert law_of(program) == completed({(): Fraction(1)}, p, 2)


def stops_after_zero(draw):
    """A drafter that draws no further sibling once it drew token 0."""
    return lambda chance, q, siblings: None if 0 in siblings else draw(chance, q, siblings)


@pytest.mark.parametrize(("make", "draw"), [TREE_RULES[0], *TREE_RULES[3:]], **names)
@given(pairs(3, rows=3))
@few
def test_rules_that_try_in_order_allow_a_drafter_that_stops_early(make, draw, models):
    p, q = models
    assert is_exact(emitted(make, p, q, [ROOT] * 3, stops_after_zero(draw)), p)


@pytest.mark.parametrize(("make", "draw"), [TREE_RULES[0], *TREE_RULES[3:]], **names)
@given(pairs(3, rows=3))
@few
def test_rules_that_try_in_order_allow_a_tree_that_grows_by_what_was_drawn(make, draw, models):
    r"""x1  x2   x2 is drawn where z is 0, and only then;
    |   |    y is drawn where the drafter likes x2 no less than x1."""
    p, q = models

    def program(chance):
        first = q((0,))
        x1 = draw(chance, first, [])
        tokens, parents, rows = [x1], [ROOT], [first]
        z = draw(chance, q((0, x1)), [])
        tokens, parents, rows = [*tokens, z], [*parents, 0], [*rows, q((0, x1))]
        x2 = draw(chance, first, [x1]) if z == 0 else None
        if x2 is not None:
            tokens, parents, rows = [*tokens, x2], [*parents, ROOT], [*rows, first]
            if first[x2] >= first[x1]:
                below = q((0, x2))
                tokens.append(draw(chance, below, [z] if x2 == x1 else []))
                parents.append(2)
                rows.append(below)
        return verified(chance, make, p, Draft.tree(tokens, parents, proposal=np.array(rows)))

    assert is_exact(law_of(program), p)


P = by_last_token(row(1, 2, 3), row(3, 3, 0), row(2, 1, 1))
Q = by_last_token(row(3, 2, 1), row(1, 3, 2), row(0, 1, 3))


@pytest.mark.parametrize("make", [multiround, k_seq], **names)
def test_rules_that_do_not_try_in_order_forbid_a_drafter_that_stops_early(make):
    assert not is_exact(emitted(make, P, Q, [ROOT] * 3, stops_after_zero(independent)), P)


@pytest.mark.parametrize(("make", "draw", "parents"), ALL_RULES, **names)
def test_nodes_dropped_for_the_token_they_hold_break_every_rule(make, draw, parents):
    """Why a sampled draft must not be pruned by the probability of what was drawn."""

    def program(chance):
        draft = sampled_draft(chance, Q, PROMPT, parents, draw)
        kept = draft.cut(nodes=0) if draft.tokens[0] == 2 else draft
        return verified(chance, make, P, kept)

    assert not is_exact(law_of(program), P)


def in_doubles(draw):
    """The same draws where rows are narrow floats, which fractions do not take."""
    return lambda chance, q, siblings: draw(chance, q.astype(np.float64), siblings)


@pytest.mark.parametrize(("make", "draw", "parents"), ALL_RULES, **names)
def test_in_floating_point_the_law_is_off_by_rounding_only(make, draw, parents):
    def p(prefix):
        return P(prefix).astype(np.float64)

    def q(prefix):
        return Q(prefix).astype(np.float32)

    exact = emitted(make, P, Q, parents, draw)
    rounded = emitted(make, p, q, parents, in_doubles(draw))
    for text in exact.keys() | rounded.keys():
        assert abs(float(exact.get(text, 0) - rounded.get(text, 0))) < 1e-6


@pytest.mark.parametrize(("make", "draw", "parents"), ALL_RULES, **names)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rounding_never_leaves_a_rule_without_a_next_token(make, draw, parents, kind):
    """p and q are equal but for rounding: what cannot be rejected is rejected."""

    def p(prefix):
        return np.array([0.1, 0.2, 0.7])

    def q(prefix):
        return np.array([0.3, 0.6, 2.1], dtype=kind)

    law = emitted(make, p, q, parents, in_doubles(draw))
    own = completed(law, p, 3)
    for text, probability in own.items():
        assert float(probability) == pytest.approx(np.prod(p(())[list(text)]), rel=1e-6)


@pytest.mark.parametrize(("make", "draw", "parents"), ALL_RULES, **names)
def test_equal_models_accept_all_that_can_be_accepted(make, draw, parents):
    law = emitted(make, Q, Q, parents, draw)
    assert is_exact(law, Q)
    if make in (chain_rejection, block, traversal, spec_hub):
        assert {len(text) for text in law} == {3}


@pytest.mark.parametrize(("make", "draw", "parents"), ALL_RULES, **names)
def test_an_empty_draft_is_a_plain_draw(make, draw, parents):
    law = emitted(make, P, Q, [], draw)
    assert law == {(token,): weight for token, weight in enumerate(P((0,))) if weight}


@pytest.mark.parametrize(("make", "draw", "parents"), ALL_RULES, **names)
def test_proposal_rows_need_not_sum_to_one(make, draw, parents):
    tenfold = emitted(make, P, lambda prefix: 10 * Q(prefix), parents, draw)
    assert tenfold == emitted(make, P, Q, parents, draw)


@pytest.mark.parametrize("make", [recursive, traversal], **names)
def test_rows_may_be_given_after_the_removal_of_earlier_siblings(make):
    def program(chance, removed):
        draft = sampled_draft(chance, Q, PROMPT, [ROOT, ROOT], distinct)
        if removed:
            draft.proposal[1, draft.tokens[0]] = 0
        return verified(chance, make, P, draft)

    before = law_of(lambda chance: program(chance, False))
    assert before == law_of(lambda chance: program(chance, True))


@given(st.integers(0, 2**32), shapes(nodes=6, depth=3))
@few
def test_seeded_chance_gives_the_same_verdict_twice(seed, parents):
    def run():
        chance = SeededChance(seed)
        q = by_last_token(*(np.array(r, float) for r in ([1, 2, 3], [3, 1, 1], [1, 0, 1])))
        draft = sampled_draft(chance, q, PROMPT, parents, distinct)
        return verified(chance, traversal, q, draft)

    assert run() == run()


def test_sampled_drafts_may_be_verified_by_sample_and_match_too():
    law = emitted(lambda chance: SampleAndMatch(chance, same), P, Q, [ROOT, ROOT, 0], independent)
    assert is_exact(law, P)


BROKEN_ROWS = {
    "zeros": lambda row: 0 * row,
    "negative": lambda row: row - 1,
    "without the token": lambda row: row * (np.arange(len(row)) == len(row) - 1),
}


@pytest.mark.parametrize("spoil", BROKEN_ROWS.values(), ids=BROKEN_ROWS)
@pytest.mark.parametrize(("make", "draw", "parents"), ALL_RULES, **names)
@given(pairs(3))
@very_few
def test_rows_that_nothing_was_drawn_from_cost_the_draft_and_not_the_law(
    make, draw, parents, spoil, models
):
    p, q = models

    def program(chance):
        def propose(context, budget):
            draft = sampled_draft(chance, q, context, parents, draw)
            if not len(draft):
                return draft
            # tokens that were chosen for what they are, and rows that say so
            tokens = np.minimum(draft.tokens, 1)
            return Draft.tree(
                tokens, draft.parents, proposal=np.stack([spoil(each) for each in draft.proposal])
            )

        steps = decode(ToyTarget(p), DraftFrom(propose), make(chance), PROMPT, stop=Stop(2))
        return tuple(token for step in steps for token in step.tokens.tolist())

    assert law_of(program) == completed({(): Fraction(1)}, p, 2)


@pytest.mark.parametrize(("make", "draw", "parents"), ALL_RULES, **names)
@given(pairs(3), st.integers(2, 9))
@very_few
def test_rows_of_any_sum_keep_the_law(make, draw, parents, models, factor):
    p, q = models

    def program(chance):
        draft = sampled_draft(chance, q, PROMPT, parents, draw)
        if len(draft):
            draft = Draft.tree(draft.tokens, draft.parents, proposal=factor * draft.proposal)
        return verified(chance, make, p, draft)

    assert is_exact(law_of(program), p)
