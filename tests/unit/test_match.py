from fractions import Fraction

import numpy as np

from draftwood.draft import ROOT, Draft, as_tokens
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling, same
from draftwood.testing import ToyTarget, law_of
from draftwood.verify.match import SampleAndMatch


class Told:
    """A chance that draws what it is told."""

    def __init__(self, *draws):
        self.draws = list(draws)
        self.weights = []

    def accept(self, probability):
        raise AssertionError("sample and match accepts by drawing, never by a coin")

    def pick(self, weights):
        self.weights.append(list(weights))
        return self.draws.pop(0)


def uniform(prefix):
    return np.array([Fraction(1, 3)] * 3, dtype=object)


def rows_of(draft, row=uniform):
    return ToyTarget(row).open(as_tokens([0])).score(draft)


def test_a_draw_that_is_a_child_goes_on_from_it():
    #  context -+- 1 --- 2
    #           +- 2
    draft = Draft.tree([1, 2, 2], [ROOT, ROOT, 0])
    verdict = SampleAndMatch(Told(1, 2, 0), same).verify(draft, rows_of(draft))
    assert (verdict.path.tolist(), verdict.next_token) == ([0, 2], 0)


def test_a_draw_that_is_no_child_ends_the_step():
    draft = Draft.tree([1, 2], [ROOT, 0])
    verdict = SampleAndMatch(Told(1, 0), same).verify(draft, rows_of(draft))
    assert (verdict.path.tolist(), verdict.next_token) == ([0], 0)


def test_the_law_is_told_what_was_accepted():
    told = []

    def law(logits, seen):
        told.append(seen.tolist())
        return logits

    draft = Draft.chain([1, 2])
    SampleAndMatch(Told(1, 2, 1), law).verify(draft, rows_of(draft))
    assert told == [[0], [0, 1], [0, 1, 2]]


def test_fractions_stay_fractions():
    chance = Told(1, 0)
    SampleAndMatch(chance, same).verify(Draft.chain([1]), rows_of(Draft.chain([1])))
    assert chance.weights == [[Fraction(1, 3)] * 3] * 2


def test_a_right_guess_is_accepted_as_often_as_the_target_says_it():
    draft = Draft.chain([2])

    def row(prefix):
        return np.array([Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)], dtype=object)

    law = law_of(
        lambda chance: len(SampleAndMatch(chance, same).verify(draft, rows_of(draft, row)).path)
    )
    assert law == {0: Fraction(5, 6), 1: Fraction(1, 6)}


def test_the_same_seed_gives_the_same_text_for_the_same_drafts():
    def row(prefix):
        return np.array([0.1, 0.2, 0.3, 0.4])

    draft = Draft.tree([1, 2, 3], [ROOT, ROOT, 1])

    def texts():
        verifier = SampleAndMatch(SeededChance(3), Sampling(temperature=1.5))
        return [
            verifier.verify(draft, rows_of(draft, row)).tokens(draft).tolist() for _ in range(9)
        ]

    assert texts() == texts()
