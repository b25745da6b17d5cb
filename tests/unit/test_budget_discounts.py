from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftwood.budget.cost import GeometricCost, LinearCost, times
from draftwood.budget.cut import discounts_of, rank
from draftwood.draft import Draft

COSTS = st.one_of(
    st.builds(LinearCost, st.floats(0.0, 2.0)), st.builds(GeometricCost, st.floats(1.0, 1.3))
)


@given(COSTS, st.floats(1.0, 20.0), st.integers(1, 64))
def test_discounts_never_rise_and_never_exceed_one(cost, pace, most):
    found = discounts_of(pace, times(cost, most))
    assert len(found) == most
    assert all(1.0 >= a >= b > 0.0 for a, b in zip(found, [*found[1:], found[-1]], strict=True))


def test_a_token_counts_fully_where_text_goes_on_no_faster_than_at_the_mean():
    found = discounts_of(3.0, times(LinearCost(0.0), 8))
    assert found[:2] == [1.0, 1.0]  # steps of 2 and 3 tokens
    assert found[5] == pytest.approx((3.0 / 7.0) ** (2 / 3))


def test_where_longer_drafts_no_longer_pay_the_fastest_step_is_the_measure():
    found = discounts_of(1.0, times(GeometricCost(1.5), 8))
    assert found[2:] == [found[1]] * 6  # 3 tokens in 1.5 ** 2, 4 in 1.5 ** 3: slower


def test_where_drafting_takes_long_deep_tokens_are_no_faster_and_count_nearly_in_full():
    free, slow = (discounts_of(1.5, times(LinearCost(0.05), 8), took) for took in (0.0, 0.5))
    assert free[7] == pytest.approx((1.5 / (9.0 / 1.4)) ** (2 / 3))
    assert slow[7] == pytest.approx((1.5 / (9.0 / 5.4)) ** (2 / 3))
    assert all(a <= b for a, b in zip(free, slow, strict=True))


def test_an_endless_step_discounts_nothing_further():
    found = discounts_of(1.0, np.array([1.0, 1.1, np.inf]))
    assert found[1] == found[0]


#   a 0.9 - b 0.9    values by probability: 0.9 0.81 0.72; half for depth 2: 0.9 0.72 0.41
#   c 0.72
TREE = Draft.tree([1, 2, 3], [-1, 0, -1], confidence=[0.9, 0.9, 0.72])


def test_a_discount_puts_shallow_nodes_before_deep_ones():
    assert rank(TREE).order is None
    ranked = rank(TREE, (), [1.0, 0.5])
    assert list(ranked.order) == [0, 2, 1]
    assert list(ranked.gains) == pytest.approx([0.9, 0.72, 0.405])


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_parents_stay_before_their_children(confidence, random):
    parents = [random.randrange(-1, node) for node in range(len(confidence))]
    draft = Draft.tree(range(len(parents)), parents, confidence=confidence)
    ranked = rank(draft, (), discounts_of(1.5, times(LinearCost(0.1), 8)))
    place = {node: at for at, node in enumerate(ranked.order or range(len(parents)))}
    assert all(parent < 0 or place[parent] < place[node] for node, parent in enumerate(parents))
    assert sorted(ranked.keys, reverse=True) == list(ranked.keys)
