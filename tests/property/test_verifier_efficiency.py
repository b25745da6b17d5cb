"""Promise 2 for sampled drafts: exactness does not notice a rule that accepts too little."""

import sys
from fractions import Fraction
from pathlib import Path

import pytest
from exact import accepted, by_last_token, emitted, few, is_exact, pairs, row
from hypothesis import given
from hypothesis import strategies as st

from draftwood.draft import ROOT
from draftwood.sampling.law import same
from draftwood.verify.block import BlockVerification
from draftwood.verify.drawing import distinct, independent
from draftwood.verify.rejection import ChainRejection, RecursiveRejection
from draftwood.verify.transport import KSeq
from draftwood.verify.traversal import TraversalVerification

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.verifiers.acceptance import RULES, table


def law(rule, p, q, parents, draw=independent, **options):
    return emitted(lambda chance: rule(chance, same, **options), p, q, parents, draw)


@given(pairs(3), st.integers(0, 3))
@few
def test_block_verification_accepts_no_less_than_chain_rejection(models, length):
    """Sun et al. 2025 (arXiv 2403.10444): no lossless rule accepts more of one sampled chain."""
    p, q = models
    chain = range(ROOT, length - 1)
    whole = accepted(law(BlockVerification, p, q, chain))
    assert whole >= accepted(law(ChainRejection, p, q, chain))


@given(pairs(3), st.integers(0, 3))
@few
def test_traversal_of_a_chain_is_block_verification(models, length):
    """Weng et al. 2025 (arXiv 2505.12398): traversal has the optimum of single chains."""
    p, q = models
    chain = range(ROOT, length - 1)
    assert law(TraversalVerification, p, q, chain) == law(BlockVerification, p, q, chain)


@given(pairs(3), st.integers(1, 3))
@few
def test_traversal_of_one_level_accepts_as_recursive_rejection(models, count):
    p, q = models
    level = [ROOT] * count
    whole = law(TraversalVerification, p, q, level, distinct)
    assert whole == law(RecursiveRejection, p, q, level, distinct)


def test_the_example_of_the_block_verification_paper():
    """Two context-free models, two words, two tokens: 10/9 accepted one by one, 11/9 as a block."""
    p, q = by_last_token(row(1, 2)), by_last_token(row(2, 1))
    assert accepted(law(ChainRejection, p, q, [ROOT, 0])) == Fraction(10, 9)
    assert accepted(law(BlockVerification, p, q, [ROOT, 0])) == Fraction(11, 9)
    assert accepted(law(TraversalVerification, p, q, [ROOT, 0])) == Fraction(11, 9)


def test_rejection_accepts_the_overlap_of_p_and_q():
    """Leviathan et al. 2023 (arXiv 2211.17192), theorem 3.5: one token stays with sum min(p, q)."""
    p, q = by_last_token(row(1, 5, 4)), by_last_token(row(6, 1, 3))
    assert accepted(law(ChainRejection, p, q, [ROOT])) == Fraction(1 + 1 + 3, 10)


@pytest.mark.parametrize("halvings", [0, 1, 2, 4])
def test_a_finer_rho_accepts_no_less(halvings):
    p, q = by_last_token(row(1, 5, 4)), by_last_token(row(6, 1, 3))
    coarse = law(KSeq, p, q, [ROOT, ROOT], halvings=halvings)
    fine = law(KSeq, p, q, [ROOT, ROOT], halvings=halvings + 2)
    assert is_exact(coarse, p)
    assert accepted(coarse) <= accepted(fine)


def test_on_the_inputs_of_the_table_rules_rank_as_the_papers_say():
    wanted = (
        "chain rejection", "block verification", "recursive rejection", "traversal",
        "sample and match",
    )  # fmt: skip
    rows = table(1, [rule for rule in RULES if rule.name in wanted], [Fraction(3, 10)])
    figures = {(row["shape"], row["rule"]): row["accepted"]["0.3"] for row in rows}
    shapes = {shape for shape, _ in figures}
    assert len(shapes) == 3
    for shape in shapes:
        assert figures[shape, "traversal"] > figures[shape, "recursive rejection"]
        assert figures[shape, "recursive rejection"] > figures[shape, "sample and match"]
    assert figures["chain of 3", "block verification"] > figures["chain of 3", "chain rejection"]
    assert figures["chain of 3", "block verification"] == figures["chain of 3", "traversal"]
