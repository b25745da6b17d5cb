"""The check behind `lossless` for rules that verify sampled drafts.

The drafter's draws are enumerated with the rule's own, since such a rule is exact over both.
"""

from fractions import Fraction

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from draftwood.draft import as_tokens
from draftwood.testing import ToyTarget, law_of, row_tables, sampled_draft

PROMPT = as_tokens([0])
few = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
very_few = settings(few, max_examples=4)


def emitted(make, p, q, parents, draw):
    """The law of the tokens of one step: drafted from q in this shape, verified against p."""

    def program(chance):
        return verified(chance, make, p, sampled_draft(chance, q, PROMPT, parents, draw))

    return law_of(program)


def verified(chance, make, p, draft):
    """The tokens of one step."""
    rows = ToyTarget(p).open(PROMPT).score(draft)
    return tuple(make(chance).verify(draft, rows).tokens(draft).tolist())


def completed(law, p, length):
    """The law of `length` tokens where a step's tokens are completed by plain sampling from p."""
    whole = {}
    open_ends = list(law.items())
    while open_ends:
        text, probability = open_ends.pop()
        if len(text) == length:
            whole[text] = whole.get(text, 0) + probability
            continue
        for token, weight in enumerate(p((*PROMPT.tolist(), *text))):
            if weight:
                open_ends.append(((*text, token), probability * weight))
    return whole


def is_exact(law, p):
    """Whether a step's tokens, completed to the longest of them, have the target's own law."""
    length = max(map(len, law))
    return completed(law, p, length) == completed({(): Fraction(1)}, p, length)


def accepted(law):
    """The expected number of accepted tokens."""
    return sum((len(text) - 1) * probability for text, probability in law.items())


def row(*counts):
    """Exact probabilities in proportion to some counts."""
    return np.array([Fraction(n, sum(counts)) for n in counts], dtype=object)


def by_last_token(*rows):
    """A model that looks at the last token only."""
    return lambda prefix: rows[prefix[-1] % len(rows)]


def pairs(vocab_size, rows=5):
    """Strategy: a target and a drafter."""
    return st.tuples(row_tables(vocab_size, max_rows=rows), row_tables(vocab_size, max_rows=rows))


def shapes(nodes, depth):
    """Strategy: parents of up to so many nodes, up to so deep."""

    @st.composite
    def draw_shape(draw):
        depths, parents = {-1: 0}, []
        for node in range(draw(st.integers(0, nodes))):
            parent = draw(st.sampled_from([n for n, d in depths.items() if d < depth]))
            depths[node] = depths[parent] + 1
            parents.append(parent)
        return parents

    return draw_shape()
