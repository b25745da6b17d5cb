"""Rules that change what is generated: each does what its paper says, and says that it does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftwood.draft import ROOT, Draft, as_tokens
from draftwood.errors import InvalidOption
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling, same
from draftwood.testing import ToyTarget, drafts, hash_model, law_of, merge_doubles
from draftwood.verify.greedy import Greedy
from draftwood.verify.lossy import RelaxedAcceptance, TopBeta, TypicalAcceptance

PROMPT = as_tokens([0])


def verify(rule, draft, *weights):
    table = [np.array(row, dtype=float) for row in weights]
    rows = ToyTarget(lambda prefix: table[min(len(prefix), len(table)) - 1]).open(PROMPT)
    return rule.verify(draft, rows.score(draft))


@pytest.mark.parametrize(
    "rule",
    [
        TypicalAcceptance(SeededChance(0), same),
        RelaxedAcceptance(SeededChance(0), same),
        TopBeta(best=4, gap=9.0),
    ],
)
def test_ids_beyond_the_vocabulary_are_never_accepted(rule):
    draft = Draft.tree([4, 70_000, 1, 5], [ROOT, ROOT, ROOT, 2])
    verdict = verify(rule, draft, [0.2, 0.4, 0.2, 0.2], [0.25] * 4)
    assert verdict.path.tolist() == [2]
    assert 0 <= verdict.next_token < 4


def test_lossy_rules_say_so():
    assert not any(rule.lossless for rule in (TypicalAcceptance, RelaxedAcceptance, TopBeta))


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ([0.5, 0.3, 0.1, 0.1], [0, 1, 2, 3]),  # entropy 1.17: at least 0.09
        ([0.96, 0.03, 0.01, 0.0], [0]),  # entropy 0.18: at least 0.09
        ([0.25] * 4, [0, 1, 2, 3]),  # entropy ln 4: more than 0.075
    ],
)
def test_typical_acceptance_asks_less_of_an_uncertain_target(weights, kept):
    rule = TypicalAcceptance(SeededChance(0), same)
    found = [t for t in range(4) if len(verify(rule, Draft.chain([t]), weights).path)]
    assert found == kept


def test_typical_acceptance_follows_the_entropy_where_it_is_high():
    weights = [0.05] * 19 + [0.03, 0.02]  # exp(-H) = 0.052, times 0.5: 0.026
    rule = TypicalAcceptance(SeededChance(0), same, floor=0.5, share=0.5)
    assert len(verify(rule, Draft.chain([19]), weights).path) == 1
    assert len(verify(rule, Draft.chain([20]), weights).path) == 0


def test_the_longest_accepted_path_wins_and_ties_go_to_the_earlier():
    r"""0   1   0 ends early; 2 and 3 below 1 are both good: the earlier one stays."""
    draft = Draft.tree([0, 1, 2, 3], [ROOT, ROOT, 1, 1])
    verdict = verify(TypicalAcceptance(SeededChance(0), same), draft, [1, 1, 1, 1])
    assert verdict.path.tolist() == [1, 2]


def test_top_beta_wants_both_a_rank_and_a_small_gap():
    logits = [3.0, 2.5, 2.2, 2.1, 0.0]
    kept = {
        (best, gap): [
            t
            for t in range(5)
            if len(verify(TopBeta(best=best, gap=gap), Draft.chain([t]), logits).path)
        ]
        for best, gap in [(1, 9.0), (3, 9.0), (3, 0.6), (5, 0.85), (5, 0.0)]
    }
    assert kept == {
        (1, 9.0): [0],
        (3, 9.0): [0, 1, 2],
        (3, 0.6): [0, 1],
        (5, 0.85): [0, 1, 2],
        (5, 0.0): [0],
    }


@given(drafts(12, max_nodes=10), st.integers(0, 50))
def test_the_best_one_is_greedy(draft, seed):
    target, once = ToyTarget(hash_model(seed=seed)), merge_doubles(draft)
    strict = TopBeta(best=1).verify(draft, target.open(PROMPT).score(draft))
    # Greedy follows the first of equal siblings, this rule whichever leads further.
    greedy = Greedy().verify(once, target.open(PROMPT).score(once))
    assert strict.tokens(draft).tolist() == greedy.tokens(once).tolist()


def test_relaxed_acceptance_never_refuses_the_likeliest_and_never_takes_the_impossible():
    for seed in range(20):
        rule = RelaxedAcceptance(SeededChance(seed), same, strictness=1.0)
        assert len(verify(rule, Draft.chain([1]), [0.2, 0.5, 0.3, 0.0]).path) == 1
        assert len(verify(rule, Draft.chain([3]), [0.2, 0.5, 0.3, 0.0]).path) == 0


def test_relaxed_acceptance_takes_more_the_less_strict_it_is():
    def share(strictness):
        def path_length(chance):
            rule = RelaxedAcceptance(chance, same, strictness=strictness)
            return len(verify(rule, Draft.chain([0]), [0.125, 0.5]).path)

        return float(law_of(path_length)[1])

    assert [share(1.0), share(0.5), share(0.25)] == [0.25, 0.5, 1.0]


def test_the_token_after_the_path_comes_from_the_law():
    law = Sampling(temperature=0)
    draft = Draft.chain([2])
    verdict = verify(TypicalAcceptance(SeededChance(0), law), draft, [0, 1, 5], [0, 9, 1])
    assert verdict.tokens(draft).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TopBeta(best=0), "best is 0"),
        (lambda: TopBeta(gap=-1), "gap is -1"),
        (lambda: TopBeta(gap=float("nan")), "gap is nan"),
        (lambda: TypicalAcceptance(SeededChance(0), same, floor=0), "floor is 0"),
        (lambda: TypicalAcceptance(SeededChance(0), same, share=1.5), "share is 1.5"),
        (lambda: RelaxedAcceptance(SeededChance(0), same, strictness=0), "strictness is 0"),
    ],
)
def test_an_option_outside_its_range_is_refused(make, words):
    with pytest.raises(InvalidOption, match=words):
        make()
