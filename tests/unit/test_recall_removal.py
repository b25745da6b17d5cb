"""What is removed from Recall leaves no trace, and running requests do not bring it back."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from draftwood.draft import Budget
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallPolicy, RecallStream

CAPACITY = 4096
EAGER = RecallPolicy(share=4)
SECRET = list(range(900, 930))


def left_over(path, *, secret, before, after, namespace):
    """The file after a text was removed, among others that are always the same."""
    others = np.random.default_rng(1)
    said = np.random.default_rng(secret).integers(0, 500, 300)
    with closing(Recall.open(path, max_tokens=CAPACITY, seed=7)) as recall:

        def add_others(count):
            for _ in range(count):
                recall.add(others.integers(0, 500, 100), namespace="tenant")

        add_others(before)
        number = recall.add(said, context=said[::-1], namespace=namespace)
        add_others(after)
        if namespace == "tenant":
            recall.remove(number)
        else:
            recall.remove_namespace(namespace)
        add_others(3)
    return path.read_bytes()


@pytest.mark.parametrize("namespace", ["tenant", "another"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(0, 0), (0, 10), (60, 0), (60, 10), (60, 37), (60, 60)],
    ids=["last", "among others", "last of a full ring", "in a full ring", "in part overwritten",
         "overwritten before"],
)  # fmt: skip
def test_no_byte_of_the_file_tells_what_was_removed(tmp_path, before, after, namespace):
    one, other = (
        left_over(
            tmp_path / f"{secret}.recall",
            secret=secret, before=before, after=after, namespace=namespace,
        )
        for secret in (11, 12)
    )  # fmt: skip
    assert one == other


def test_what_was_learned_about_single_tokens_goes_with_them(tmp_path):
    """Of two streams that say different tokens in the same pattern, the same bytes are left."""
    left = []
    for first in (100, 20_000):
        path = tmp_path / f"{first}.recall"
        with closing(Recall.open(path, max_tokens=CAPACITY, seed=7)) as recall:
            words = [first + 3 * n for n in (0, 1, 2, 0, 1, 2, 0, 1, 2, 0)]
            stream = RecallStream(recall, words[:1], policy=EAGER)
            for word in words:
                # a single candidate: tokens have no order that would tell
                stream.propose(Budget(1, depth=1))
                stream.observe([word])
            stream.close()
            recall.flush()
            assert recall.remove(stream.sequence) > 0
            left.append(path.read_bytes())
    assert left[0] == left[1]


@pytest.mark.parametrize("whole", [False, True], ids=["sequence", "namespace"])
def test_a_running_request_that_is_removed_shares_nothing_more(whole):
    recall = Recall(CAPACITY)
    stream = RecallStream(recall, [1, 2], namespace="a", policy=EAGER)
    stream.observe(SECRET[:10])
    if whole:
        assert recall.remove_namespace("a") > 0
    else:
        assert recall.remove(stream.sequence) > 0
    written = recall.written
    stream.observe(SECRET[10:20])
    stream.close()
    assert recall.written == written  # nor was what it had said before written again, as context
    with closing(RecallStream(recall, SECRET[:9], namespace="a")) as reader:
        assert len(reader.propose(Budget(8))) == 0


def test_a_request_that_had_shared_nothing_yet_stops_with_its_namespace():
    recall = Recall(CAPACITY)
    stream = RecallStream(recall, SECRET, namespace="a")
    recall.remove_namespace("a")
    stream.observe([1, 2, 3])
    stream.close()
    assert (recall.written, stream.sequence) == (0, 0)


def test_other_requests_share_on():
    recall = Recall(CAPACITY)
    with closing(RecallStream(recall, namespace="a", policy=EAGER)) as gone:
        gone.observe(SECRET[:10])
        with closing(RecallStream(recall, namespace="b", policy=EAGER)) as other:
            other.observe([1, 2, 3, 4])
            recall.remove(gone.sequence)
            other.observe([5, 6, 7, 8])
    with closing(RecallStream(recall, [3, 4], namespace="b")) as reader:
        assert reader.propose(Budget(4)).tokens.tolist() == [5, 6, 7, 8]


def test_a_request_that_begins_after_its_namespace_was_removed_shares():
    recall = Recall(CAPACITY)
    recall.remove_namespace("a")
    with closing(RecallStream(recall, namespace="a", policy=EAGER)) as stream:
        stream.observe([1, 2, 3, 4])
    with closing(RecallStream(recall, [1, 2], namespace="a")) as reader:
        assert reader.propose(Budget(4)).tokens.tolist() == [3, 4]


def test_what_stood_before_a_removed_text_is_found_as_before():
    """Chains go on behind the gap: an older place of the same context is still drafted."""
    recall = Recall(CAPACITY)
    recall.add([1, 2, 3, 50])
    numbers = [recall.add([1, 2, 3, 60]) for _ in range(30)]
    recall.add([1, 2, 3, 70])
    for number in numbers:
        recall.remove(number)
    with closing(RecallStream(recall, [1, 2, 3])) as reader:
        assert set(reader.propose(Budget(8, depth=1)).tokens.tolist()) == {50, 70}


def test_a_number_that_is_not_held_removes_nothing():
    recall = Recall(CAPACITY)
    recall.add([1, 2, 3])
    assert recall.remove(0) == recall.remove(99) == 0
