"""The bare pass gives the model's own rows: of one sequence, of several, of any family it knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from draftwood.draft import ROOT, Draft
from draftwood.targets.transformers.cache import SequenceCache
from draftwood.targets.transformers.lean import FAMILIES, lean_pass
from draftwood.targets.transformers.native_layers import NativeLayers
from draftwood.targets.transformers.network import Network
from draftwood.targets.transformers.packed import pack_linears, side_by_side
from draftwood.targets.transformers.target import TransformersTarget
from draftwood.testing import tiny_model

KNOWN = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma3", "phi3")
COUNT = 40
"""Tokens; the windows of the tiny Mistral and Gemma 3 hold 24."""


@pytest.fixture(params=["native", "torch"], autouse=True)
def side(request, monkeypatch):
    """Passes by native layers and by PyTorch's operators, whatever this machine is faster at."""
    native = request.param == "native"
    monkeypatch.setattr(NativeLayers, "passes_faster", lambda self: native)
    return request.param


def own_and_bare(model, parts):
    """Logits of the tokens in one pass of the model itself, and in bare passes over parts."""
    tokens = np.arange(3, 3 + COUNT, dtype=np.int32)
    network = Network(model)
    assert network.lean is not None
    cache = SequenceCache(network.layers.count)
    with torch.inference_mode():
        expected = model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0]
        rows = [network.forward(tokens[:end], cache, keep=end - first) for first, end in parts]
    return expected, torch.cat(rows)


@pytest.mark.parametrize("family", KNOWN)
@pytest.mark.parametrize("parts", [[(0, 40)], [(0, 4), (4, 5), (5, 33), (33, 34), (34, 40)]])
def test_rows_are_the_model_s_own_whatever_the_passes(family, parts):
    expected, found = own_and_bare(tiny_model(family), parts)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
        (
            "gemma2",
            {"attention": "eager", "attn_logit_softcapping": None, "final_logit_softcapping": 3.0},
        ),
        ("phi3", {"partial_rotary_factor": 0.5, "num_attention_heads": 2, "head_dim": 16}),
    ],
)
def test_rows_are_the_model_s_own_whatever_its_options(family, options):
    expected, found = own_and_bare(tiny_model(family, **options), [(0, 33), (33, 40)])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_projections_that_were_packed_together_are_one_product(monkeypatch):
    monkeypatch.setattr("draftwood.targets.transformers.packed.SMALLEST", 1)
    monkeypatch.setattr("draftwood.targets.transformers.packed.faster_packed", lambda _: True)
    model = tiny_model("qwen2")  # its projections have a bias
    pack_linears(model)
    attention = model.model.layers[0].self_attn
    assert side_by_side([attention.q_proj.weight, attention.k_proj.weight]) is not None
    expected, found = own_and_bare(model, [(0, 33), (33, 40)])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", KNOWN)
def test_sequences_of_different_lengths_share_a_bare_pass_without_padding(family):
    target = TransformersTarget(tiny_model(family))
    batch = target.open_batch(3)
    assert not batch.padded
    prompts = [
        np.arange(first, first + n, dtype=np.int32) for first, n in ((1, 3), (2, 30), (5, 9))
    ]
    tree = Draft.tree([7, 8, 9, 10], [ROOT, ROOT, 0, 1])
    for drafts in (
        [tree, Draft.empty(), Draft.chain([11, 12])],
        [Draft.chain([11, 12, 13]), tree, Draft.empty()],  # the tree lies beyond the windows
        [Draft.empty(), Draft.chain([11, 12, 13]), tree],
    ):
        compare_rows(target, prompts, drafts)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_padded_batch_beside_a_bare_pass_gives_the_same_rows_down_to_one_sequence(family):
    target = TransformersTarget(tiny_model(family))  # as batches are passed on a GPU
    batch = target.open_batch(2)
    batch.padded = True
    prompt, draft = np.arange(1, 31, dtype=np.int32), Draft.tree([7, 8], [ROOT, ROOT])
    seats = [batch.open(prompt[:9]), batch.open(prompt)]
    expected = target.open(prompt).score(draft).logits(2)
    for _ in range(2):
        rows = batch.score(seats, [draft] * len(seats))[-1]
        np.testing.assert_allclose(rows.logits(2), expected, atol=1e-4, rtol=1e-4)
        seats.pop(0).close()
        if not seats:
            break


