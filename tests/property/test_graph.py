"""Token graphs under any sequence of additions: acyclic, relaxed, and unrolled best first."""

import heapq

from hypothesis import given
from hypothesis import strategies as st

from draftwood.draft import ROOT, Budget
from draftwood.drafters.small.graph import TokenGraph

SHARES = st.sampled_from([0.9, 0.5, 0.5, 0.3, 0.1, 0.01])
OVERLAPS = st.sampled_from([None, 0, 0, 1, 2])


@st.composite
def graphs(draw, *, vocab_size=3, most=14):
    """A graph made of single edges, in any order."""
    graph = TokenGraph([0, 1, 2], overlap=draw(OVERLAPS))
    for _ in range(draw(st.integers(0, most))):
        node = draw(st.integers(ROOT, len(graph) - 1))
        graph.add(node, draw(st.integers(0, vocab_size - 1)), draw(SHARES))
    return graph


@st.composite
def grown(draw, *, vocab_size=4, levels=4):
    """A graph grown level by level, as drafters do; also which nodes were extended, in order."""
    graph = TokenGraph(
        [0, 1, 2],
        overlap=draw(OVERLAPS),
        siblings=draw(st.sampled_from([0.0, 0.2, 0.6])),
        probability=draw(st.sampled_from([0.0, 0.1, 0.3])),
    )
    level, extended = [ROOT], []
    paths = {ROOT: ()}
    for _ in range(levels):
        for node in level:
            if node != ROOT:
                assert node not in extended
                parent = graph.parents[node]
                paths[node] = (*paths[parent], graph.tokens[node])  # the parent was passed before
        extended += level
        tokens = [draw(st.permutations(range(vocab_size)))[:3] for _ in level]
        shares = [sorted((draw(SHARES) for _ in ids), reverse=True) for ids in tokens]
        ready = graph.extend(level, tokens, shares)
        level = [node for node in ready if draw(st.booleans())] or ready[:2]
        if not level:
            break
    return graph, extended, paths


def all_paths(graph):
    """(value, tokens) of every path from the context, by exhaustive walk."""
    found = []

    def walk(node, value, tokens, seen):
        for token, (child, q) in graph.children(node).items():
            assert child not in seen, "a cycle"
            assert graph.tokens[child] == token
            here = q if node == ROOT else value * q
            found.append((here, (*tokens, token)))
            walk(child, here, (*tokens, token), seen | {child})

    walk(ROOT, 1.0, (), frozenset())
    return found


def paths_of(draft):
    return [tuple(draft.tokens[draft.path(node)].tolist()) for node in range(len(draft))]


def values_of(draft, value):
    return [value[path] for path in paths_of(draft)]


@given(graphs())
def test_no_sequence_of_additions_closes_a_cycle(graph):
    all_paths(graph)  # asserts along the way
    edges = sum(len(graph.children(node)) for node in range(ROOT, len(graph)))
    assert edges == len(graph) + graph.merged  # every merged edge is kept


@given(graphs())
def test_a_merge_needs_equal_tokens_before(graph):
    overlap = graph._overlap
    for node in range(ROOT, len(graph)):
        for child, _ in graph.children(node).values():
            if graph.parents[child] != node:
                assert overlap is not None
                own = graph.parents[child]
                assert [*before(graph, node, overlap)] == [*before(graph, own, overlap)]


def before(graph, node, count):
    """The last `count` tokens on the node's own path, latest first, the context's included."""
    context = [2, 1, 0]
    while count:
        if node == ROOT:
            yield context.pop(0)
        else:
            yield graph.tokens[node]
            node = graph.parents[node]
        count -= 1


@given(graphs())
def test_values_are_those_of_the_likeliest_path(graph):
    best = {}

    def walk(node, value):
        for child, q in graph.children(node).values():
            here = q if node == ROOT else value * q
            best[child] = max(best.get(child, 0.0), here)
            walk(child, here)

    walk(ROOT, 1.0)
    assert [best[node] for node in range(len(graph))] == graph.values


@given(
    graphs(),
    st.integers(0, 40),
    st.sampled_from([None, 0, 1, 2, 3]),
    st.sampled_from([0.0, 0.02, 0.2]),
)
def test_unrolling_yields_exactly_the_likeliest_paths(graph, nodes, depth, floor):
    budget = Budget(nodes, depth, floor)
    value = {path: worth for worth, path in all_paths(graph)}
    assert len(value) == len(all_paths(graph))  # no two siblings hold the same token
    allowed = [
        worth for path, worth in value.items() if worth >= floor and len(path) <= budget.reach
    ]
    draft = graph.unroll(budget).draft
    got = values_of(draft, value)  # KeyError: a path that the graph does not hold
    assert got == heapq.nlargest(nodes, allowed)
    assert len(set(paths_of(draft))) == len(draft)


@given(graphs(), st.integers(1, 20))
def test_confidence_is_the_edges_own(graph, nodes):
    unrolled = graph.unroll(Budget(nodes))
    draft = unrolled.draft
    for node, parent in enumerate(draft.parents.tolist()):
        above = ROOT if parent == ROOT else unrolled.nodes[parent]
        child, q = graph.children(above)[int(draft.tokens[node])]
        assert child == unrolled.nodes[node]
        assert abs(draft.confidence[node] - q) < 1e-6


@given(grown())
def test_an_extended_node_keeps_the_path_that_it_was_passed_under(case):
    graph, extended, paths = case
    for node in extended:
        at, reverse = node, []
        while at != ROOT:
            reverse.append(graph.tokens[at])
            at = graph.parents[at]
        assert tuple(reverse[::-1]) == paths[node]
        walked = graph.own_path(paths[node])
        assert walked[-1:] == ([] if node == ROOT else [node])


@given(grown(), st.lists(st.integers(0, 3), max_size=6))
def test_the_own_path_never_leads_over_a_merged_edge(case, tokens):
    graph, _, _ = case
    at = ROOT
    for node, token in zip(graph.own_path(tokens), tokens, strict=False):
        assert graph.tokens[node] == token
        assert graph.parents[node] == at
        at = node


@given(grown())
def test_pruned_candidates_are_not_in_the_graph_and_unlikely_nodes_are_leaves(case):
    graph, extended, _ = case
    for node in extended:
        shares = [q for _, q in graph.children(node).values()]
        assert min(shares) >= graph._siblings * max(shares)
        assert node == ROOT or graph.values[node] >= graph._probability
