from __future__ import annotations

from contextlib import closing

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from draftwood.draft import Budget
from draftwood.index.recall import Recall, namespace_key
from draftwood.index.recall_stream import RecallPolicy, RecallStream, observe_all, propose_all
from draftwood.protocols import Top
from draftwood.testing.twins import recall as reference

WORD = st.integers(0, 5)  # few words: everything repeats
TEXT = st.lists(WORD, max_size=60)
SEED = 20_111
NAME = st.sampled_from(["", "a", "b"])

PREDICTIONS = st.lists(TEXT, max_size=2)
REQUEST = st.tuples(
    NAME, TEXT, PREDICTIONS, st.lists(st.lists(WORD, min_size=1, max_size=9), max_size=12)
)
POLICY = st.builds(
    RecallPolicy,
    mode=st.sampled_from(["tree", "chain"]),
    floor=st.sampled_from([0.0, 0.01, 0.2]),
    share=st.sampled_from([1, 16, 256]),
)


def same(native, slow):
    assert native.tokens.tolist() == [node.token for node in slow]
    assert native.parents.tolist() == [node.parent for node in slow]
    assert native.source.tolist() == [node.source for node in slow]
    expected = np.array([node.confidence for node in slow], np.float32) / np.float32(65536)
    assert native.confidence.tolist() == expected.tolist()


