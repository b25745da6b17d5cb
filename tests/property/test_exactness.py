"""Promise 1: lossless verifiers keep the exact law of the target, on every branch.

The law of what is emitted is computed with fractions over all outcomes of chance and compared
with `==` to the target's own. What a verifier emits is continued by plain sampling to a fixed
length, so that laws of equal kind are compared.
"""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.protocols import Verdict
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling, same
from draftwood.testing import (
    DraftFrom,
    ToyTarget,
    drafts,
    hash_model,
    law_of,
    merge_doubles,
    row_tables,
)
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel
from draftwood.verify.match import SampleAndMatch, follow

PROMPT = as_tokens([0])
thorough = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def own_law(row, length, vocab_size):
    """The target's own law of the next `length` tokens."""
    law = {}
    for text in product(range(vocab_size), repeat=length):
        probability = Fraction(1)
        for at, token in enumerate(text):
            probability *= row((*PROMPT.tolist(), *text[:at]))[token]
        if probability:
            law[text] = probability
    return law


def law_of_step(make_verifier, row, draft, length):
    """The law of `length` tokens when the first of them come from one verified draft."""

    def program(chance):
        rows = ToyTarget(row).open(PROMPT).score(draft)
        text = make_verifier(chance).verify(draft, rows).tokens(draft).tolist()
        while len(text) < length:
            text.append(chance.pick(row((*PROMPT.tolist(), *text))))
        return tuple(text)

    return law_of(program)


def matcher(chance):
    return SampleAndMatch(chance, same)


@given(
    st.integers(3, 4).flatmap(
        lambda v: st.tuples(st.just(v), row_tables(v), drafts(v, max_depth=2))
    )
)
@thorough
def test_sample_and_match_emits_the_law_of_the_target(case):
    vocab_size, row, draft = case
    length = draft.height + 1
    assert law_of_step(matcher, row, draft, length) == own_law(row, length, vocab_size)


@given(row_tables(3), drafts(3, max_nodes=6, max_depth=3))
@thorough
def test_sample_and_match_is_exact_three_tokens_deep(row, draft):
    length = draft.height + 1
    assert law_of_step(matcher, row, draft, length) == own_law(row, length, 3)


@given(row_tables(3), st.lists(drafts(3, max_nodes=5, max_depth=2), min_size=1, max_size=3))
@thorough
def test_the_whole_loop_is_exact_whatever_is_drafted(row, shapes):
    drafter = DraftFrom(lambda context, budget: shapes[len(context) % len(shapes)])

    def program(chance):
        steps = decode(ToyTarget(row), drafter, matcher(chance), PROMPT, stop=Stop(max_tokens=3))
        return tuple(token for step in steps for token in step.tokens.tolist())

    assert law_of(program) == own_law(row, 3, 3)


class OneDrawAPosition:
    """What `GumbelNoise` is in law: draws at different positions are independent."""

    def __init__(self, chance):
        self.chance, self.asked = chance, set()

    def pick(self, position, weights):
        assert position not in self.asked, "a position's noise is spent once"
        self.asked.add(position)
        return self.chance.pick(weights)


@given(row_tables(3), st.lists(drafts(3, max_nodes=5, max_depth=2), min_size=1, max_size=3))
@thorough
def test_shared_noise_emits_the_law_of_the_target(row, shapes):
    drafter = DraftFrom(lambda context, budget: shapes[len(context) % len(shapes)])

    def program(chance):
        text = []
        for step in decode(
            ToyTarget(row),
            drafter,
            SharedGumbel(OneDrawAPosition(chance), same),
            PROMPT,
            stop=Stop(max_tokens=3),
        ):
            text += step.tokens.tolist()
        return tuple(text)

    assert law_of(program) == own_law(row, 3, 3)


