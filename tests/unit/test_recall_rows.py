"""What the target found likely, as evidence in Recall."""

from contextlib import closing

import numpy as np
import pytest

from draftwood import _native
from draftwood.draft import Budget, Draft
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import InvalidOption
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.protocols import Feedback, Top, Verdict
from draftwood.sources import TARGET_ROWS

PROMPT = [1, 2, 3]


def top_of(*rows):
    """Rows of tokens and their probabilities."""
    tokens = [[token for token, _ in row] for row in rows]
    shares = [[share for _, share in row] for row in rows]
    return Top(np.array(tokens, np.int32), np.log(np.array(shares, np.float32)))


def tell(recall, *, namespace=""):
    """A request that was drafted 7 after 3; the target wanted 5, and after a 7 a 9."""
    with closing(RecallStream(recall, PROMPT, namespace=namespace)) as stream:
        stream.keep_rows(Draft.tree([7], [-1]), top_of([(5, 0.9), (7, 0.05)], [(9, 0.8), (4, 0.1)]))
        stream.observe([5])


def drafted(recall, prompt, *, namespace=""):
    with closing(RecallStream(recall, prompt, namespace=namespace)) as stream:
        return stream.propose(Budget(8))


def test_what_was_said_after_rejected_tokens_is_drafted():
    recall = Recall(1024)
    tell(recall)
    draft = drafted(recall, [8, 3, 7])
    assert draft.tokens.tolist()[0] == 9
    assert set(draft.source.tolist()) == {TARGET_ROWS}


def test_two_tokens_say_more_than_the_last_alone():
    recall = Recall(1024)
    with closing(RecallStream(recall, PROMPT)) as stream:
        rows = top_of([(5, 0.9), (6, 0.1)], [(9, 0.8), (4, 0.2)], [(4, 0.8), (9, 0.2)])
        stream.keep_rows(Draft.tree([7, 8, 7][:2], [-1, -1]), rows)
        stream.keep_rows(Draft.tree([6, 7], [-1, 0]), top_of(*[[(5, 0.9), (6, 0.1)]] * 3))
    assert drafted(recall, [3, 7]).tokens[0] == 9
    assert drafted(recall, [6, 7]).tokens[0] == 5


def test_no_other_namespace_hears_it():
    recall = Recall(1024)
    tell(recall, namespace="a")
    assert len(drafted(recall, [3, 7], namespace="a"))
    assert not len(drafted(recall, [3, 7]))
    assert not len(drafted(recall, [3, 7], namespace="b"))


def test_removal_forgets_it():
    recall = Recall(1024)
    tell(recall, namespace="a")
    recall.remove_namespace("a")
    assert not len(drafted(recall, [3, 7], namespace="a"))


def test_a_removed_sequence_takes_along_what_was_said_in_its_namespace():
    recall = Recall(1024)
    tell(recall)
    assert recall.remove(1)
    assert not len(drafted(recall, [3, 7]))


def test_the_memory_is_counted_and_bounded():
    recall = Recall(1024)
    before = recall.nbytes
    tell(recall)
    assert before < recall.nbytes <= before + 2**23
    held = recall.nbytes
    tell(recall)
    assert recall.nbytes == held


@pytest.mark.parametrize(("columns", "rows"), [(2, 3), (3, 2)])
def test_rows_that_are_not_the_drafts_are_refused(columns, rows):
    stream = RecallStream(Recall(1024), PROMPT)
    top = Top(np.zeros((2, 2), np.int32), np.zeros((rows, columns), np.float32))
    with pytest.raises((InvalidOption, ValueError)):
        stream.keep_rows(Draft.tree([7], [-1]), top)


@pytest.mark.parametrize("size", [1, 7, 64, 129, 1000])
def test_the_best_of_a_row_are_found_as_by_sorting(size):
    rng = np.random.default_rng(size)
    logits = rng.integers(-40, 40, (5, size)).astype(np.float32) / 4  # with equals
    k = min(8, size)
    tokens, logprobs = np.empty((5, k), np.int32), np.empty((5, k), np.float32)
    _native.likeliest(logits, tokens, logprobs)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    assert tokens.tolist() == order.tolist()
    total = np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
    expected = np.take_along_axis(logits, order, 1) - total
    assert np.allclose(logprobs, expected, atol=1e-5)


def test_a_row_that_is_no_number_says_nothing_and_spoils_no_other():
    logits = np.zeros((2, 500), np.float32)
    logits[:, 3] = 9
    logits[1, 200] = np.nan
    tokens, logprobs = np.empty((2, 4), np.int32), np.empty((2, 4), np.float32)
    _native.likeliest(logits, tokens, logprobs)
    assert tokens[0, 0] == 3
    assert np.isfinite(logprobs[0]).all()
    assert np.isnan(logprobs[1]).all()
    recall = Recall(1024)
    with closing(RecallStream(recall, PROMPT)) as stream:
        stream.keep_rows(Draft.tree([7], [-1]), Top(tokens, logprobs))
        assert stream.propose(Budget(1)).tokens.tolist() == [3]
        assert not len(drafted(recall, [3, 7]))


class SaidRows:
    """A target's rows that name token 9 with certainty."""

    def __init__(self, count):
        self.count = count

    def top(self, k):
        return top_of(*[[(9, 0.99), (4, 0.01)]] * self.count)


@pytest.mark.parametrize("batch", [False, True])
def test_a_drafter_hears_what_its_feedback_tells_unless_it_is_told_not_to(batch):
    for recycle in (True, False):
        drafter = RecallDrafter(max_tokens=1024, recycle=recycle)
        with closing(drafter.open(np.array(PROMPT, np.int32))) as stream:
            draft = Draft.tree([7], [-1])
            tokens = np.array([5], np.int32)
            told = Feedback(draft, Verdict(np.empty(0, np.int32), 5), tokens, SaidRows(2))
            if batch:
                drafter.observe_all([stream], [told])
            else:
                stream.observe(told)
        assert (9 in drafted(drafter.recall, [3, 7]).tokens) is recycle
        drafter.close()
