"""Drafts from predictions: equal to the slow twin's where answers follow, leave and come back."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from draftwood.draft import Budget
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallPolicy, RecallStream
from draftwood.index.token_texts import token_texts
from draftwood.testing.twins import recall as twins

SEED = 7
WORD = st.integers(0, 40)
PREDICTION = st.lists(WORD, min_size=1, max_size=50)
STRETCH = st.lists(WORD, max_size=10)
NAMES = ["".join(each) for size in (1, 2, 3) for each in product("ab\u2581", repeat=size)]
"""Of the first 39 tokens: the same text in other tokens is everywhere."""
TEXTS = {token: name.replace("\u2581", " ").encode() for token, name in enumerate(NAMES)}


@st.composite
def answers(draw, predictions):
    """What follows a prediction, with deleted, inserted, replaced and renamed stretches."""
    words = list(draw(st.sampled_from(predictions)))
    for old in draw(st.lists(st.sampled_from(words), max_size=2)):
        new = draw(st.lists(WORD, min_size=1, max_size=3))
        words = [each for word in words for each in (new if word == old else [word])]
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(words)))
        gone = draw(st.integers(0, 12))
        words[at : at + gone] = draw(STRETCH)
    return words


@st.composite
def requests(draw):
    """A prompt, predictions, an answer, and how many tokens of it each step brings."""
    prompt = draw(st.lists(WORD, max_size=12))
    predictions = draw(st.lists(PREDICTION, min_size=1, max_size=3))
    answer = draw(answers(predictions))
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=20))
    return draw(st.sampled_from(["", "a"])), prompt, predictions, answer, sizes


def same(native, slow):
    assert native.tokens.tolist() == [node.token for node in slow]
    assert native.parents.tolist() == [node.parent for node in slow]
    assert native.source.tolist() == [node.source for node in slow]
    expected = np.array([node.confidence for node in slow], np.float32) / np.float32(65536)
    assert native.confidence.tolist() == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(
    served=st.lists(requests(), min_size=1, max_size=3),
    mode=st.sampled_from(["tree", "chain"]),
    nodes=st.sampled_from([1, 4, 16, 40]),
    reach=st.sampled_from([1, 5, 40]),
    removed=st.booleans(),
    spelled=st.booleans(),
)
def test_drafts_are_those_of_the_slow_twin(served, mode, nodes, reach, removed, spelled):
    native, slow = Recall(1024, seed=SEED), twins.SlowRecall(1024, SEED)
    policy = RecallPolicy(mode, 0.01, share=8)
    for name, prompt, predictions, answer, sizes in served:
        options = {"namespace": name, "policy": policy, "predictions": predictions}
        texts = token_texts({name: token for token, name in enumerate(NAMES)})
        mine = RecallStream(native, prompt, texts=texts if spelled else None, **options)
        known = TEXTS if spelled else None
        twin = twins.SlowRecallStream(slow, prompt, texts=known, **options)
        at = 0
        for size in sizes:
            same(mine.propose(Budget(nodes, depth=reach)), twin.propose(Budget(nodes, depth=reach)))
            mine.observe(answer[at : at + size])
            twin.observe(answer[at : at + size])
            at += size
        if removed:  # what a removed request learns is not kept
            native.remove_namespace(name)
            slow.remove_namespace(name)
            same(mine.propose(Budget(nodes, depth=reach)), twin.propose(Budget(nodes, depth=reach)))
            mine.observe(answer[:3])
            twin.observe(answer[:3])
        mine.close()
        twin.close()


@settings(max_examples=30, deadline=None)
@given(request=requests(), nodes=st.integers(1, 24))
def test_a_prediction_leaves_nothing_in_shared_history(request, nodes):
    _, prompt, predictions, answer, _ = request
    known, plain = Recall(1024, seed=SEED), Recall(1024, seed=SEED)
    for recall, likely in ((known, predictions), (plain, [])):
        stream = RecallStream(recall, prompt, predictions=likely)
        stream.propose(Budget(nodes))
        stream.observe(answer)
        stream.close()
    assert known.written == plain.written
    drafted = RecallStream(known, answer[:4]).propose(Budget(nodes)).tokens.tolist()
    assert set(drafted) <= set(answer)