def seeded_text(row, seed, count):
    """One token after the other, by the definition: argmax of log law + g."""
    noise, text = GumbelNoise(seed), PROMPT.tolist()
    while len(text) < len(PROMPT) + count:
        weights = np.asarray(row(tuple(text)), dtype=np.float64)
        with np.errstate(divide="ignore"):
            text.append(int(np.argmax(np.log(weights) + noise.at(len(text), range(len(weights))))))
    return text[len(PROMPT) :]


@given(row_tables(4), drafts(4, max_nodes=12), st.integers(0, 2**64 - 1))
@settings(deadline=None)
def test_one_seed_makes_one_text_and_the_longest_right_path_is_kept(row, draft, seed):
    rows = ToyTarget(row).open(PROMPT).score(draft)
    verdict = SharedGumbel(GumbelNoise(seed), same).verify(draft, rows)
    text = seeded_text(row, seed, draft.height + 1)
    assert verdict.tokens(draft).tolist() == text[: len(verdict.path) + 1]
    paths = [draft.tokens[draft.path(node)].tolist() for node in range(len(draft))]
    right = [len(path) for path in paths if path == text[: len(path)]]
    if len(merge_doubles(draft)) == len(draft):  # of two equal siblings either may be followed
        assert len(verdict.path) == max(right, default=0)


@given(
    st.integers(0, 99),
    st.lists(drafts(12, max_nodes=8), min_size=1, max_size=4),
    st.floats(0.2, 2),
    st.integers(0, 12),
)
@settings(deadline=None, max_examples=50)
def test_one_seed_makes_one_text_whatever_is_drafted(seed, shapes, temperature, top_k):
    row, law = hash_model(seed=seed % 7), Sampling(temperature=temperature, top_k=top_k)
    expected = seeded_text(lambda prefix: law(row(prefix), as_tokens(prefix)), seed, 12)
    drafter = DraftFrom(lambda context, budget: shapes[len(context) % len(shapes)])
    steps = decode(
        ToyTarget(row),
        drafter,
        SharedGumbel(GumbelNoise(seed), law),
        PROMPT,
        stop=Stop(max_tokens=12),
    )
    assert [token for step in steps for token in step.tokens.tolist()] == expected


def test_noise_by_node_instead_of_position_is_caught():
    """A fault: two nodes at one depth get different noise, so that the draft shapes the text."""
    row = hash_model(4, seed=1)

    class ByNode(SharedGumbel):
        def verify(self, draft, rows):
            def draw(at, accepted):
                place = len(rows.context) + at
                return GumbelNoise(0).pick(place, np.exp(rows.logits(at)))

            return follow(draft, draw)

    def text(kind, draft):
        rows = ToyTarget(row).open(PROMPT).score(draft)
        verdict = kind(GumbelNoise(0), lambda logits, seen: np.exp(logits)).verify(draft, rows)
        return verdict.tokens(draft).tolist()

    plain = seeded_text(lambda prefix: np.exp(row(prefix)), 0, 2)
    wide = Draft.tree([0, 1, 2, 3], [ROOT] * 4)
    assert text(SharedGumbel, wide) == plain
    assert any(
        text(ByNode, Draft.tree(order, [ROOT] * 4)) != plain
        for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2])
    )


@given(row_tables(3), drafts(3, max_nodes=6, max_depth=2))
@thorough
def test_no_accepted_length_is_lost_to_another_rule(row, draft):
    """Sample and match attains sum of P(path), the most that any lossless rule can accept."""
    draft = merge_doubles(draft)
    length_law = law_of(
        lambda chance: len(
            matcher(chance).verify(draft, ToyTarget(row).open(PROMPT).score(draft)).path
        )
    )
    attained = sum(length * probability for length, probability in length_law.items())
    bound = Fraction(0)
    for node in range(len(draft)):
        probability = Fraction(1)
        path = draft.tokens[draft.path(node)].tolist()
        for at, token in enumerate(path):
            probability *= row((*PROMPT.tolist(), *path[:at]))[token]
        bound += probability
    assert attained == bound