def compare_rows(target, prompts, drafts):
    """The rows of a shared pass are those of passes of each one's own."""
    batch = target.open_batch(3)
    seats = [batch.open(prompt) for prompt in prompts]
    for prompt, draft, rows in zip(prompts, drafts, batch.score(seats, drafts), strict=True):
        alone = target.open(prompt).score(draft)
        assert len(rows.argmax()) == len(draft) + 1
        for row in range(len(draft) + 1):
            np.testing.assert_allclose(rows.logits(row), alone.logits(row), atol=1e-4, rtol=1e-4)
        assert rows.top(3).tokens.tolist() == alone.top(3).tokens.tolist()


def test_positions_are_there_up_to_the_last_that_a_pass_asks_for():
    lean = lean_pass(tiny_model("llama"))
    (kind,) = {layer.kind for layer in lean.layers}
    held = len(lean.table(kind, 3)[0])
    for last in (held - 1, held, held + 1):
        cosine, sine = lean.table(kind, last)
        assert len(cosine) == len(sine) > last


def test_the_last_row_of_a_window_is_seen_and_the_one_before_is_not():
    window = 24
    for family in ("mistral", "gemma3"):
        target = TransformersTarget(tiny_model(family))
        prompt = np.arange(2, 2 + window, dtype=np.int32)
        for draft in (
            Draft.chain([5, 6, 7]),
            Draft.tree([5, 6, 7, 8], [ROOT, ROOT, 0, 2]),
        ):
            rows = target.open(prompt).score(draft)
            for node in range(len(draft)):
                path = draft.tokens[draft.path(node)]
                ids = torch.from_numpy(np.concatenate((prompt, path)).astype(np.int64))[None]
                with torch.inference_mode():
                    own = target.model(ids).logits[0, -1].numpy()
                np.testing.assert_allclose(rows.logits(node + 1), own, atol=1e-4, rtol=1e-4)


def test_changes_to_a_weight_after_loading_are_seen():
    model = tiny_model("llama")
    target = TransformersTarget(model)
    prompt = np.arange(3, 9, dtype=np.int32)
    before = target.open(prompt).score(Draft.empty()).logits(0).copy()
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight.mul_(-1)
        after = model(torch.arange(3, 9)[None]).logits[0, -1].numpy()
    found = target.open(prompt).score(Draft.empty()).logits(0)
    np.testing.assert_allclose(found, after, atol=1e-4, rtol=1e-4)
    assert np.abs(found - before).max() > 1e-2


def test_models_of_another_kind_keep_their_own_pass():
    """GPT-2 has another arithmetic, Gemma 2 caps the scores of its attention."""
    assert "GPT2LMHeadModel" not in FAMILIES
    assert lean_pass(tiny_model("gpt2")) is None
    assert lean_pass(tiny_model("gemma2", attention="eager")) is None


def test_a_model_with_code_of_somebody_s_own_keeps_its_own_pass():
    hooked = tiny_model("llama")
    hooked.model.layers[1].register_forward_hook(lambda *_: None)
    assert lean_pass(hooked) is None

    class Adapted(torch.nn.Linear):
        pass

    adapted = tiny_model("llama")
    adapted.model.layers[0].mlp.down_proj = Adapted(48, 32, bias=False)
    assert lean_pass(adapted) is None

    patched = tiny_model("llama")
    patched.forward = patched.forward
    assert lean_pass(patched) is None


def test_a_pass_that_differs_is_not_used(caplog):
    model = tiny_model("llama")

    class NoNorm(type(model.model.layers[0].input_layernorm)):
        def forward(self, hidden_states):
            return hidden_states

    NoNorm.__module__ = "transformers.models.other"  # another release's norm
    model.model.layers[0].input_layernorm.__class__ = NoNorm
    assert lean_pass(model) is None
    assert "it is not used" in caplog.text
    assert TransformersTarget(model).network.lean is None
