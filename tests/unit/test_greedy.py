import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftwood.draft import ROOT, Draft, as_tokens
from draftwood.errors import UnusableLogits
from draftwood.protocols import NOT_A_NUMBER
from draftwood.sampling.law import Sampling
from draftwood.testing import ToyTarget, drafts, greedy_text, hash_model
from draftwood.verify.greedy import Greedy

PROMPT = [3, 4]
ROW = hash_model(seed=5)
TEXT = greedy_text(ROW, PROMPT, 6)
WRONG = (TEXT[0] + 1) % 12


def verify(draft, verifier=None):
    rows = ToyTarget(ROW).open(as_tokens(PROMPT)).score(draft)
    return (verifier or Greedy()).verify(draft, rows)


def test_the_empty_draft_gives_one_token():
    verdict = verify(Draft.empty())
    assert (verdict.path.tolist(), verdict.next_token) == ([], TEXT[0])


def test_a_right_chain_is_accepted_whole_and_one_token_more():
    verdict = verify(Draft.chain(TEXT[:4]))
    assert (verdict.path.tolist(), verdict.next_token) == ([0, 1, 2, 3], TEXT[4])


def test_a_chain_is_accepted_up_to_its_first_wrong_token():
    verdict = verify(Draft.chain([*TEXT[:2], (TEXT[2] + 1) % 12, TEXT[3]]))
    assert (verdict.path.tolist(), verdict.next_token) == ([0, 1], TEXT[2])


def test_the_right_branch_of_a_tree_is_followed():
    #  context -+- wrong - wrong
    #           +- t0 ---- t1
    draft = Draft.tree([WRONG, TEXT[0], WRONG, TEXT[1]], [ROOT, ROOT, 0, 1])
    verdict = verify(draft)
    assert (verdict.path.tolist(), verdict.next_token) == ([1, 3], TEXT[2])


def test_the_first_of_two_equal_children_is_followed():
    verdict = verify(Draft.tree([TEXT[0], TEXT[0], TEXT[1]], [ROOT, ROOT, 1]))
    assert (verdict.path.tolist(), verdict.next_token) == ([0], TEXT[1])


@given(drafts(12, max_nodes=10), st.integers(0, 100))
@settings(deadline=None)
def test_whatever_is_drafted_the_tokens_are_the_greedy_ones(draft, seed):
    row = hash_model(seed=seed)
    rows = ToyTarget(row).open(as_tokens(PROMPT)).score(draft)
    tokens = Greedy().verify(draft, rows).tokens(draft).tolist()
    assert tokens == greedy_text(row, PROMPT, len(tokens))


def penalized_text(count, sampling):
    prefix = list(PROMPT)
    for _ in range(count):
        prefix.append(int(np.argmax(sampling.scores(ROW(tuple(prefix)), as_tokens(prefix)))))
    return prefix[len(PROMPT) :]


def test_a_penalty_counts_the_accepted_tokens_as_seen():
    sampling = Sampling(temperature=0, repetition_penalty=3.0)
    text = penalized_text(8, sampling)
    assert text != greedy_text(ROW, PROMPT, 8)
    verdict = verify(Draft.chain(text[:7]), Greedy(sampling))
    assert (verdict.path.tolist(), verdict.next_token) == (list(range(7)), text[7])


def nan_after(prefix, row=ROW):
    """The toy model, but NaN after one prefix."""
    return lambda tokens: row(tokens) * np.nan if tokens == tuple(prefix) else row(tokens)


@pytest.mark.parametrize("sampling", [None, Sampling(0, processors=(lambda ids, logits: logits,))])
def test_rows_that_are_no_number_are_an_error_where_they_count_only(sampling):
    draft = Draft.tree([TEXT[0], WRONG], [ROOT, ROOT])

    def verified(prefix):
        rows = ToyTarget(nan_after(prefix)).open(as_tokens(PROMPT)).score(draft)
        return Greedy(sampling).verify(draft, rows)

    assert verified([*PROMPT, WRONG]).next_token == TEXT[1]
    with pytest.raises(UnusableLogits, match="after 3 tokens the model's logits are not finite"):
        verified([*PROMPT, TEXT[0]])


def test_the_most_likely_token_of_a_row_with_nan_is_none():
    torch = pytest.importorskip("torch")
    from draftwood.targets.transformers.rows import most_likely

    rows = torch.tensor([[1.0, 3.0, 3.0], [1.0, torch.nan, 5.0], [torch.nan] * 3])
    for dtype in (torch.float32, torch.bfloat16):
        assert most_likely(rows.to(dtype)).tolist() == [1, NOT_A_NUMBER, NOT_A_NUMBER]


def test_processors_are_asked_with_the_path_of_each_row_that_is_visited():
    asked = []

    def note(ids, logits):
        asked.append(ids.tolist())

    draft = Draft.tree([TEXT[0], WRONG, TEXT[1]], [ROOT, ROOT, 0])
    verdict = verify(draft, Greedy(Sampling(0, processors=(note,))))
    assert asked == [PROMPT, [*PROMPT, TEXT[0]], [*PROMPT, *TEXT[:2]]]
    assert (verdict.path.tolist(), verdict.next_token) == ([0, 2], TEXT[2])
