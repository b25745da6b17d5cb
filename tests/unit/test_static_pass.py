"""The pass in static shapes gives the bare pass's rows, on any device and without graphs, too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.protocols import Verdict
from draftwood.targets.transformers import static_rows
from draftwood.targets.transformers.network import Network
from draftwood.targets.transformers.packed import pack_linears, side_by_side
from draftwood.targets.transformers.solo import SoloCursor
from draftwood.targets.transformers.static_rows import PassShape, StaticRows
from draftwood.targets.transformers.target import TransformersTarget
from draftwood.testing import oracle, random_trees, tiny_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

KNOWN = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma3", "phi3")
VOCAB_SIZE = 61
PROMPTS = ([3, 10, 31, 5, 12], [7], [(3 + 7 * i * i) % 61 for i in range(70)], [9, 9])
TREE = Draft.tree([7, 8, 9, 10], [ROOT, ROOT, 0, 1])


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch):
    """Keys in steps that the tiny models' texts cross."""
    monkeypatch.setattr(static_rows, "KEYS", 16)


def sides(family, **options):
    """A target in static shapes, and one without."""
    model = tiny_model(family, **options)
    static, plain = (TransformersTarget(model, static=static) for static in (True, False))
    assert static.network.static is not None
    assert plain.network.static is None
    return static, plain


@pytest.mark.parametrize("family", KNOWN)
def test_rows_of_a_batch_are_those_of_each_sequence_alone(family):
    static, plain = sides(family)
    batch = static.open_batch(5)
    assert batch.padded
    prompts = [as_tokens(prompt) for prompt in PROMPTS]
    seats = [batch.open(prompt) for prompt in prompts]
    cursors = [plain.open(prompt) for prompt in prompts]
    rounds = [
        [TREE, Draft.empty(), Draft.chain([11, 12]), TREE],
        [Draft.chain([11, 12, 13]), TREE, Draft.empty(), Draft.empty()],
        [Draft.empty()] * 4,
    ]
    for drafts in rounds:
        for rows, cursor, seat, draft in zip(
            batch.score(seats, drafts), cursors, seats, drafts, strict=True
        ):
            alone = cursor.score(draft)
            assert rows.argmax().tolist() == alone.argmax().tolist()
            for row in range(len(draft) + 1):
                np.testing.assert_allclose(
                    rows.logits(row), alone.logits(row), atol=1e-4, rtol=1e-4
                )
            path = draft.path(3) if draft is TREE else draft.path(len(draft) - 1)
            for each in (seat, cursor):
                each.commit(draft, Verdict(path, 21))
    batch.close()


@pytest.mark.parametrize("family", KNOWN)
def test_texts_are_those_of_generate_alone_and_in_batches_that_join_and_leave(family):
    static, _ = sides(family)
    texts = [generated(static.model, prompt) for prompt in PROMPTS]
    for prompt, text in zip(PROMPTS, texts, strict=True):
        for drafter in (oracle([*prompt, *text], vocab_size=61, decoys=2), random_trees(61)):
            steps = decode(static, drafter, Greedy(), prompt, budget=Budget(24), stop=Stop(24))
            assert [token for step in steps for token in step.tokens.tolist()] == text
    found: list[list[int]] = [[] for _ in PROMPTS]
    asked = [Request(prompt, Greedy(), Stop(24)) for prompt in PROMPTS]
    for number, step in decode_batch(
        static, random_trees(61), asked, max_batch=3, budget=Budget(8)
    ):
        found[number] += step.tokens.tolist()
    assert found == texts


def generated(model, prompt, count=24):
    ids = torch.tensor([prompt])
    text = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
    )
    return text[0, len(prompt) :].tolist()


def test_one_sequence_has_a_batch_of_its_own_whose_cache_serves_the_next_one():
    static, plain = sides("llama")
    cursor = static.open(as_tokens([3, 10]))
    assert isinstance(cursor, SoloCursor)
    cursor.score(TREE)
    slots = cursor._batch._cache
    assert slots is not static.open(as_tokens([5]))._batch._cache
    cursor.close()
    again = static.open(as_tokens([9, 9, 9]))
    assert again._batch._cache is slots
    alone = plain.open(as_tokens([9, 9, 9])).score(TREE)
    np.testing.assert_allclose(again.score(TREE).logits(3), alone.logits(3), atol=1e-4, rtol=1e-4)


def test_spare_caches_are_kept_up_to_a_limit_only(monkeypatch):
    static, _ = sides("llama")
    monkeypatch.setattr(static.network.static, "_spare_bytes", 0)
    cursor = static.open(as_tokens([3, 10]))
    cursor.score(TREE)
    cursor.close()
    assert static.network.static._spare == []


