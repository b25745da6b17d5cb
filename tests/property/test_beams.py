"""Speculative beams have the law of plain beam sampling: enumerated, with exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from exact import PROMPT, by_last_token, few, pairs, row, very_few
from hypothesis import given
from hypothesis import strategies as st

from draftwood.beams import layers as drawn_layers
from draftwood.beams import sample_beams
from draftwood.beams.layers import DrawnLayer
from draftwood.sampling.law import same
from draftwood.testing import ToyDraftModel, ToyDraftSeat, ToyTarget, law_of

END = 1


class ExactSeat(ToyDraftSeat):
    """Rows of fractions instead of log-probabilities."""

    def _log_row(self, prefix):
        return np.asarray(self._row(prefix), dtype=object)


class ExactModel(ToyDraftModel):
    def open(self, prompt):
        return ExactSeat(self.row, tuple(prompt.tolist()))


def speculative(p, q, *, width, layers, depth, ends=()):
    def program(chance):
        steps = sample_beams(
            ToyTarget(p),
            ExactModel(q, 0),
            PROMPT,
            width=width,
            chance=chance,
            law=same,
            depth=depth,
            max_tokens=layers,
            end_tokens=ends,
        )
        *_, last = steps
        return frozenset((tuple(beam.tokens.tolist()), beam.count) for beam in last.beams)

    return law_of(program)


def plain(p, *, width, layers, ends=()):
    """Beam sampling as it is defined: a list of sequences, weighed by likelihood."""

    def program(chance):
        drawn = [((), Fraction(1))] * width
        for _ in range(layers):
            pool = []
            for text, likelihood in drawn:
                if text and text[-1] in ends:
                    pool.append((text, likelihood))
                    continue
                for token, share in enumerate(p((*PROMPT.tolist(), *text))):
                    pool.append(((*text, token), likelihood * share))
            weights = [likelihood for _, likelihood in pool]
            drawn = [pool[chance.pick(weights)] for _ in range(width)]
            if all(text[-1] in ends for text, _ in drawn):
                break
        texts = [text for text, _ in drawn]
        return frozenset((text, texts.count(text)) for text in texts)

    return law_of(program)


@given(pairs(2), st.integers(1, 2), st.integers(0, 1))
@few
def test_one_and_two_layers(models, width, depth):
    p, q = models
    for layers in (1, 2):
        assert speculative(p, q, width=width, layers=layers, depth=depth) == plain(
            p, width=width, layers=layers
        )


@given(pairs(2), st.integers(1, 2))
@very_few
def test_three_layers(models, width):
    p, q = models
    found = speculative(p, q, width=width, layers=3, depth=1 + (width == 1))
    assert found == plain(p, width=width, layers=3)


@given(pairs(3), st.integers(0, 1))
@very_few
def test_three_words(models, depth):
    p, q = models
    assert speculative(p, q, width=2, layers=2, depth=depth) == plain(p, width=2, layers=2)


@given(pairs(2), st.integers(0, 1))
@very_few
def test_ended_beams_stay_with_their_likelihood(models, depth):
    p, q = models
    assert speculative(p, q, width=2, layers=2, depth=depth, ends={END}) == plain(
        p, width=2, layers=2, ends={END}
    )


@given(pairs(2))
@very_few
def test_three_beams(models):
    p, q = models
    assert speculative(p, q, width=3, layers=1, depth=0) == plain(p, width=3, layers=1)


P, Q = by_last_token(row(3, 1), row(1, 2)), by_last_token(row(1, 1), row(2, 1))


def accept_all(chance, p, offers, count):
    return [token for token, _ in offers][:count] or [chance.pick(p) for _ in range(count)]


def not_from_the_residual(chance, p, offers, count):
    outputs = [token for token, q in offers if chance.accept(p[token] / q[token])][:count]
    return outputs + [chance.pick(p) for _ in range(count - len(outputs))]


@pytest.mark.parametrize("fault", [accept_all, not_from_the_residual])
def test_a_faulty_layer_is_caught(fault, monkeypatch):
    expected = plain(P, width=2, layers=2)
    assert speculative(P, Q, width=2, layers=2, depth=1) == expected
    monkeypatch.setattr(drawn_layers, "accept_several", fault)
    assert speculative(P, Q, width=2, layers=2, depth=1) != expected


def test_offers_weighed_as_if_no_prefix_had_been_lost_are_caught(monkeypatch):
    """q must be normalized again over the prefixes that are left; else later layers are biased."""
    p, q = by_last_token(row(3, 1), row(1, 0)), by_last_token(row(1, 1), row(1, 0))
    expected = plain(p, width=2, layers=3)
    assert speculative(p, q, width=2, layers=3, depth=2) == expected
    right = DrawnLayer.offers

    def unequal(self, pool, size):
        offers = right(self, pool, size)
        kept = sum(
            self.q[at * size : (at + 1) * size].sum()
            for at, prefix in enumerate(self.pool.prefixes)
            if prefix in pool.prefixes
        )
        return [(token, q * kept) for token, q in offers]

    monkeypatch.setattr(DrawnLayer, "offers", unequal)
    assert speculative(p, q, width=2, layers=3, depth=2) != expected