def prefers_children(chance):
    """A fault: a draw that is no child is drawn once more, so that drafts look better."""

    class Broken(SampleAndMatch):
        def verify(self, draft, rows):
            def draw(row, accepted):
                token = chance.pick(rows.logits(row))
                below = draft.tokens[draft.children(row - 1)]
                return token if token in below or not len(below) else chance.pick(rows.logits(row))

            return follow(draft, draw)

    return Broken(chance, same)


def accepts_likely_children(chance):
    """A fault: the first child is accepted with its probability, else a token is drawn from p."""

    class Broken(SampleAndMatch):
        def verify(self, draft, rows):
            path, at = [], ROOT
            while True:
                weights = rows.logits(at + 1)
                below = draft.children(at)
                if not len(below) or not chance.accept(weights[draft.tokens[below[0]]]):
                    return Verdict(np.array(path, dtype=np.int32), chance.pick(weights))
                at = int(below[0])
                path.append(at)

    return Broken(chance, same)


def reads_the_wrong_row(chance):
    """A fault: the row of a node's parent is used after the node."""

    class Broken(SampleAndMatch):
        def verify(self, draft, rows):
            def draw(row, accepted):
                return chance.pick(rows.logits(0 if row == 0 else int(draft.parents[row - 1]) + 1))

            return follow(draft, draw)

    return Broken(chance, same)


def forgets_the_bonus_token(chance):
    """A fault: behind a leaf the likeliest token is taken instead of a drawn one."""

    class Broken(SampleAndMatch):
        def verify(self, draft, rows):
            def draw(row, accepted):
                weights = rows.logits(row)
                leaf = not len(draft.children(row - 1))
                return int(np.argmax(weights)) if leaf else chance.pick(weights)

            return follow(draft, draw)

    return Broken(chance, same)


@pytest.mark.parametrize(
    "broken",
    [prefers_children, accepts_likely_children, reads_the_wrong_row, forgets_the_bonus_token],
)
def test_a_broken_verifier_is_caught(broken):
    half, third = Fraction(1, 2), Fraction(1, 3)

    def row(prefix):
        uneven = [Fraction(1, 6), third, half]
        return np.array(uneven if prefix[-1] == 0 else [half, half, Fraction(0)], dtype=object)

    draft = Draft.tree([2, 1, 0], [ROOT, ROOT, 0])
    assert law_of_step(matcher, row, draft, 3) == own_law(row, 3, 3)
    assert law_of_step(broken, row, draft, 3) != own_law(row, 3, 3)


@given(drafts(12, max_nodes=12), st.integers(0, 50))
@settings(deadline=None)
def test_greedy_is_sample_and_match_at_temperature_zero(draft, seed):
    rows = ToyTarget(hash_model(seed=seed)).open(PROMPT).score(draft)
    greedy = Greedy().verify(draft, rows)
    cold = SampleAndMatch(SeededChance(0), Sampling(temperature=0)).verify(draft, rows)
    assert greedy.tokens(draft).tolist() == cold.tokens(draft).tolist()


@given(st.lists(st.fractions(0, 1), min_size=1, max_size=4).filter(any), st.fractions(0, 1))
@example([Fraction(1), Fraction(0)], Fraction(0))
def test_the_enumerated_law_of_a_program_is_the_law_of_its_chance(weights, probability):
    law = law_of(lambda chance: (chance.accept(probability), chance.pick(weights)))
    total = sum(weights)
    assert sum(law.values()) == 1
    for (accepted, index), found in law.items():
        assert found == (probability if accepted else 1 - probability) * weights[index] / total


def test_a_budget_never_changes_what_is_emitted():
    row = hash_model(seed=3)
    texts = {
        tuple(
            token
            for step in decode(
                ToyTarget(row),
                DraftFrom(lambda context, budget: Draft.chain([1, 2, 3, 4][: budget.reach])),
                Greedy(),
                [1, 2],
                budget=Budget(nodes),
                stop=Stop(max_tokens=20),
            )
            for token in step.tokens.tolist()
        )
        for nodes in (0, 1, 3, 8)
    }
    assert len(texts) == 1
