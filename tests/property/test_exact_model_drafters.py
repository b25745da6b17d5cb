"""Promise 1 for what a small model samples: drafter and rule together keep the target's law.

Every branch of drawing and verifying is enumerated with fractions; laws are compared with `==`.
"""

from fractions import Fraction

import numpy as np
import pytest
from exact import PROMPT, completed, few, is_exact, pairs, row, verified, very_few
from hypothesis import given
from hypothesis import strategies as st

from draftwood.decode import decode
from draftwood.draft import Budget
from draftwood.drafters.small.grow import MergedDrafter, ModelDrafter
from draftwood.drafters.small.sampled import MultiCandidate
from draftwood.drafters.small.shapes import Shape
from draftwood.sampling.law import same
from draftwood.testing import ToyDraftModel, ToyDraftSeat, ToyTarget, law_of
from draftwood.text.stop import Stop
from draftwood.verify.block import BlockVerification
from draftwood.verify.match import SampleAndMatch
from draftwood.verify.multiround import MultiRound
from draftwood.verify.rejection import ChainRejection, RecursiveRejection
from draftwood.verify.transport import KSeq, SpecHub
from draftwood.verify.traversal import TraversalVerification


class ExactModel(ToyDraftModel):
    """A small model whose rows are exact weights, as they are."""

    def open(self, prompt):
        return ExactSeat(self.row, tuple(prompt.tolist()))


class ExactSeat(ToyDraftSeat):
    def _log_row(self, prefix):
        return np.asarray(self._row(prefix), dtype=object)


def traversal(chance):
    return TraversalVerification(chance, same)


def traversal_with_replacement(chance):
    return TraversalVerification(chance, same, replacement=True)


def rule(kind):
    def make(chance):
        return kind(chance, same)

    make.__name__ = kind.__name__
    return make


def k_seq(chance):
    return KSeq(chance, same, halvings=2)


MATCHES = [
    (rule(ChainRejection), "independent", (1, 1)),
    (rule(BlockVerification), "distinct", (1, 1)),
    (rule(RecursiveRejection), "distinct", (2, 1)),
    (traversal, "distinct", (2, 1)),
    (traversal_with_replacement, "independent", (2, 1)),
    (rule(MultiRound), "independent", (2, 1)),
    (k_seq, "independent", (2, 1)),
    (rule(SpecHub), "hub", (2,)),
    (rule(SampleAndMatch), "distinct", (2, 1)),
]
names = {"ids": lambda value: getattr(value, "__name__", None)}


def sampled(q, chance, ends=(), **options):
    model = ExactModel(q, 3)
    model.end_tokens = ends
    return MultiCandidate(model, law=same, chance=chance, **options)


@pytest.mark.parametrize(("make", "draw", "widths"), MATCHES, **names)
@given(pairs(3))
@few
def test_one_step_keeps_the_law_of_the_target(make, draw, widths, models):
    p, q = models

    def program(chance):
        stream = sampled(q, chance, widths=widths, draw=draw).open(PROMPT)
        return verified(chance, make, p, stream.propose(Budget(16)))

    assert is_exact(law_of(program), p)


@pytest.mark.parametrize(("make", "draw", "widths"), MATCHES, **names)
@given(pairs(3), st.integers(0, 3))
@very_few
def test_a_budget_that_cuts_groups_keeps_the_law(make, draw, widths, models, nodes):
    p, q = models

    def program(chance):
        stream = sampled(q, chance, widths=widths, draw=draw).open(PROMPT)
        draft = stream.propose(Budget(nodes))
        assert len(draft) <= nodes
        return verified(chance, make, p, draft)

    assert is_exact(law_of(program), p)


@pytest.mark.parametrize(("make", "draw", "widths"), MATCHES, **names)
@given(pairs(3))
@very_few
def test_drafts_that_end_with_an_end_token_keep_the_law(make, draw, widths, models):
    """Where a branch ends follows from its own tokens, which every rule allows."""
    p, q = models

    def program(chance):
        stream = sampled(q, chance, ends=(1,), widths=widths, draw=draw).open(PROMPT)
        return verified(chance, make, p, stream.propose(Budget(16)))

    assert is_exact(law_of(program), p)


@pytest.mark.parametrize(("make", "draw", "widths"), MATCHES, **names)
@given(pairs(2))
@very_few
def test_text_of_several_steps_keeps_the_law(make, draw, widths, models):
    """The stream's place, its seat and what it learned go on from step to step."""
    p, q = models

    def program(chance):
        drafter = sampled(q, chance, widths=widths[:1], draw=draw, gain=0.2)
        target, stop = ToyTarget(p), Stop(max_tokens=3)
        steps = decode(target, drafter, make(chance), PROMPT, stop=stop)
        return tuple(token for step in steps for token in step.tokens.tolist())

    assert law_of(program) == completed({(): Fraction(1)}, p, 3)


def test_sorting_a_sampled_draft_would_be_seen():
    """The same check catches what a drafter must not do: give chosen tokens proposal rows."""
    p, q = (lambda prefix: row(4, 4, 2)), (lambda prefix: row(6, 3, 1))

    def chosen(chance, q, siblings):
        return int(np.argmax(q)) if not siblings else None

    def program(chance):
        drafter = sampled(q, chance, widths=(1,))
        drafter.draw = chosen
        return verified(chance, rule(ChainRejection), p, drafter.open(PROMPT).propose(Budget(4)))

    assert not is_exact(law_of(program), p)


@given(pairs(3))
@few
def test_chosen_trees_of_two_models_keep_the_law(models):
    p, q = models

    def logs(model):
        return lambda prefix: np.log(np.array(model(prefix), dtype=float) + 1e-9)

    def program(chance):
        small = [ToyDraftModel(logs(q), 3), ToyDraftModel(logs(p), 3)]
        stream = MergedDrafter(
            [ModelDrafter(each, Shape.expansion((2, 1)), gain=0) for each in small]
        ).open(PROMPT)
        return verified(chance, rule(SampleAndMatch), p, stream.propose(Budget(16)))

    assert is_exact(law_of(program), p)
