"""What Draftwood takes for granted of SGLang holds in the SGLang that is installed.

Its registry, algorithms and base classes are imported; the n-gram worker needs CUDA kernels to be
imported, so what ours overrides and reads of it is looked up in its source.
"""

import ast
import inspect
import re
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from draftwood.sglang import algorithm
from draftwood.sglang.drafting import masks_of
from draftwood.sglang.worker import worker_class

if find_spec("sglang") is None:
    pytest.skip("SGLang is not installed", allow_module_level=True)
torch = pytest.importorskip("torch", reason="SGLang needs torch")
try:
    import sglang
    from sglang.srt.speculative.base_spec_worker import BaseSpecWorker
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm
except ImportError as error:
    pytest.skip(f"SGLang cannot be imported here: {error}", allow_module_level=True)

SOURCES = Path(sglang.__file__).parent / "srt"


@pytest.fixture(scope="module")
def ours():
    """Registered as SGLang does it: through the entry point."""
    (found,) = [
        each for each in entry_points(group="sglang.srt.plugins") if each.name == "draftwood"
    ]
    install = found.load()
    install()
    install()
    return SpeculativeAlgorithm.from_string("draftwood")


@pytest.fixture(scope="module")
def ngram_worker():
    tree = ast.parse((SOURCES / "speculative/ngram_worker.py").read_text("utf-8"))
    return next(
        each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == "NGRAMWorker"
    )


def test_it_answers_what_ngram_answers(ours):
    asked = [
        name
        for name in vars(SpeculativeAlgorithm)
        if name.startswith(("is_", "supports_")) or name in ("has_draft_kv", "need_topk")
    ]
    assert len(asked) > 15
    for name in [*asked, "carries_draft_hidden_states"]:
        assert getattr(ours, name)() == getattr(SpeculativeAlgorithm.NGRAM, name)(), name


def test_it_has_every_method_that_is_called(ours):
    """SGLang has more methods on its own algorithms than on the class for those of others."""
    calls = re.compile(r"\b(?:spec_algorithm|spec_algo)\.([a-z_]+)\(")
    called = {
        name
        for file in SOURCES.rglob("*.py")
        for name in calls.findall(file.read_text("utf-8", errors="replace"))
    }
    assert {"is_ngram", "create_future_map"} <= called
    assert [name for name in sorted(called) if not callable(getattr(ours, name, None))] == []


def test_the_worker_overrides_what_is_there(ngram_worker):
    methods = {each.name: each for each in ngram_worker.body if isinstance(each, ast.FunctionDef)}
    for name in ("_prepare_draft_tokens", "_update_ngram_corpus"):
        assert [each.arg for each in methods[name].args.args] == ["self", "batch"]
    made = [each.arg for each in methods["__init__"].args.args]
    assert made == ["self", "server_args", "gpu_id", "nccl_port", "target_worker"]
    assert [ast.unparse(each) for each in ngram_worker.bases] == ["BaseSpecWorker"]
    told = inspect.signature(BaseSpecWorker.note_request_finished).parameters
    assert list(told) == ["self", "rid", "natural_stop"]
    own = worker_class(BaseSpecWorker)
    assert own.note_request_finished is not BaseSpecWorker.note_request_finished
    assert callable(BaseSpecWorker.clear_cache_pool)


def test_the_worker_has_what_ours_reads(ngram_worker):
    assigned = {
        each.attr
        for each in ast.walk(ngram_worker)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
    }
    assert {"draft_token_num", "topk"} <= assigned
    source = ast.unparse(ngram_worker)
    for read in (
        "spec_info.accept_tokens",
        "accept_lens",
        "origin_input_ids_unpadded",
        "output_ids",
    ):
        assert read in source
    assert "batch.seq_lens_cpu[i]" in source


def test_requests_have_what_is_read_of_them():
    source = (SOURCES / "managers/schedule_batch.py").read_text("utf-8")
    for name in ("cache_salt", "lora_id", "eos_token_ids", "tokenizer", "sampling_params"):
        assert f"self.{name} = " in source, name
    sampling = (SOURCES / "sampling/sampling_params.py").read_text("utf-8")
    for name in ("max_new_tokens", "stop_token_ids", "ignore_eos", "custom_params"):
        assert re.search(rf"\b{name}\b", sampling), name
    worker = (SOURCES / "managers/tp_worker.py").read_text("utf-8")
    assert "self.tokenizer = " in worker
    assert "self.model_config = " in worker


def test_settings_that_are_read_exist():
    source = "".join(file.read_text("utf-8") for file in (SOURCES / "arg_groups").rglob("*.py"))
    ours = Path(algorithm.__file__).read_text("utf-8")
    read = set(re.findall(r"\bgiven\.([a-z_]+)", ours))
    assert len(read) > 10
    assert [name for name in sorted(read) if not re.search(rf'"{name}"|\b{name}:', source)] == []


def test_the_trees_are_read_as_they_are_meant():
    """SGLang's own reading of a mask gives the children that the parents say."""
    text = (SOURCES / "speculative/ngram_worker.py").read_text("utf-8")
    links = next(
        each
        for each in ast.parse(text).body
        if isinstance(each, ast.FunctionDef) and each.name == "_derive_tree_links"
    )
    told = {"np": np, "torch": torch}
    exec(compile(ast.Module([links], []), "ngram_worker", "exec"), told)
    parents = np.asarray([[-1, 0, 0, 1, 1, 4, 2, 6], [-1, 0, 1, 2, 3, 4, 5, 6]], np.int32)
    masks = masks_of(parents).astype(np.int64)
    first, sibling = told["_derive_tree_links"](masks.reshape(-1), 2, 8)
    for row in range(2):
        for node in range(8):
            children, at = [], int(first[row, node])
            while at >= 0:
                children.append(at)
                at = int(sibling[row, at])
            assert children == np.flatnonzero(parents[row] == node).tolist()


def test_groups_have_what_a_broadcast_needs():
    source = (SOURCES / "distributed/parallel_state.py").read_text("utf-8")
    for name in ("rank_in_group", "world_size", "ranks", "cpu_group"):
        assert f"self.{name} = " in source
    assert "def get_tp_group()" in source
