"""ADED: trigrams of the target's outputs, searched by the PUCT rule."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.drafters.trigram import PuctSearch, TrigramDrafter, TrigramTable
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback, Verdict
from draftwood.testing import ToyTarget, greedy_text, hash_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy


def table_of(*texts, **limits):
    table = TrigramTable(**limits)
    for text in texts:
        table.learn(text)
    return table


def observed(stream, tokens):
    verdict = Verdict(np.empty(0, dtype=np.int32), tokens[-1])
    stream.observe(Feedback(Draft.empty(), verdict, as_tokens(tokens)))


def paths(draft):
    return [tuple(draft.tokens[draft.path(node)].tolist()) for node in range(len(draft))]


def test_the_table_counts_what_followed_each_pair():
    table = table_of([1, 2, 3, 1, 2, 4, 1, 2, 3])
    assert table.followers(1, 2) == [(3, 2 / 4), (4, 1 / 4)]  # one of four is set aside
    assert table.followers(2, 1) == []


def test_namespaces_are_kept_apart():
    table = TrigramTable()
    table.learn([1, 2, 3], namespace="a")
    assert table.followers(1, 2, namespace="a") == [(3, 0.5)]
    assert table.followers(1, 2) == []


def test_the_pair_that_was_longest_not_seen_leaves_first():
    table = table_of([1, 2, 3], [4, 5, 6], [1, 2, 3], [7, 8, 9], max_pairs=2)
    assert len(table) == 2
    assert table.followers(4, 5) == []
    assert table.followers(1, 2)
    assert table.followers(7, 8)


def test_the_rarest_follower_makes_room_for_a_new_one():
    table = table_of(*[[1, 2, 3]] * 3, [1, 2, 4], [1, 2, 5], followers=2)
    assert table.followers(1, 2) == [(3, 3 / 6), (5, 2 / 6)]


def first_walks(search, count, depth=1):
    """The first token that each walk took."""
    taken = []
    for _ in range(count):
        before = {token: search.visits.get((ROOT, token), 0) for token in range(10)}
        search.walk(depth)
        taken += [t for t in before if search.visits.get((ROOT, t), 0) > before[t]]
    return taken


def test_walks_follow_the_puct_rule():
    # behind 1 2: 3 half of the time (6 of 12, one set aside), 4 (3), 5 (2)
    table = table_of(*[[1, 2, 3]] * 6, *[[1, 2, 4]] * 3, *[[1, 2, 5]] * 2)
    prior = {3: 6 / 12, 4: 3 / 12, 5: 2 / 12}
    for explore in (0.3, 1.0, 5.0):
        search = PuctSearch(TrigramDrafter(table=table, explore=explore), [1, 2], "")
        visits, expected = dict.fromkeys(prior, 0), []
        for walk in range(12):
            # one step deep, a walk through c is worth P(c)
            score = {
                c: (p if visits[c] else 0.0) + explore * p * max(walk, 1) ** 0.5 / (1 + visits[c])
                for c, p in prior.items()
            }
            best = max(score, key=score.get)
            visits[best] += 1
            expected.append(best)
        assert first_walks(search, 12) == expected
    assert len(set(expected)) == 3  # much exploration tries all of them


def test_a_walk_is_worth_its_probability_to_every_edge_on_it():
    # two steps deep, behind 1 2 come 3 to 6, and 3 to 6 again: a tree, since no pair occurs twice
    random, table = np.random.default_rng(5), TrigramTable()
    for one, two in random.integers(3, 7, (40, 2)).tolist():
        table.learn([1, 2, one, two])
    search = PuctSearch(TrigramDrafter(table=table, explore=0.7), [1, 2], "")
    visits, gains = {}, {}

    def choose(path):
        pair = (1, 2, *path)[-2:]
        walks = sum(visits.get((*path, c), 0) for c, _ in table.followers(*pair))

        def score(choice):
            edge = (*path, choice[0])
            count = visits.get(edge, 0)
            mean = gains[edge] / count if count else 0.0
            return mean + 0.7 * choice[1] * max(walks, 1) ** 0.5 / (1 + count)

        return max(table.followers(*pair), key=score)

    for _ in range(60):
        path, shares = (), []
        while len(path) < 2 and (not path or path in visits):
            token, q = choose(path)
            path, shares = (*path, token), [*shares, q]
        for depth in range(len(path)):
            edge = path[: depth + 1]
            visits[edge] = visits.get(edge, 0) + 1
            gains[edge] = gains.get(edge, 0.0) + float(np.prod(shares[depth:]))
        search.walk(2)
        tokens = {ROOT: (), **{n: (t,) for n, t in enumerate(search.graph.tokens)}}
        taken = {(*tokens[node], token): n for (node, token), n in search.visits.items()}
        assert taken == visits


def test_little_exploration_goes_deep_and_much_goes_wide():
    text = [1, 2, 3, 4, 5, 6, 7, 8]
    table = table_of(*[text] * 3, *[[1, 2, 9]] * 2, *[[1, 2, 8]] * 2)
    drafts = {
        explore: TrigramDrafter(table=table, explore=explore, walks=5)
        .open(as_tokens([1, 2]))
        .propose(Budget(64))
        for explore in (0.01, 100.0)
    }
    assert drafts[0.01].is_chain
    assert drafts[100.0].height < drafts[0.01].height
    assert len(drafts[100.0].children(ROOT)) == 3


def test_each_walk_adds_one_node_and_the_draft_is_likeliest_first():
    table = TrigramTable()
    table.learn(np.random.default_rng(0).integers(0, 5, 500).tolist())
    for walks in (1, 7, 32):
        drafter = TrigramDrafter(table=table, walks=walks)
        search = PuctSearch(drafter, [1, 2], "")
        assert sum(search.walk(8) for _ in range(walks)) == len(search.graph) + search.graph.merged
        draft = drafter.open(as_tokens([1, 2])).propose(Budget(64))
        worth = [float(np.prod(draft.confidence[draft.path(n)])) for n in range(len(draft))]
        assert all(a >= 0.99999 * b for a, b in pairwise(worth))
        assert len(set(paths(draft))) == len(draft)


def test_what_follows_a_merged_node_follows_it_in_the_table():
    table = TrigramTable()
    table.learn(np.random.default_rng(1).integers(0, 3, 300).tolist())
    draft = TrigramDrafter(table=table, walks=64).open(as_tokens([0, 1])).propose(Budget(128))
    assert len(draft) > 32
    for path, q in zip(paths(draft), draft.confidence.tolist(), strict=True):
        one, two, three = (0, 1, *path)[-3:]
        assert dict(table.followers(one, two))[three] == pytest.approx(q)


def test_it_learns_from_outputs_and_from_prompts_only_if_told_to():
    prompt = as_tokens([5, 6, 7, 5, 6])
    assert len(TrigramDrafter().open(prompt).propose(Budget(8))) == 0
    assert TrigramDrafter(prompts=True).open(prompt).propose(Budget(2)).tokens.tolist() == [7, 5]
    stream = TrigramDrafter().open(prompt)
    observed(stream, [7])
    observed(stream, [5, 6])
    assert stream.propose(Budget(2)).tokens.tolist() == [7, 5]


def test_the_text_is_the_targets_own_and_steps_are_saved():
    row = hash_model(order=1)
    drafter = TrigramDrafter()
    prompt = as_tokens([1, 2, 3])
    for _ in range(2):
        steps = list(decode(ToyTarget(row), drafter, Greedy(), prompt, stop=Stop(max_tokens=80)))
        text = [token for step in steps for token in step.tokens.tolist()]
        assert text == greedy_text(row, [1, 2, 3], 80)
    assert len(steps) < 20


def test_budgets_bound_a_draft():
    drafter = TrigramDrafter(prompts=True, depth=5)
    stream = drafter.open(as_tokens([1, 2, 3, 4] * 8))
    assert stream.propose(Budget(64)).height == 5
    assert stream.propose(Budget(64, depth=2)).height == 2
    assert len(stream.propose(Budget(3))) == 3
    assert len(stream.propose(Budget(0))) == 0
    assert len(stream.propose(Budget(64, floor=0.999))) == 0
    assert len(drafter.open(as_tokens([1])).propose(Budget(8))) == 0


def test_streams_may_learn_and_draft_in_several_threads():
    drafter = TrigramDrafter(max_pairs=50)
    random = np.random.default_rng(2).integers(0, 12, (8, 400))

    def run(tokens):
        stream = drafter.open(as_tokens(tokens[:2]))
        for token in tokens[2:].tolist():
            stream.propose(Budget(8))
            observed(stream, [token])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, random))
    assert len(drafter.table) == 50


@pytest.mark.parametrize(
    "options", [{"explore": 0.0}, {"walks": 0}, {"depth": 0}, {"max_pairs": 0}, {"followers": 0}]
)
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        TrigramDrafter(**options)
