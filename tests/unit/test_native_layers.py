"""Native layers: rows that do not depend on what else is in a pass, weights that may change."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood import _native  # noqa: E402
from draftwood.draft import ROOT, Draft  # noqa: E402
from draftwood.targets.transformers.cache import SequenceCache  # noqa: E402
from draftwood.targets.transformers.lean import lean_pass, passes_natively  # noqa: E402
from draftwood.targets.transformers.native_layers import NativeLayers  # noqa: E402
from draftwood.targets.transformers.network import Network  # noqa: E402
from draftwood.targets.transformers.packed import pack_linears  # noqa: E402
from draftwood.testing import tiny_model  # noqa: E402

TOKENS = np.arange(3, 153, dtype=np.int32) % 61


@pytest.fixture(autouse=True)
def chosen(monkeypatch):
    """Native layers, whatever this machine is faster at."""
    monkeypatch.setattr(NativeLayers, "passes_faster", lambda self: True)


def rows_of(network, ends):
    """Logits [n, V] of the tokens up to the last end, in passes up to each of the ends."""
    assert network.lean.native is not None
    cache, rows = SequenceCache(network.layers.count), []
    with torch.inference_mode():
        rows += (network.forward(TOKENS[:end], cache, keep=end - cache.length) for end in ends)
    return torch.cat(rows)


def wide_llama(**options):
    return tiny_model("llama", max_position_embeddings=256, **options)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "phi3"])
def test_a_chain_s_rows_are_to_the_bit_those_of_passes_of_one_row(family):
    network = Network(tiny_model(family, max_position_embeddings=256))
    alone = rows_of(network, range(1, 151))
    for ends in ([60, 120, 150], [8, 9, 41, 73, 105, 137, 150], [64, 128, 144, 150]):
        assert torch.equal(rows_of(network, ends), alone)


def test_any_number_of_threads_gives_the_same_rows():
    network = Network(wide_llama(hidden_size=256, intermediate_size=1024))
    alone = rows_of(network, [50, 58, 59])
    before = torch.get_num_threads()
    try:
        for threads in (2, 5):
            torch.set_num_threads(threads)
            assert torch.equal(rows_of(network, [50, 58, 59]), alone)
    finally:
        torch.set_num_threads(before)


def test_a_node_of_a_tree_sees_its_ancestors_only():
    network = Network(wide_llama())
    context = TOKENS[:70]
    tree = Draft.tree([7, 8, 9, 10, 11], [ROOT, ROOT, 0, 1, 2])
    with torch.inference_mode():
        cache = SequenceCache(network.layers.count)
        rows = network.forward(context, cache, keep=6, draft=tree)
        for node, path in enumerate(([7], [8], [7, 9], [8, 10], [7, 9, 11])):
            cache = SequenceCache(network.layers.count)
            text = np.concatenate((context, np.array(path, dtype=np.int32)))
            alone = network.forward(text, cache, keep=1)[0]
            torch.testing.assert_close(rows[node + 1], alone, atol=1e-5, rtol=1e-5)


def test_a_weight_that_is_replaced_is_seen_and_one_that_does_not_serve_is_passed_by_torch():
    model = wide_llama()
    network = Network(model)
    before = rows_of(network, [9])
    weight = model.model.layers[1].mlp.down_proj.weight
    weight.data = -weight.data
    after = rows_of(network, [9])
    assert not torch.allclose(after, before, atol=1e-3)
    pack = torch.empty(weight.shape[::-1]).t()
    weight.data = pack.copy_(weight.data)  # input by input now
    with torch.inference_mode():
        cache = SequenceCache(network.layers.count)
        found = network.forward(TOKENS[:9], cache, keep=9)
    assert network.lean.native is None
    torch.testing.assert_close(found, after, atol=1e-5, rtol=1e-5)


def test_packed_weights_and_other_dtypes_are_passed_by_torch(monkeypatch):
    assert passes_natively(tiny_model("llama"))
    assert not passes_natively(tiny_model("gpt2"))
    assert not passes_natively(tiny_model("llama").to(torch.bfloat16))
    assert not passes_natively(tiny_model("llama", hidden_act="relu"))
    model = tiny_model("llama")
    monkeypatch.setattr("draftwood.targets.transformers.packed.SMALLEST", 1)
    monkeypatch.setattr("draftwood.targets.transformers.packed.faster_packed", lambda _: True)
    pack_linears(model)
    assert not passes_natively(model)
    assert lean_pass(model) is not None


def test_of_small_layers_whole_passes_decide_and_of_large_ones_a_product(monkeypatch):
    monkeypatch.setattr(NativeLayers, "is_faster", lambda self, weight: False)
    assert lean_pass(tiny_model("llama")).native is not None
    monkeypatch.setattr("draftwood.targets.transformers.native_layers._SMALL", 0)
    assert lean_pass(tiny_model("llama")).native is None


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "phi3"])
def test_whole_passes_of_both_kinds_are_timed(family, monkeypatch):
    native = lean_pass(tiny_model(family)).native
    monkeypatch.undo()  # the fixture's answer
    clock = [0.0]

    def slow(layer, x, *rest):
        clock[0] += 1.0
        return x

    module = "draftwood.targets.transformers.native_layers"
    monkeypatch.setattr(f"{module}.perf_counter", lambda: clock[0])
    monkeypatch.setattr(f"{module}.LeanLayer.__call__", slow)
    assert native.passes_faster()
    run = NativeLayers.__call__

    def slower(self, *arguments):
        clock[0] += 99.0
        return run(self, *arguments)

    monkeypatch.setattr(NativeLayers, "__call__", slower)
    assert not native.passes_faster()


def test_native_layers_are_used_where_they_are_faster():
    native = lean_pass(tiny_model("llama")).native
    assert isinstance(NativeLayers.is_faster(native, torch.randn(64, 64)), bool)
    assert _native.decoder_instructions() in ("avx512", "avx2", "any")


def decoder():
    return _native.Decoder(hidden=8, heads=2, groups=1, size=4, inner=6, scale=0.5, gelu=False)


def layer(**changed):
    zeros = lambda *shape: np.zeros(shape, dtype=np.float32)  # noqa: E731
    norm = (zeros(8), 1e-5)
    return {
        "kind": 0,
        "before": norm,
        "heads_in": [(zeros(16, 8), None)],
        "heads_out": (zeros(8, 8), None),
        "attended": None,
        "between": norm,
        "gate_up": [(zeros(12, 8), None)],
        "down": (zeros(8, 6), None),
        "fed": None,
        "query": None,
        "key": None,
    } | changed


@pytest.mark.parametrize(
    "changed",
    [
        {"heads_in": [(np.zeros((15, 8), dtype=np.float32), None)]},
        {"heads_in": [(np.zeros((16, 7), dtype=np.float32), None)]},
        {"down": (np.zeros((8, 6), dtype=np.float32), np.zeros(7, dtype=np.float32))},
        {"before": (np.zeros(7, dtype=np.float32), 1e-5)},
        {"between": None},
    ],
)
def test_weights_whose_shapes_do_not_fit_are_refused(changed):
    with pytest.raises(ValueError, match=r"\w"):
        decoder().add(**layer(**changed))


def test_passes_whose_arrays_do_not_fit_are_refused():
    made = decoder()
    made.add(**layer())
    rows = lambda n, width: np.zeros((n, width), dtype=np.float32)  # noqa: E731
    cache = (np.zeros((1, 1, 8, 4), dtype=np.float32),) * 2
    good = {
        "x": rows(2, 8),
        "turns": [(rows(2, 4), rows(2, 4))],
        "spans": [(0, 2, 5, [None])],
        "caches": [cache],
        "threads": 1,
    }
    made.run(**good)
    mask = np.ones((2, 5), dtype=np.uint8)
    made.run(**good | {"spans": [(0, 2, 5, [mask])]})
    for wrong in (
        {"x": rows(2, 7)},
        {"x": rows(3, 8)},
        {"turns": [(rows(1, 4), rows(1, 4))]},
        {"turns": []},
        {"spans": [(0, 2, 9, [None])]},
        {"spans": [(1, 2, 5, [None])]},
        {"spans": [(0, 2, 1, [None])]},
        {"spans": [(0, 2, 5, [mask[:1]])]},
        {"caches": []},
        {"threads": 0},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            made.run(**good | wrong)
