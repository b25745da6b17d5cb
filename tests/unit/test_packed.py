"""Packed weights: other strides, the same model, no memory twice."""

import copy

import pytest

from draftwood.testing import save_tiny_model, tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers import load as loading  # noqa: E402
from draftwood.targets.transformers import packed as packing  # noqa: E402
from draftwood.targets.transformers.load import read_model  # noqa: E402
from draftwood.targets.transformers.packed import in_by_out, pack_linears, packable, side_by_side  # noqa: E402


@pytest.fixture
def every_weight(monkeypatch):
    """Pack whatever may be packed, whatever this machine is faster at."""
    monkeypatch.setattr(packing, "SMALLEST", 1)
    monkeypatch.setattr(packing, "faster_packed", lambda weight: True)


def logits(model, count=9):
    with torch.inference_mode():
        return model(torch.arange(3, 3 + count)[None]).logits


@pytest.mark.parametrize("shape", [(5, 3), (64, 7), (256, 32), (512, 256)])
def test_a_packed_weight_has_the_same_numbers_with_the_outputs_of_an_input_side_by_side(shape):
    weight = torch.randn(shape)
    laid = in_by_out([weight])
    assert torch.equal(laid, weight)
    assert laid.stride(0) == 1
    assert laid.stride(1) * 4 % 1024 != 0 or shape[0] < 16


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma", "phi3"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.usefixtures("every_weight")
def test_a_packed_model_gives_the_same_logits(family, tied):
    model = tiny_model(family, tie_word_embeddings=tied)
    before = logits(model)
    assert pack_linears(model) > 0
    torch.testing.assert_close(logits(model), before)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (embedding is head) == tied
    assert not head.is_contiguous()


@pytest.mark.usefixtures("every_weight")
def test_layers_that_share_their_numbers_share_them_packed():
    one, other = torch.nn.Linear(32, 48), torch.nn.Linear(32, 48)
    other.weight = torch.nn.Parameter(one.weight.data)
    assert pack_linears(torch.nn.ModuleList([one, other])) == one.weight.nbytes
    assert one.weight.data_ptr() == other.weight.data_ptr()
    assert pack_linears(torch.nn.ModuleList([one, other])) == 0  # they are packed by now


@pytest.mark.usefixtures("every_weight")
def test_a_packed_model_is_copied_and_saved_as_any_other(tmp_path):
    model = tiny_model("llama", tie_word_embeddings=True)
    before = logits(model)
    pack_linears(model)
    torch.testing.assert_close(logits(copy.deepcopy(model)), before)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again), before)


@pytest.mark.usefixtures("every_weight")
def test_a_model_loaded_by_name_is_packed_and_an_object_only_where_asked(tmp_path, monkeypatch):
    save_tiny_model(tmp_path)
    monkeypatch.setattr(loading, "_passes_natively", lambda model: False)

    def is_packed(model):
        return not model.model.layers[0].mlp.down_proj.weight.is_contiguous()

    model, tokenizer = read_model(tmp_path, packed=False)
    assert not is_packed(model)
    assert is_packed(read_model(tmp_path)[0])
    assert not is_packed(read_model(model, tokenizer=tokenizer)[0])
    assert is_packed(read_model(model, tokenizer=tokenizer, packed=True)[0])
    monkeypatch.setattr(loading, "_passes_natively", lambda model: True)
    assert not is_packed(read_model(tmp_path)[0])  # the native pass takes weights as they are


def test_a_weight_is_packed_where_it_is_faster_at_eight_rows_and_no_slower_at_one(monkeypatch):
    weight = torch.randn(64, 32)
    for one, few, faster in (
        ([1.0, 1.0], [4.0, 1.5], True),
        ([1.0, 1.0], [1.5, 1.4], False),
        ([1.0, 2.0], [2.0, 1.5], False),
    ):
        times = iter([one, few])
        monkeypatch.setattr(packing, "_seconds", lambda *_, times=times: next(times))
        assert packing.faster_packed(weight) == faster


def test_only_plain_weights_in_the_memory_of_the_cpu_are_packed():
    large = torch.randn(256, 128)
    assert packable([large])
    assert not packable([large[:8, :8]])  # small
    assert not packable([large.double()])
    assert not packable([large, large.double()])
    assert not packable([large.to("meta")])
    assert not packable([in_by_out([large])])


@pytest.mark.usefixtures("every_weight")
def test_projections_of_one_input_come_to_lie_together_each_a_view():
    model = tiny_model("qwen2")
    attention = model.model.layers[0].self_attn
    parts = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
    before = [part.detach().clone() for part in parts]
    assert side_by_side(parts) is None
    pack_linears(model)
    whole = side_by_side(parts)
    assert torch.equal(whole, torch.cat(before))
    assert whole.data_ptr() == parts[0].data_ptr()
    assert side_by_side([*parts, model.lm_head.weight]) is None
    with torch.no_grad():
        parts[2].zero_()
    assert not whole[-len(parts[2]) :].any()
