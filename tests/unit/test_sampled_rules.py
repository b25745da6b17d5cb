"""Wrong use of the rules for sampled drafts: one clear error each, before anything is emitted."""

import numpy as np
import pytest

from draftwood.draft import ROOT, Draft, as_tokens
from draftwood.errors import InvalidDraft, InvalidOption
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling, same
from draftwood.testing import ToyTarget, hash_model, sampled_draft
from draftwood.verify.block import BlockVerification
from draftwood.verify.drawing import distinct, hub_pair, independent
from draftwood.verify.multiround import MultiRound
from draftwood.verify.rejection import ChainRejection, RecursiveRejection
from draftwood.verify.transport import KSeq, SpecHub
from draftwood.verify.traversal import TraversalVerification

PROMPT = as_tokens([0])
Q = np.array([0.5, 0.3, 0.2, 0.0])
CHAIN_RULES = [ChainRejection, BlockVerification]
TREE_RULES = [MultiRound, RecursiveRejection, KSeq, SpecHub, TraversalVerification]


def verify(rule, draft, vocab_size=4, **options):
    rows = ToyTarget(lambda prefix: [1.0] * vocab_size).open(PROMPT).score(draft)
    return rule(SeededChance(0), same, **options).verify(draft, rows)


def siblings(*tokens, rows=None):
    return Draft.tree(tokens, [ROOT] * len(tokens), proposal=np.array(rows or [Q] * len(tokens)))


@pytest.mark.parametrize("rule", CHAIN_RULES + TREE_RULES)
def test_chosen_tokens_are_refused(rule):
    with pytest.raises(InvalidDraft, match=r"2 tokens .* chosen, not sampled.* SampleAndMatch"):
        verify(rule, Draft.chain([0, 1]))


@pytest.mark.parametrize("rule", CHAIN_RULES)
def test_a_chain_rule_refuses_a_tree(rule):
    with pytest.raises(InvalidDraft, match="node 1 of this draft opens a branch"):
        verify(rule, siblings(0, 1))


@pytest.mark.parametrize("rule", CHAIN_RULES + TREE_RULES)
def test_a_token_that_its_row_cannot_give_is_refused(rule):
    draft = siblings(3) if rule in CHAIN_RULES else siblings(3, 0)
    with pytest.raises(InvalidDraft, match=r"node 0 holds token 3, which .* probability 0"):
        verify(rule, draft)


@pytest.mark.parametrize("rule", CHAIN_RULES + TREE_RULES)
def test_a_dead_proposal_row_is_refused(rule):
    draft = siblings(0, rows=[0 * Q])
    with pytest.raises(InvalidDraft, match="probability 0"):
        verify(rule, draft)


@pytest.mark.parametrize("rule", CHAIN_RULES + TREE_RULES)
def test_a_drafter_of_another_vocabulary_is_refused(rule):
    draft = siblings(0) if rule in CHAIN_RULES else siblings(1, 0)
    with pytest.raises(InvalidDraft, match=r"4 entries and the target's have 7; pair a drafter"):
        verify(rule, draft, vocab_size=7)


@pytest.mark.parametrize("rule", [RecursiveRejection, TraversalVerification])
def test_equal_siblings_are_no_draws_without_replacement(rule):
    with pytest.raises(InvalidDraft, match=r"token 1 stands twice among siblings \[0, 1\]"):
        verify(rule, siblings(1, 1))


def test_equal_siblings_are_fine_where_they_may_repeat():
    for rule, options in [
        (MultiRound, {}),
        (KSeq, {}),
        (TraversalVerification, {"replacement": 1}),
    ]:
        verdict = verify(rule, siblings(1, 1), **options)
        assert verdict.next_token in range(4)


def test_k_seq_wants_one_law_for_all_siblings():
    with pytest.raises(InvalidDraft, match="siblings 0 and 1 have different proposal rows"):
        verify(KSeq, siblings(0, 1, rows=[Q, Q[::-1]]))


@pytest.mark.parametrize("tokens", [(1, 2), (0,), (0, 1, 2), (0, 0)])
def test_spec_hub_wants_the_hub_and_one_other(tokens):
    with pytest.raises(InvalidDraft, match=r"exactly one of them the drafter's likeliest, 0"):
        verify(SpecHub, siblings(*tokens))


def test_a_drafter_that_knows_only_one_token_drafts_a_lone_hub():
    q = [0.0, 2.0, 0.0, 0.0]
    draft = sampled_draft(SeededChance(0), lambda prefix: q, PROMPT, [ROOT, ROOT], hub_pair)
    assert draft.tokens.tolist() == [1]
    assert verify(SpecHub, draft).next_token in range(4)


def test_k_seq_refuses_fewer_than_no_halvings():
    with pytest.raises(InvalidOption, match="halvings is -1"):
        KSeq(SeededChance(0), same, halvings=-1)


@pytest.mark.parametrize(
    ("rule", "draw", "parents"),
    [
        (ChainRejection, independent, [ROOT, 0, 1, 2]),
        (BlockVerification, independent, [ROOT, 0, 1, 2]),
        (MultiRound, independent, [ROOT, ROOT, 0, 1, 3]),
        (KSeq, independent, [ROOT, ROOT, 0, 1, 3]),
        (RecursiveRejection, distinct, [ROOT, ROOT, 0, 0, 3]),
        (TraversalVerification, distinct, [ROOT, ROOT, 0, 0, 3]),
        (SpecHub, hub_pair, [ROOT, ROOT, 0, 0]),
    ],
)
def test_each_rule_works_on_logits_with_a_sampling_law(rule, draw, parents):
    """The law may depend on tokens seen: a path's own tokens are among them."""
    law = Sampling(temperature=0.8, top_k=5, repetition_penalty=1.3)
    logits, large = hash_model(seed=1), hash_model(seed=2)

    def small(prefix):
        return Sampling(temperature=0.5)(logits(prefix), as_tokens(prefix))

    chance = SeededChance(1)
    depths = set()
    for prompt in range(12):
        context = as_tokens([prompt])
        draft = sampled_draft(chance, small, context, parents, draw)
        rows = ToyTarget(large).open(context).score(draft)
        verdict = rule(chance, law).verify(draft, rows)
        path = verdict.path.tolist()
        assert draft.parents[path].tolist() == [ROOT, *path][: len(path)]
        for at, token in zip([ROOT, *path], verdict.tokens(draft).tolist(), strict=True):
            before = np.concatenate((context, draft.tokens[draft.path(at)]))
            assert law(rows.logits(at + 1), before)[token] > 0
        depths.add(len(path))
    assert len(depths) > 1


def test_a_long_chain_is_traversed_without_recursion():
    length = 1200  # beyond Python's limit of recursion
    draft = Draft.chain([0] * length, proposal=np.ones((length, 2)))
    verdict = verify(TraversalVerification, draft, vocab_size=2)
    assert len(verdict.path) == length
