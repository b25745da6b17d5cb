"""What a tenant can learn of another one from its own drafts: nothing."""

from __future__ import annotations

import secrets
from contextlib import closing

import numpy as np
import pytest

from draftwood.draft import Budget
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import InvalidOption
from draftwood.index.recall import Recall, namespace_key
from draftwood.index.recall_stream import RecallPolicy, RecallStream

MOST_MODELS = 64
"""Namespaces whose learning is kept beside the default one's."""


def teach(recall, namespace, before, after, rounds=20):
    """A tenant says `after` again and again behind `before`, and learns that it is right."""
    for _ in range(rounds):
        with closing(RecallStream(recall, [5, before], namespace=namespace)) as stream:
            for _ in range(10):
                stream.propose(Budget(16))
                stream.observe([after, before])


def seen(recall, namespace, prompts):
    """All that a tenant sees of its drafts behind some prompts."""
    told = []
    for prompt in prompts:
        with closing(RecallStream(recall, prompt, namespace=namespace)) as stream:
            guess = stream.propose(Budget(16))
        told.append(
            [part.tolist() for part in (guess.tokens, guess.parents, guess.confidence)]
            + [guess.source.tolist()]
        )
    return told


@pytest.mark.parametrize("victim", ["A", ""], ids=["named", "default"])
def test_a_curious_tenant_sees_the_same_drafts_whatever_another_says(victim):
    """Order, confidences and numbers of nodes, with the secret one way, the other way, and none."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        x, c, d = (int(token) for token in rng.choice(30_000, 3, replace=False))
        prompts = [[x, c, 9, x, d, 9, x], [x, d, 9, x, c, 9, x], [c, x, d, x, c, x], [d, c, x]]
        views = []
        for secret in (c, d, None):
            recall = Recall(20_000)
            recall.add([x, c, 7, x, d, 7], namespace="B")
            if secret is not None:
                teach(recall, victim, x, secret)
            views.append(seen(recall, "B", prompts))
        assert views[0] == views[1] == views[2]


def test_what_a_tenant_learned_serves_itself():
    recall = Recall(20_000)
    prompts = [[1, 2, 9, 1, 3, 9, 1]]
    before = seen(recall, "A", prompts)
    teach(recall, "A", 1, 2)
    after = seen(recall, "A", prompts)
    assert before != after
    assert after[0][0][0] == 2


def test_any_number_of_namespaces_learn_within_a_fixed_memory():
    recall = Recall(256)
    empty = recall.nbytes
    for tenant in range(2 * MOST_MODELS):
        with closing(RecallStream(recall, [1, 2, 1], namespace=f"tenant-{tenant}")) as stream:
            stream.propose(Budget(4))
            stream.observe([2, 1])
    one = (recall.nbytes - empty) / MOST_MODELS
    assert 190_000 < one < 210_000


def test_removing_a_tenants_text_changes_no_draft_of_another():
    recall = Recall(20_000)
    teach(recall, "A", 1, 2)
    teach(recall, "B", 1, 3)
    number = recall.add([8, 9], namespace="B")
    prompts = [[1, 2, 9, 1, 3, 9, 1], [5, 1]]
    before = seen(recall, "A", prompts)
    recall.remove(number)
    recall.remove_namespace("B")
    assert seen(recall, "A", prompts) == before


def public_buckets(key, ids, bits):
    """Where contexts of one token would be kept, were the namespace's key all that hid it."""
    x = (np.uint64((key ^ key >> 32) & (2**32 - 1)) ^ ids) * np.uint64(0x9E3779B1)
    x &= np.uint64(2**32 - 1)
    x = (x ^ x >> np.uint64(15)) * np.uint64(0x85EBCA77) & np.uint64(2**32 - 1)
    x = (x ^ x >> np.uint64(13)) * np.uint64(0xC2B2AE3D) & np.uint64(2**32 - 1)
    return x >> np.uint64(32 - bits)


