"""What a stream is told, worked out from its draft and from the tokens that came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftwood.draft import Draft, as_tokens
from draftwood.protocols import Feedback
from draftwood.testing import ToyTarget, hash_model
from draftwood.testing.strategies import drafts
from draftwood.verify.greedy import Greedy

# context - a(0) - c(2) - d(3)
#         \ b(1)
DRAFT = Draft.tree([1, 2, 3, 4], [-1, -1, 0, 2])


@pytest.mark.parametrize(
    ("tokens", "path", "after"),
    [
        ([1, 3, 4, 9], [0, 2, 3], 9),
        ([1, 3, 4], [0, 2, 3], None),
        ([1, 3, 9], [0, 2], 9),
        ([2, 3], [1], 3),
        ([9], [], 9),
        ([9, 1], [], 9),
        ([], [], None),
    ],
)
def test_the_verdict_follows_the_tokens_as_far_as_the_draft_does(tokens, path, after):
    told = Feedback.of(DRAFT, as_tokens(tokens))
    assert told.verdict.path.tolist() == path
    assert told.verdict.next_token == after
    assert told.tokens.tolist() == tokens
    assert (told.draft, told.rows, told.verified) == (DRAFT, None, None)


def test_of_equal_siblings_the_first_counts():
    twice = Draft.tree([1, 1, 2, 2], [-1, -1, 0, 1])
    assert Feedback.of(twice, as_tokens([1, 2])).verdict.path.tolist() == [0, 2]


@given(drafts(12), st.integers(0, 99))
def test_it_is_what_the_verifier_said(draft, seed):
    row = hash_model(seed=seed)
    cursor = ToyTarget(row).open(as_tokens([1, 2]))
    verdict = Greedy().verify(draft, cursor.score(draft))
    told = Feedback.of(draft, verdict.tokens(draft))
    assert told.verdict.tokens(draft).tolist() == verdict.tokens(draft).tolist()
    assert len(told.verdict.path) >= len(verdict.path)
