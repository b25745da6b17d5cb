r"""A token graph by hand.

context(9) --- 1 --- 3 --- 5      overlap 0: `3` behind `2` is the `3` that stands behind `1`
      \             /
       `--- 2 -----'
"""

import pytest

from draftwood.draft import ROOT, Budget
from draftwood.drafters.small.graph import TokenGraph
from draftwood.errors import InvalidDraft, InvalidOption

AMPLE = Budget(64)


def diamond(**options):
    graph = TokenGraph([9], **({"overlap": 0} | options))
    one, two = graph.add(ROOT, 1, 0.6), graph.add(ROOT, 2, 0.4)
    three = graph.add(one, 3, 0.5)
    graph.add(three, 5, 1.0)
    graph.add(two, 3, 0.9)
    return graph


def paths(graph, budget=AMPLE):
    draft = graph.unroll(budget).draft
    return [draft.tokens[draft.path(node)].tolist() for node in range(len(draft))]


def test_a_run_that_occurs_again_is_an_edge_and_not_a_node():
    graph = diamond()
    assert graph.tokens == [1, 2, 3, 5]
    assert graph.merged == 1
    assert graph.children(0)[3][0] == graph.children(1)[3][0] == 2


def test_the_tree_holds_what_follows_under_every_parent_likeliest_first():
    graph = diamond()
    # values                   0.6  0.4   0.36    0.36       0.3     0.3
    assert paths(graph) == [[1], [2], [2, 3], [2, 3, 5], [1, 3], [1, 3, 5]]
    unrolled = graph.unroll(Budget(64))
    assert unrolled.nodes == [0, 1, 2, 3, 2, 3]
    assert unrolled.draft.confidence.tolist() == pytest.approx([0.6, 0.4, 0.9, 1.0, 0.5, 1.0])


def test_a_budget_cuts_what_is_least_likely_or_too_deep():
    graph = diamond()
    assert paths(graph, Budget(3)) == [[1], [2], [2, 3]]
    assert paths(graph, Budget(64, depth=1)) == [[1], [2]]
    assert paths(graph, Budget(64, floor=0.35)) == [[1], [2], [2, 3], [2, 3, 5]]
    assert paths(graph, Budget(0)) == []
    assert graph.unroll(Budget(64), source=3).draft.source.tolist() == [3] * 6


def test_an_edge_that_would_close_a_cycle_makes_a_node_instead():
    graph = TokenGraph([9], overlap=0)
    one = graph.add(ROOT, 1, 1.0)
    two = graph.add(one, 2, 1.0)
    again = graph.add(two, 1, 1.0)
    assert again not in (one, two)
    assert graph.merged == 0
    assert graph.add(again, 1, 1.0) == 3  # not to itself either


def test_an_edge_to_a_descendant_is_a_shortcut():
    graph = TokenGraph([9], overlap=0)
    one = graph.add(ROOT, 1, 0.5)
    two = graph.add(one, 2, 0.5)
    three = graph.add(two, 3, 0.5)
    assert graph.add(one, 3, 0.5) == three
    assert graph.values[three] == 0.25


@pytest.mark.parametrize(("overlap", "merged"), [(None, 0), (0, 2), (1, 1), (2, 0)])
def test_more_equal_tokens_make_fewer_merges(overlap, merged):
    graph = TokenGraph([8, 9], overlap=overlap)
    one, two = graph.add(ROOT, 1, 0.5), graph.add(ROOT, 2, 0.5)
    graph.add(graph.add(one, 3, 0.5), 4, 0.5)
    graph.add(graph.add(two, 3, 0.5), 4, 0.5)
    # R = 0: `3` is one node, and the second `4` its edge; R = 1: only `3 4` and `3 4` meet
    assert graph.merged == (1 if overlap == 0 else merged)
    assert len(graph) == {None: 6, 0: 4, 1: 5, 2: 6}[overlap]


def test_the_context_counts_among_the_tokens_before():
    graph = TokenGraph([9], overlap=1)
    first = graph.add(ROOT, 1, 0.5)  # 9 1
    nine = graph.add(first, 9, 0.5)  # 1 9
    assert graph.add(nine, 1, 0.5) not in (first, nine)  # 9 1 again, but an ancestor
    other = graph.add(ROOT, 9, 0.5)  # 9 9
    assert graph.add(other, 9, 0.5) == 4  # 9 9 too, but its own ancestor
    assert graph.add(graph.add(ROOT, 3, 0.1), 9, 0.1) == len(graph) - 1  # 3 9: new
    assert len(TokenGraph([], overlap=2)) == 0  # a context shorter than the overlap will do


def test_unlikely_siblings_are_dropped_relative_to_the_likeliest():
    graph = TokenGraph([9], siblings=0.4)
    graph.extend([ROOT], [[1, 2, 3]], [[0.5, 0.2, 0.19]])
    assert graph.tokens == [1, 2]


def test_nodes_on_unlikely_paths_are_leaves_by_the_path_and_not_the_step():
    graph = TokenGraph([9], probability=0.3)
    (one,) = graph.extend([ROOT], [[1, 2]], [[0.5, 0.29]])
    assert graph.tokens[one] == 1
    # 0.55 is above the threshold, the path's 0.275 is not
    assert graph.extend([one], [[4]], [[0.55]]) == []


def test_a_better_path_to_a_leaf_makes_it_worth_extending_and_is_its_own_path_then():
    graph = TokenGraph([9], overlap=0, probability=0.3)
    ready = graph.extend([ROOT], [[1, 2]], [[0.5, 0.45]])
    # `7` is a leaf behind 1 (0.1), and more behind 2 (0.4)
    ready = graph.extend(ready, [[7], [7]], [[0.2], [0.9]])
    assert [graph.tokens[node] for node in ready] == [7]
    seven = ready[0]
    assert graph.parents[seven] == 1
    assert graph.own_path([2, 7]) == [1, seven]
    assert graph.own_path([1, 7]) == [0]


def test_a_node_that_was_extended_keeps_its_path():
    graph = TokenGraph([9], overlap=0)
    graph.extend([ROOT], [[1, 2]], [[0.5, 0.45]])
    graph.extend([0], [[7]], [[0.5]])
    graph.extend([2], [[8]], [[0.5]])  # 7 is extended behind 1
    assert graph.extend([1], [[7]], [[0.99]]) == [3]  # only 8 behind it gains
    assert graph.parents[2] == 0
    assert graph.values[2] == pytest.approx(0.4455)
    assert graph.values[3] == pytest.approx(0.4455 / 2)
    assert graph.own_path([1, 7, 8]) == [0, 2, 3]
    assert graph.own_path([2, 7, 8]) == [1]


def test_an_edge_stays_as_it_is():
    graph = TokenGraph()
    assert graph.add(ROOT, 1, 0.5) == graph.add(ROOT, 1, 0.9) == 0
    assert graph.values == [0.5]
    assert graph.merged == 0


def test_what_is_no_graph_is_refused():
    with pytest.raises(InvalidDraft, match="node 4 "):
        TokenGraph().add(4, 1, 0.5)
    with pytest.raises(InvalidOption, match="overlap is -1"):
        TokenGraph(overlap=-1)
    with pytest.raises(InvalidOption, match=r"siblings is 1\.5"):
        TokenGraph(siblings=1.5)