def test_texts_chosen_by_what_is_public_do_not_crowd_out_a_tenants_drafts():
    recall = Recall(100_000)
    phrase = np.random.default_rng(1).integers(0, 32_000, 30).astype(np.int32)
    for _ in range(20):
        recall.add(phrase, namespace="A")
    with closing(RecallStream(recall, phrase[:1], namespace="A")) as stream:
        before = stream.propose(Budget(8)).tokens.tolist()
    ids = np.arange(32_000, dtype=np.uint64)
    aim = public_buckets(namespace_key("A"), ids[phrase[:1]], 16)[0]
    for tenant in range(100):
        name = f"B{tenant}"
        for token in np.flatnonzero(public_buckets(namespace_key(name), ids, 16) == aim).tolist():
            for _ in range(30):
                recall.add([token, 3], namespace=name)
    with closing(RecallStream(recall, phrase[:1], namespace="A")) as stream:
        assert stream.propose(Budget(8)).tokens.tolist() == before


def test_equal_seeds_give_equal_drafts_and_a_file_keeps_its_own(tmp_path):
    path = tmp_path / "history.recall"
    with closing(Recall.open(path, max_tokens=256, seed=11)) as one:
        one.add([1, 2, 3, 1, 2, 4])
    with closing(Recall.open(path, seed=12)) as again:
        again.add([1, 2, 5])
        told = seen(again, "", [[1, 2]])
    other = Recall(256, seed=11)
    other.add([1, 2, 3, 1, 2, 4])
    other.add([1, 2, 5])
    assert seen(other, "", [[1, 2]]) == told
    assert path.read_bytes()[64:72] == (11).to_bytes(8, "little")


def drafts_of(recall, namespace, context):
    with closing(RecallStream(recall, context, namespace=namespace)) as stream:
        return stream.propose(Budget(8)).tokens.tolist()


def test_a_tenant_with_a_quota_does_not_crowd_out_another(tmp_path):
    path = str(tmp_path / "history.recall")
    with closing(RecallDrafter(path=path, max_tokens=20_000, quota=4000)) as drafter:
        drafter.recall.add([1, 2, 3, 4], namespace="B")
        for round in range(100):
            drafter.recall.add(np.arange(1000) + round, namespace="A")
        assert drafts_of(drafter.recall, "B", [1, 2]) == [3, 4]
        assert 3900 < drafter.recall.held("A") <= 4000
    with closing(Recall.open(path, quota=4000)) as again:  # what is held is counted anew
        again.add(np.arange(1000), namespace="A")
        assert again.held("A") <= 4000
        again.add(np.arange(1000), namespace="C")
        assert again.held("C") >= 1000


def test_a_request_beyond_its_quota_drafts_from_its_own_text():
    recall = Recall(20_000, quota=256)
    recall.add(np.arange(1000))
    with closing(RecallStream(recall, [7, 8], policy=RecallPolicy(share=2))) as stream:
        stream.observe([7000, 7001, 7002, 7003, 7000, 7001])
        assert stream.propose(Budget(2)).tokens.tolist() == [7002, 7003]
    assert recall.held() == 256
    assert drafts_of(recall, "", [7000, 7001]) == []


@pytest.mark.parametrize("quota", [0, 255, -1, 2**63])
def test_quotas_that_are_none_are_told(quota):
    with pytest.raises(InvalidOption, match=f"quota is {quota}"):
        Recall(4096, quota=quota)


def test_seeds_that_are_none_are_told():
    for seed in (-1, 2**64):
        with pytest.raises(InvalidOption, match=str(seed)):
            Recall(256, seed=seed)


def test_a_seed_that_is_not_given_is_drawn_at_random(tmp_path, monkeypatch):
    monkeypatch.setattr("draftwood.index.recall_ring.secrets", secrets)
    found = set()
    for name in ("a", "b", "c"):
        path = tmp_path / name
        Recall.open(path, max_tokens=256).close()
        found.add(path.read_bytes()[64:72])
    assert len(found) == 3
