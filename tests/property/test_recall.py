from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftwood.index import recall_reference as reference
from draftwood.index.recall import Recall, RecallPolicy, RecallStream

WORD = st.integers(0, 5)  # few words: everything repeats
TEXT = st.lists(WORD, max_size=60)
NAME = st.sampled_from(["", "a", "b"])

REQUEST = st.tuples(NAME, TEXT, st.lists(st.lists(WORD, min_size=1, max_size=9), max_size=12))
POLICY = st.builds(
    RecallPolicy,
    mode=st.sampled_from(["tree", "chain"]),
    floor=st.sampled_from([0.0, 0.01, 0.2]),
    share=st.sampled_from([1, 16, 256]),
)


def same(native, slow):
    assert native.tokens.tolist() == [node.trial.token for node in slow]
    assert native.parents.tolist() == [node.parent for node in slow]
    assert native.sources.tolist() == [node.trial.source for node in slow]
    expected = np.array([node.trial.confidence for node in slow], np.float32) / np.float32(65536)
    assert native.confidence.tolist() == expected.tolist()


@settings(max_examples=60)
@given(
    requests=st.lists(REQUEST, max_size=14),
    policy=POLICY,
    nodes=st.integers(0, 40),
    reach=st.integers(0, 20),
)
def test_drafts_are_those_of_the_slow_twin(requests, policy, nodes, reach):
    native, slow = Recall(256), reference.Recall(256)
    for name, prompt, steps in requests:
        mine = RecallStream(native, prompt, namespace=name, policy=policy)
        twin = reference.RecallStream(slow, prompt, namespace=name, policy=policy)
        for tokens in steps:
            same(mine.propose(nodes, reach), twin.propose(nodes, reach))
            mine.observe(tokens)
            twin.observe(tokens)
        mine.close()
        twin.close()
        assert native.written == len(slow.cells)
