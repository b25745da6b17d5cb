"""The noise is a fixed table of standard Gumbel numbers, and what it picks has the law."""

import math
from itertools import pairwise

import numpy as np
import pytest

from draftwood.draft import ROOT, Draft, as_tokens
from draftwood.errors import InvalidOption
from draftwood.sampling.law import Sampling, same
from draftwood.testing import ToyTarget, hash_model
from draftwood.verify.gumbel import BLOCK, GumbelNoise, SharedGumbel

LAW = np.array([0.5, 0.25, 0.15, 0.06, 0.04, 0.0])


def chi_square(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def limit(freedom):
    """Beyond what one in about 30 000 fair tests reaches (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + 4 * math.sqrt(spread)) ** 3


def splitmix(state, count):
    """The reference generator, one number after the other."""
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        word = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        yield word ^ (word >> 31)


@pytest.mark.parametrize(("seed", "position"), [(0, 0), (5, 3), (2**64 - 1, 100_000)])
def test_a_row_is_a_splitmix_stream_that_begins_at_its_place(seed, position):
    key = next(splitmix(seed, 1))
    row = next(splitmix((key + position * 0x9E3779B97F4A7C15) % 2**64, 1))
    uniform = [((bits >> 12) + 0.5) / 2**52 for bits in splitmix(row, 9)]
    expected = [-math.log(-math.log(u)) for u in uniform]
    np.testing.assert_allclose(GumbelNoise(seed).at(position, range(9)), expected, rtol=1e-14)


def test_the_table_never_changes():
    """Seeds in use promise their texts: these numbers are pinned."""
    assert next(splitmix(0, 1)) == 0xE220A8397B1DCDAF  # as its authors publish it
    found = GumbelNoise(7).at(3, [4, 5, 151_935])
    np.testing.assert_allclose(
        found, [0.3007165624097767, 1.58540339156471, 1.4174833533497575], rtol=1e-13
    )


def test_an_entry_does_not_depend_on_what_else_is_asked():
    noise, tokens = GumbelNoise(1), np.random.default_rng(0).permutation(3 * BLOCK)
    row = noise.at(9, np.arange(3 * BLOCK))
    np.testing.assert_array_equal(noise.at(9, tokens), row[tokens])
    np.testing.assert_array_equal(noise.at(9, tokens.astype(np.int32)[:5]), row[tokens[:5]])


def test_the_noise_is_standard_gumbel():
    noise = GumbelNoise(2)
    table = np.array([noise.at(position, np.arange(500)) for position in range(200)])
    bins = 50
    share = np.exp(-np.exp(-table))  # the distribution function makes it uniform
    counts = np.bincount((share * bins).astype(int).ravel(), minlength=bins)
    assert chi_square(counts, table.size / bins) < limit(bins - 1)
    assert np.isfinite(table).all()


@pytest.mark.parametrize(
    "neighbors",
    [
        pytest.param(lambda table: (table[:-1], table[1:]), id="positions"),
        pytest.param(lambda table: (table[:, :-1], table[:, 1:]), id="tokens"),
        pytest.param(lambda table: (table[:-1, :-1], table[1:, 1:]), id="diagonals"),
    ],
)
def test_neighbors_in_the_table_are_independent(neighbors):
    noise = GumbelNoise(3)
    table = np.array([noise.at(position, np.arange(400)) for position in range(200)])
    assert_independent(*neighbors(np.exp(-np.exp(-table))))


def test_tables_of_neighboring_seeds_are_independent():
    one, two = (
        np.array([GumbelNoise(seed).at(position, np.arange(400)) for position in range(100)])
        for seed in (10, 11)
    )
    assert_independent(np.exp(-np.exp(-one)), np.exp(-np.exp(-two)))


def assert_independent(one, two, bins=8):
    cells = (one * bins).astype(int) * bins + (two * bins).astype(int)
    counts = np.bincount(cells.ravel(), minlength=bins * bins)
    assert chi_square(counts, cells.size / bins**2) < limit(bins**2 - 1)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_picks_have_the_law_over_positions(seed):
    noise, count = GumbelNoise(seed), 8_000
    picks = np.array([noise.pick(position, LAW) for position in range(count)])
    counts = np.bincount(picks, minlength=6)
    assert counts[5] == 0
    assert chi_square(counts[:5], count * LAW[:5]) < limit(4)
    pairs = np.bincount([6 * a + b for a, b in pairwise(picks.tolist())], minlength=36)
    expected = np.outer(LAW, LAW).ravel() * (count - 1)
    assert chi_square(pairs[expected > 0], expected[expected > 0]) < limit(24)


def test_picks_have_the_law_over_seeds():
    picks = [GumbelNoise(seed).pick(17, LAW) for seed in range(8_000)]
    counts = np.bincount(picks, minlength=6)
    assert chi_square(counts[:5], 8_000 * LAW[:5]) < limit(4)


def test_a_broken_noise_would_be_noticed():
    """The checks above have teeth: Gumbel numbers with a scale of 0.8 fail them."""
    noise, count = GumbelNoise(0), 20_000
    picks = [
        int(np.argmax(np.log(LAW[:5]) + 0.8 * noise.at(position, range(5))))
        for position in range(count)
    ]
    assert chi_square(np.bincount(picks), count * LAW[:5]) > limit(4)


@pytest.mark.parametrize("spread", [0.5, 3.0, 20.0])
def test_a_pick_is_the_largest_score_of_the_whole_row(spread):
    random, noise = np.random.default_rng(4), GumbelNoise(4)
    for position in range(20):
        scores = random.normal(0, spread, 2 * BLOCK + 100)
        best = int(np.argmax(scores + noise.at(position, np.arange(len(scores)))))
        weights = np.exp(scores - scores.max())
        assert noise.pick(position, weights) == best
        assert noise.pick(position, 3 * weights) == best


def test_a_token_without_weight_is_never_picked():
    noise = GumbelNoise(5)
    assert {noise.pick(position, [0.0, 0.0, 2.0, 0.0]) for position in range(200)} == {2}


def test_weights_of_any_size_pick_the_same():
    noise, weights = GumbelNoise(5), np.array([1e-30, 0.2, 0.5, 5e-324, 0.3])
    for position in range(50):
        picks = {noise.pick(position, weights * scale) for scale in (1.0, 1e-300, 1e300)}
        assert len(picks) == 1


def test_children_are_ranked_by_what_the_seed_is_about_to_draw():
    noise, tokens = GumbelNoise(6), np.array([40, 7, 23, 11])
    weights = np.array([8, 4, 2, 1])
    law = np.zeros(50)
    law[tokens] = weights
    hits = {"rank": 0, "most frequent": 0}
    for position in range(300):
        order = noise.rank(position, tokens, weights)
        assert sorted(order.tolist()) == [0, 1, 2, 3]
        drawn = noise.pick(position, law)
        hits["rank"] += int(tokens[order[0]]) == drawn
        hits["most frequent"] += drawn == 40
    assert hits["rank"] == 300
    assert hits["most frequent"] < 200


def test_counts_of_few_occurrences_say_more_with_the_noise_than_without():
    random, noise, trials = np.random.default_rng(7), GumbelNoise(7), 600
    hits = {"rank": 0, "most frequent": 0}
    for position in range(trials):
        law = random.dirichlet(np.full(40, 0.2))
        tokens, counts = np.unique(random.choice(40, 16, p=law), return_counts=True)
        drawn = noise.pick(position, law)
        hits["rank"] += int(tokens[noise.rank(position, tokens, counts)[0]]) == drawn
        hits["most frequent"] += int(tokens[np.argmax(counts)]) == drawn
    assert hits["rank"] > 1.3 * hits["most frequent"]


def test_a_position_counts_the_tokens_before_it():
    asked = []

    class Asked:
        def pick(self, position, weights):
            asked.append(position)
            return [1, 2, 0][len(asked) - 1]

    draft = Draft.tree([2, 1, 2, 0], [ROOT, ROOT, 1, 1])
    rows = ToyTarget(hash_model(3)).open(as_tokens([0, 0, 1])).score(draft)
    verdict = SharedGumbel(Asked(), same).verify(draft, rows)
    assert asked == [3, 4, 5]
    assert (verdict.path.tolist(), verdict.next_token) == ([1, 2], 0)


def test_a_cold_law_is_greedy():
    rows = ToyTarget(hash_model(12)).open(as_tokens([1])).score(Draft.empty())
    verdict = SharedGumbel(GumbelNoise(0), Sampling(temperature=0)).verify(Draft.empty(), rows)
    assert verdict.next_token == int(np.argmax(rows.logits(0)))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(InvalidOption, match=rf"seed {seed} is outside \[0, 2\*\*64\)"):
        GumbelNoise(seed)