def test_a_longer_text_than_the_tables_of_positions_hold_is_passed_right(monkeypatch):
    static, plain = sides("llama")
    prompt = as_tokens(PROMPTS[2])
    own = static.network.static
    monkeypatch.setattr(own, "_reach", 8)
    monkeypatch.setattr(own, "_turns", {})
    found, expected = static.open(prompt).score(TREE), plain.open(prompt).score(TREE)
    np.testing.assert_allclose(found.logits(3), expected.logits(3), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("sequences", "rows", "past", "shape"),
    [
        (1, 1, 15, (1, 1, 16)),
        (1, 9, 100, (1, 16, 128)),
        (3, 3, 0, (4, 4, 16)),
        (5, 65, 1000, (8, 96, 1536)),
        (17, 2, 40, (20, 2, 48)),
    ],
)
def test_shapes_are_rounded_up(sequences, rows, past, shape):
    assert PassShape.holding(sequences, rows, past, size=20) == shape


def test_rows_that_are_no_padding_are_named():
    rows = StaticRows.of(
        [as_tokens([1, 2, 3]), as_tokens([5])],
        [Draft.empty(), TREE],
        lambda ids: ids,
        PassShape.holding(2, 5, 2, size=4),
    )
    assert rows.shape == (2, 8, 16)
    assert rows.wanted.tolist() == [0, 8, 9, 10, 11, 12]
    assert rows.firsts == [0, 1]


def test_a_shape_that_is_not_recorded_yet_is_passed_in_a_larger_one_that_is(monkeypatch):
    static = sides("llama")[0].network.static
    monkeypatch.setattr(static, "_graphs", True)
    slots = static.slots(8)
    needed, larger = PassShape(4, 4, 512), PassShape(8, 8, 512)
    assert static.shape(needed, slots) == needed  # nothing is recorded
    slots.recorded = {larger: None, PassShape(8, 32, 512): None, PassShape(4, 4, 256): None}
    assert static.shape(needed, slots) == larger
    assert static.shape(needed, slots) == needed  # it keeps coming: it is recorded itself
    assert static.shape(PassShape(1, 1, 512), slots) == (1, 1, 512)  # too small for any of them
    slots.recorded[needed] = None
    assert static.shape(needed, slots) == needed


def test_a_pass_that_cannot_be_recorded_is_made_call_by_call(monkeypatch, caplog):
    static, plain = sides("llama")
    own = static.network.static
    monkeypatch.setattr(own, "_graphs", True)
    monkeypatch.setattr(own, "_record", fails)
    cursor, expected = static.open(as_tokens([3, 10])), plain.open(as_tokens([3, 10])).score(TREE)
    for _ in range(4):
        np.testing.assert_allclose(
            cursor.score(TREE).logits(3), expected.logits(3), atol=1e-4, rtol=1e-4
        )
    assert "cannot be recorded" in caplog.text
    assert not own._graphs


def fails(*_):
    raise RuntimeError("no graphs here")


def test_a_model_without_a_bare_pass_has_no_static_one():
    assert Network(tiny_model("gpt2"), static=True).static is None


def test_a_static_pass_that_is_off_is_not_used(monkeypatch, caplog):
    monkeypatch.setattr(
        "draftwood.targets.transformers.static_pass.StaticPass.difference", lambda self: 0.5
    )
    network = Network(tiny_model("llama"), static=True)
    assert network.static is None
    assert "static pass is off by 0.5" in caplog.text


def test_a_static_pass_that_fails_its_probe_is_not_used(monkeypatch):
    module = "draftwood.targets.transformers.static_pass"
    monkeypatch.setattr(f"{module}.StaticPass.difference", lambda self: 0.0)
    monkeypatch.setattr(f"{module}.StaticPass._masks", blind)
    target = TransformersTarget(tiny_model("llama"), static=True)
    assert target.network.static is None
    assert target.network.lean is not None
    assert target.trees


def blind(self, past, positions, sees, shape):
    count, rows, keys = shape
    each = self._lean.layers[0].each
    return {kind: torch.zeros((count, 1, each * rows, keys)) for kind in self._windows}


def test_the_static_pass_is_for_gpus_unless_it_is_asked_for():
    assert TransformersTarget(tiny_model("llama")).network.static is None


def test_projections_that_lie_together_on_a_gpu_are_one_product(monkeypatch):
    module = "draftwood.targets.transformers.packed"
    monkeypatch.setattr(f"{module}.joinable", lambda each: side_by_side(each) is None)
    model = tiny_model("qwen2")  # its projections have a bias
    prompt = as_tokens(PROMPTS[2])
    before = TransformersTarget(model, static=True).open(prompt).score(TREE).logits(3)
    pack_linears(model)
    target = TransformersTarget(model, static=True)
    assert all(layer.heads_in.weight is not None for layer in target.network.lean.layers)
    assert target.network.lean.layers[0].gate_up.weight.stride(1) == 1
    np.testing.assert_allclose(target.open(prompt).score(TREE).logits(3), before, atol=1e-4)


def test_weights_that_moved_are_read_where_they_are_now():
    static, _ = sides("llama", initializer_range=0.3)
    prompt = as_tokens([3, 10, 31])
    before = static.open(prompt).score(TREE).logits(3)
    static.model.to(torch.float64).to(torch.float32)
    pack_linears(static.model)
    np.testing.assert_allclose(static.open(prompt).score(TREE).logits(3), before, atol=1e-4)
