"""The token tree and its views."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.errors import InvalidDraft, InvalidOption, InvalidTokens

#        context
#        /     \
#      7(0)    9(2)
#      /  \       \
#    8(1)  5(3)    8(4)
#                    \
#                    3(5)
TREE = Draft.tree(
    [7, 8, 9, 5, 8, 3],
    [ROOT, 0, ROOT, 0, 2, 4],
    confidence=[0.6, 0.9, 0.4, 0.05, 0.5, 0.5],
)


class TestAsTokens:
    def test_borrows_an_int32_array(self):
        ids = np.array([1, 2], dtype=np.int32)
        assert as_tokens(ids) is ids

    def test_takes_lists_and_wide_integers_that_fit(self):
        assert as_tokens([1, 2]).dtype == np.int32
        assert_array_equal(as_tokens(np.array([5], dtype=np.uint64)), [5])

    def test_an_empty_list_has_no_type_and_still_is_no_tokens(self):
        assert as_tokens([]).dtype == np.int32

    @pytest.mark.parametrize("value", [2**33 + 5, 2**31, -1, -(2**31)])
    def test_refuses_ids_that_do_not_fit_instead_of_narrowing(self, value):
        with pytest.raises(InvalidTokens, match=str(value)):
            as_tokens([0, value])

    @pytest.mark.parametrize("values", [[1.5], [True], ["a"], [[1], [2]]])
    def test_refuses_what_is_no_flat_sequence_of_integers(self, values):
        with pytest.raises(InvalidTokens):
            as_tokens(values)

    def test_knows_the_vocabulary(self):
        with pytest.raises(InvalidTokens, match=r"token id 50 is outside \[0, 49\]"):
            as_tokens([3, 50], vocab_size=50)


class TestDraft:
    def test_refuses_a_parent_that_does_not_stand_before_its_child(self):
        with pytest.raises(InvalidDraft, match="node 1 has parent 1"):
            Draft.tree([1, 2], [ROOT, 1])
        with pytest.raises(InvalidDraft, match="node 0 has parent -2"):
            Draft.tree([1], [-2])

    def test_refuses_arrays_of_unequal_length(self):
        with pytest.raises(InvalidDraft, match="2 tokens with 1 parents"):
            Draft.tree([1, 2], [ROOT])
        with pytest.raises(InvalidDraft, match="1 proposal rows"):
            Draft.tree([1, 2], [ROOT, 0], proposal=np.ones((1, 4)))

    def test_depths_count_the_tokens_on_the_path(self):
        assert_array_equal(TREE.depths, [1, 2, 1, 2, 2, 3])
        assert TREE.height == 3

    def test_expected_tokens_are_the_sum_of_path_probabilities(self):
        by_hand = 0.6 * (1 + 0.9 + 0.05) + 0.4 * (1 + 0.5 + 0.25)
        assert TREE.expected == pytest.approx(by_hand)
        assert Draft.empty().expected == 0.0

    def test_mask_shows_ancestors_and_self(self):
        expected = np.zeros((6, 6), dtype=bool)
        for node in range(6):
            expected[node, TREE.path(node)] = True
        assert_array_equal(TREE.mask(), expected)

    def test_mask_of_a_chain_is_lower_triangular(self):
        assert_array_equal(Draft.chain([4, 5, 6]).mask(), np.tri(3, dtype=bool))

    def test_path_runs_from_the_first_token_to_the_node(self):
        assert_array_equal(TREE.path(5), [2, 4, 5])
        assert_array_equal(TREE.path(ROOT), [])
        with pytest.raises(InvalidDraft, match="node 6"):
            TREE.path(6)

    def test_every_prefix_is_a_draft(self):
        for n in range(len(TREE) + 1):
            assert len(TREE.cut(nodes=n)) == n

    def test_cut_by_leaves_keeps_the_longest_prefix(self):
        assert_array_equal(TREE.cut(leaves=1).tokens, [7, 8])
        assert_array_equal(TREE.cut(leaves=2).tokens, [7, 8, 9])
        assert_array_equal(TREE.cut(leaves=3).tokens, TREE.tokens)
        assert len(TREE.cut(leaves=0)) == 0

    def test_shallow_drops_what_is_too_deep(self):
        shallow = TREE.to_depth(1)
        assert_array_equal(shallow.tokens, [7, 9])
        assert_array_equal(shallow.parents, [ROOT, ROOT])
        assert_array_equal(TREE.to_depth(2).parents, [ROOT, 0, ROOT, 0, 2])

    def test_to_chain_follows_the_most_confident_child(self):
        chain = TREE.to_chain()
        assert chain.is_chain
        assert_array_equal(chain.tokens, [7, 8])
        assert_array_equal(TREE.to_chain(1).tokens, [7])

    def test_to_chain_keeps_the_proposal_rows_of_its_nodes(self):
        rows = np.arange(24).reshape(6, 4)
        tree = Draft.tree(TREE.tokens, TREE.parents, confidence=TREE.confidence, proposal=rows)
        assert_array_equal(tree.to_chain().proposal, rows[[0, 1]])

    def test_to_chain_of_sampled_tokens_takes_the_first_whatever_it_is(self):
        tree = Draft.tree([7, 9], [ROOT, ROOT], confidence=[0.1, 0.9], proposal=np.ones((2, 10)))
        assert_array_equal(tree.to_chain().tokens, [7])

    def test_first_child_next_sibling_rebuilds_the_tree(self):
        first, sibling = TREE.first_child_next_sibling()
        for row in range(len(TREE) + 1):
            child, found = first[row], []
            while child != -1:
                found.append(child - 1)
                child = sibling[child]
            assert_array_equal(found, TREE.children(row - 1))

    def test_empty_draft_has_no_nodes(self):
        assert len(Draft.empty()) == 0
        assert Draft.empty().height == 0
        assert Draft.empty().mask().shape == (0, 0)
        assert len(Draft.empty().to_chain()) == 0


class TestBudget:
    def test_within_never_widens(self):
        assert Budget(8, 3).within(5).depth == 3
        assert Budget(8).within(5).depth == 5
        assert Budget(8).reach == 8

    @pytest.mark.parametrize("wrong", [{"nodes": -1}, {"depth": -2}])
    def test_refuses_negative_limits(self, wrong):
        with pytest.raises(InvalidOption, match="negative"):
            Budget(**wrong)