@settings(max_examples=60)
@given(
    requests=st.lists(REQUEST, max_size=14),
    policy=POLICY,
    nodes=st.integers(0, 40),
    reach=st.integers(0, 20),
    floor=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_drafts_are_those_of_the_slow_twin(requests, policy, nodes, reach, floor):
    native, slow = Recall(256, seed=SEED), reference.SlowRecall(256, SEED)
    budget = Budget(nodes, depth=reach, floor=floor)
    for name, prompt, likely, steps in requests:
        options = {"namespace": name, "policy": policy, "predictions": likely}
        mine = RecallStream(native, prompt, **options)
        twin = reference.SlowRecallStream(slow, prompt, **options)
        for tokens in steps:
            same(mine.propose(budget), twin.propose(budget))
            mine.observe(tokens)
            twin.observe(tokens)
        mine.close()
        twin.close()
        assert native.written == len(slow.cells)


def said(draft, rng):
    """What a target may say after the context and each node of a draft."""
    tokens = np.array([rng.permutation(9)[:8] for _ in range(len(draft) + 1)], np.int32)
    shares = np.sort(rng.dirichlet([0.2] * 8, len(tokens)), axis=1)[:, ::-1]
    with np.errstate(divide="ignore"):
        return Top(tokens, np.ascontiguousarray(np.log(shares), dtype=np.float32))


@settings(max_examples=60)
@given(
    requests=st.lists(REQUEST, min_size=1, max_size=8),
    policy=POLICY,
    gone=st.integers(0, 20),
    name=st.sampled_from(["a", "b", "c"]),
    seed=st.integers(0, 99),
)
def test_what_the_target_said_counts_as_in_the_slow_twin(requests, policy, gone, name, seed):
    native, slow = Recall(256, seed=SEED), reference.SlowRecall(256, SEED)
    rng = np.random.default_rng(seed)
    for at, (namespace, prompt, likely, steps) in enumerate(requests):
        options = {"namespace": namespace, "policy": policy, "predictions": likely}
        mine = RecallStream(native, prompt, **options)
        twin = reference.SlowRecallStream(slow, prompt, **options)
        for tokens in steps:
            draft = mine.propose(Budget(24))
            same(draft, twin.propose(Budget(24)))
            if rng.random() < 0.8:
                top = said(draft, rng)
                mine.keep_rows(draft, top)
                rows = draft.tokens.tolist(), draft.parents.tolist()
                twin.keep_rows(*rows, top.tokens.tolist(), top.logprobs.tolist())
            mine.observe(tokens)
            twin.observe(tokens)
        mine.close()
        twin.close()
        if at == gone:
            assert native.remove(1) == slow.remove(1)
            assert native.remove_namespace(name) == slow.remove_namespace(name)


@settings(max_examples=40)
@given(
    texts=st.lists(st.tuples(NAME, TEXT, st.integers(0, 300)), min_size=1, max_size=20),
    quota=st.sampled_from([256, 300, 320, 512, 2000]),
    context=TEXT,
)
def test_a_quota_leaves_out_what_the_slow_twin_leaves_out(texts, quota, context):
    native, slow = Recall(1024, seed=SEED, quota=quota), reference.SlowRecall(1024, SEED, quota)
    for namespace, before, length in texts:
        text = [i * i % 7 for i in range(length)]
        native.add(text, context=before, namespace=namespace)
        slow.add(text, context=before, namespace=namespace)
        assert native.written == len(slow.cells)
        for each in ("", "a", "b"):
            assert native.held(each) == slow.held(namespace_key(each)) <= quota
    for namespace in ("", "a", "b"):
        with closing(RecallStream(native, context, namespace=namespace)) as mine:
            same(
                mine.propose(Budget(32)),
                reference.SlowRecallStream(slow, context, namespace=namespace).propose(Budget(32)),
            )


@settings(max_examples=40)
@given(
    requests=st.lists(st.tuples(NAME, TEXT, TEXT), min_size=1, max_size=12),
    gone=st.integers(1, 12),
    name=NAME,
    context=TEXT,
)
def test_what_is_removed_is_never_drafted_again(requests, gone, name, context):
    native, slow = Recall(256, seed=SEED), reference.SlowRecall(256, SEED)
    for namespace, prompt, output in requests:
        number = native.add(output, context=prompt, namespace=namespace)
        assert number == slow.add(output, context=prompt, namespace=namespace)
    assert native.remove(gone) == slow.remove(gone)
    assert native.remove_namespace(name) == slow.remove_namespace(name)
    for namespace in ("", "a", "b"):
        with closing(RecallStream(native, context, namespace=namespace)) as mine:
            twin = reference.SlowRecallStream(slow, context, namespace=namespace)
            same(mine.propose(Budget(32)), twin.propose(Budget(32)))
            if namespace == name:
                assert set(mine.propose(Budget(32)).source.tolist()) <= {0}


@settings(max_examples=40)
@given(
    before=st.lists(st.tuples(NAME, TEXT, TEXT), max_size=6),
    after=st.lists(st.tuples(NAME, TEXT, TEXT), max_size=6),
    prompt=TEXT,
    steps=st.lists(st.lists(WORD, min_size=1, max_size=9), min_size=2, max_size=8),
    name=NAME,
    whole=st.booleans(),
)
def test_a_removed_request_goes_on_by_itself_as_its_twin_does(
    before, after, prompt, steps, name, whole
):
    native, slow = Recall(256, seed=SEED), reference.SlowRecall(256, SEED)
    for namespace, context, output in before:
        native.add(output, context=context, namespace=namespace)
        slow.add(output, context=context, namespace=namespace)
    policy = RecallPolicy(share=4)
    mine = RecallStream(native, prompt, namespace=name, policy=policy)
    twin = reference.SlowRecallStream(slow, prompt, namespace=name, policy=policy)
    for at, tokens in enumerate(steps):
        same(mine.propose(Budget(16)), twin.propose(Budget(16)))
        mine.observe(tokens)
        twin.observe(tokens)
        if at == len(steps) // 2:
            assert mine.sequence == twin.sequence
            if whole:
                assert native.remove_namespace(name) == slow.remove_namespace(name)
            elif mine.sequence:
                assert native.remove(mine.sequence) == slow.remove(twin.sequence)
    mine.close()
    twin.close()
    for namespace, context, output in after:
        native.add(output, context=context, namespace=namespace)
        slow.add(output, context=context, namespace=namespace)
    assert native.written == len(slow.cells)
    with closing(RecallStream(native, prompt, namespace=name)) as mine:
        twin = reference.SlowRecallStream(slow, prompt, namespace=name)
        same(mine.propose(Budget(32)), twin.propose(Budget(32)))


@settings(max_examples=40)
@given(requests=st.lists(st.tuples(NAME, TEXT, TEXT), max_size=12), name=NAME, context=TEXT)
def test_no_namespace_drafts_what_only_another_said(requests, name, context):
    mixed, alone = Recall(4096, seed=SEED), Recall(4096, seed=SEED)
    for namespace, prompt, output in requests:
        mixed.add(output, context=prompt, namespace=namespace)
        if namespace == name:
            alone.add(output, context=prompt, namespace=namespace)
    with (
        closing(RecallStream(mixed, context, namespace=name)) as one,
        closing(RecallStream(alone, context, namespace=name)) as other,
    ):
        assert one.propose(Budget(32)).tokens.tolist() == other.propose(Budget(32)).tokens.tolist()


@given(
    steps=st.lists(st.lists(st.lists(WORD, max_size=5), min_size=3, max_size=3), max_size=12),
    prompts=st.lists(TEXT, min_size=3, max_size=3),
    budgets=st.lists(
        st.builds(Budget, st.integers(0, 12), st.integers(0, 6), st.sampled_from([0.0, 0.1])),
        min_size=3,
        max_size=3,
    ),
    threads=st.integers(1, 4),
)
@settings(max_examples=30)
def test_a_batch_drafts_and_learns_as_if_one_after_the_other(steps, prompts, budgets, threads):
    batch, single = Recall(512, seed=SEED), Recall(512, seed=SEED)
    policy = RecallPolicy(share=4)
    together = [RecallStream(batch, prompt, policy=policy) for prompt in prompts]
    apart = [RecallStream(single, prompt, policy=policy) for prompt in prompts]
    for step in steps:
        drafts = propose_all(together, budgets, threads=threads)
        for draft, stream, budget in zip(drafts, apart, budgets, strict=True):
            guess = stream.propose(budget)
            assert draft.tokens.tolist() == guess.tokens.tolist()
            assert draft.parents.tolist() == guess.parents.tolist()
            assert draft.confidence.tolist() == guess.confidence.tolist()
        observe_all(together, [np.array(tokens, np.int32) for tokens in step], threads=threads)
        for stream, tokens in zip(apart, step, strict=True):
            stream.observe(tokens)
    assert batch.written == single.written
