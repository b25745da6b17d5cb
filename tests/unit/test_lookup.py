import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.lookup import PromptLookup
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback, Verdict

AMPLE = Budget(64)


def drafted(prompt, *, budget=AMPLE, **options):
    return PromptLookup(**options).open(as_tokens(prompt)).propose(budget).tokens.tolist()


def observed(stream, tokens):
    """Tell the stream that `tokens` were committed without any draft."""
    draft = Draft.empty()
    for token in tokens:
        verdict = Verdict(np.empty(0, dtype=np.int32), token)
        stream.observe(Feedback(draft, verdict, verdict.tokens(draft)))


def slow_lookup(context, max_ngram, min_ngram, nodes, match):
    """What the docstring says, word for word."""
    for size in range(max_ngram, min_ngram - 1, -1):
        places = [
            end
            for end in range(size, len(context))
            if context[end - size : end] == context[len(context) - size :]
        ]
        if places:
            at = places[0] if match == "earliest" else places[-1]
            return context[at : at + nodes]
    return []


def test_the_continuation_of_the_longest_ngram_is_copied():
    # "1 2 3" stood before and was followed by 4 5; "3" alone was followed by 9 first
    assert drafted([3, 9, 1, 2, 3, 4, 5, 1, 2, 3]) == [4, 5, 1, 2, 3]


def test_shorter_ngrams_are_tried_down_to_the_shortest():
    assert drafted([7, 8, 1, 7]) == [8, 1, 7]
    assert drafted([7, 8, 1, 7], min_ngram=2) == []


def test_the_earliest_or_the_latest_place_is_copied():
    context = [1, 5, 1, 6, 1]
    assert drafted(context, nodes=1) == [5]
    assert drafted(context, nodes=1, match="latest") == [6]


def test_nothing_is_proposed_where_nothing_matches():
    assert drafted([1, 2, 3]) == []
    assert drafted([1]) == []


def test_the_context_does_not_match_itself_at_its_end():
    assert drafted([1, 2]) == []
    assert drafted([4, 4]) == [4]


def test_the_budget_and_the_drafters_own_limit_both_hold():
    context = [*range(20), 0]
    assert len(drafted(context)) == 10
    assert len(drafted(context, nodes=4)) == 4
    assert len(drafted(context, budget=Budget(3))) == 3
    assert drafted(context, budget=Budget(8, depth=2)) == [1, 2]
    assert drafted(context, budget=Budget(0)) == []


def test_drafts_are_chains_that_trust_longer_matches_more():
    long = PromptLookup().open(as_tokens([1, 2, 3, 4, 1, 2, 3])).propose(Budget())
    short = PromptLookup().open(as_tokens([3, 4, 3])).propose(Budget())
    assert long.is_chain
    assert short.is_chain
    assert 0 < short.confidence[0] < long.confidence[0] < 1


def test_a_draft_stays_as_it_is_when_the_stream_moves():
    stream = PromptLookup().open(as_tokens([1, 2, 1]))
    draft = stream.propose(Budget())
    observed(stream, [9, 9, 9])
    assert draft.tokens.tolist() == [2, 1]


def test_nothing_is_shared_between_requests():
    drafter = PromptLookup()
    stream = drafter.open(as_tokens([1, 2, 3]))
    observed(stream, [4, 5])
    stream.close()
    assert len(drafter.open(as_tokens([1, 2, 3])).propose(Budget())) == 0


@given(
    prompt=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    generated=st.lists(st.integers(0, 3), max_size=20),
    sizes=st.sampled_from([(1, 1), (3, 1), (3, 2), (5, 1)]),
    nodes=st.integers(1, 12),
    match=st.sampled_from(["earliest", "latest"]),
)
def test_every_draft_is_what_a_search_through_the_context_finds(
    prompt, generated, sizes, nodes, match
):
    max_ngram, min_ngram = sizes
    drafter = PromptLookup(max_ngram=max_ngram, min_ngram=min_ngram, nodes=nodes, match=match)
    stream = drafter.open(as_tokens(prompt))
    context = list(prompt)
    for token in [None, *generated]:
        if token is not None:
            observed(stream, [token])
            context.append(token)
        expected = slow_lookup(context, max_ngram, min_ngram, nodes, match)
        assert stream.propose(Budget(64)).tokens.tolist() == expected


@pytest.mark.parametrize(
    "options",
    [{"max_ngram": 0}, {"min_ngram": 0}, {"max_ngram": 2, "min_ngram": 3}, {"match": "newest"}],
)
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(InvalidOption):
        PromptLookup(**options)
