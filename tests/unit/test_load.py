"""What `load` refuses, and what it needs no model for."""

import inspect
import itertools
import subprocess
import sys

import pytest

from draftwood.budget.measured import MeasuredCost
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import InvalidOption, InvalidSpec, MissingExtra, ModelNotFound
from draftwood.load import _sweep, load
from draftwood.targets.transformers.load_options import DEFAULTS, LoadOptions
from draftwood.testing import ToyTarget, hash_model


def test_an_unknown_drafter_is_refused_before_the_model_is_touched():
    with pytest.raises(InvalidSpec, match="no drafter is named 'sufix'"):
        load("no/such-model", drafter="sufix")


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_a_missing_backend_names_the_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{module}.*pip install 'draftwood\[hf\]'"):
        load("some/model", drafter="none")


@pytest.mark.parametrize(
    "name", ["./no-such-folder", "/no/such/folder", "~/no-such-folder", "a/b/c"]
)
def test_a_path_that_is_no_folder_is_refused(name):
    pytest.importorskip("transformers")
    with pytest.raises(ModelNotFound, match="is no folder; give a model folder or a Hub id"):
        load(name, drafter="none")


def test_a_folder_without_a_model_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ModelNotFound, match=r"holds no config\.json"):
        load(tmp_path, drafter="none")


def test_a_hub_name_that_cannot_be_reached_is_refused(monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match="Hub id that is cached or can be reached"):
        load("draftwood/there-is-no-such-model", drafter="none")


def test_an_unknown_device_or_dtype_is_refused():
    pytest.importorskip("transformers")
    with pytest.raises(InvalidOption, match="no device is named 'gpu'"):
        load("some/model", drafter="none", device="gpu")
    with pytest.raises(InvalidOption, match="device 'cuda:99' is not there"):
        load("some/model", drafter="none", device="cuda:99")
    with pytest.raises(InvalidOption, match="dtype 'int8'"):
        load("some/model", drafter="none", device="cpu", dtype="int8")


@pytest.mark.parametrize("module", ["draftwood", "draftwood.load", "draftwood.testing"])
def test_importing_loads_neither_torch_nor_transformers(module):
    heavy = ("torch", "transformers", "hypothesis", "matplotlib", "fastapi")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_default_drafter_is_recall_and_the_default_cost_is_measured():
    parameters = inspect.signature(load).parameters
    assert isinstance(make_drafter(parameters["drafter"].default), RecallDrafter)
    assert parameters["cost"].default == "auto"


def test_a_cost_that_is_none_is_refused_before_the_model_is_touched():
    with pytest.raises(InvalidOption, match="cost is 'cheap'; use 'auto', 'none', or 0 or more"):
        load("no/such-model", cost="cheap")


def test_a_drafter_whose_model_cannot_be_loaded_is_ended(tmp_path):
    pytest.importorskip("transformers")
    kept = tmp_path / "kept.recall"
    RecallDrafter(path=str(kept)).recall.close()
    for _ in range(2):  # the second time it would be busy
        with pytest.raises(ModelNotFound):
            load(tmp_path / "nowhere", drafter=f"recall:path={kept}")


def test_options_for_transformers_are_passed_on(monkeypatch):
    given = {}

    def read(model, **options):
        given.update(options, model=model)
        raise ModelNotFound("seen")

    monkeypatch.setattr(sys.modules["draftwood.targets.engines"], "read_model", read)
    wanted = {
        "tokenizer": object(),
        "device": "cpu",
        "dtype": "auto",
        "attention": "eager",
        "revision": "v2",
        "trust_remote_code": True,
        "device_map": "auto",
        "quantization_config": object(),
        "packed": False,
    }
    with pytest.raises(ModelNotFound, match="seen"):
        load("some/model", **wanted)
    assert given == {"model": "some/model", **wanted}


def test_an_option_that_is_none_is_named_with_the_nearest_that_is():
    pytest.importorskip("transformers")
    with pytest.raises(InvalidOption, match=r"named 'devise'; did you mean 'device'"):
        load("some/model", devise="cpu")


def test_the_signature_of_load_shows_what_may_be_said_of_a_model():
    shown = str(inspect.signature(load))
    assert "device: str | None = None" in shown
    assert "trust_remote_code: bool = False" in shown
    assert (
        LoadOptions.__optional_keys__
        == DEFAULTS.keys()
        <= inspect.signature(load).parameters.keys()
    )
    assert all(f"{name}:" in load.__doc__ or f"{name}," in load.__doc__ for name in DEFAULTS)


def tell_time(monkeypatch, clock):
    for module in ("measured", "timed_passes"):
        monkeypatch.setattr(f"draftwood.budget.{module}.perf_counter", clock)


def test_of_a_slow_model_few_passes_are_timed_and_none_of_several_sequences(monkeypatch):
    clock, passes = [0.0], []
    tell_time(monkeypatch, lambda: clock[0])

    class Slow(ToyTarget):
        def open(self, prompt):
            cursor = super().open(prompt)
            score = cursor.score

            def slow(draft):
                clock[0] += 1.0
                passes.append(len(draft))
                return score(draft)

            cursor.score = slow
            return cursor

    _sweep(MeasuredCost(), Slow(hash_model(8)))
    assert passes == [0]


def test_of_a_quick_model_batches_are_timed_too(monkeypatch):
    clock = itertools.count(step=0.001)  # a quick model whatever this machine does beside it
    tell_time(monkeypatch, lambda: next(clock))
    cost = MeasuredCost()
    _sweep(cost, ToyTarget(hash_model(8)))
    for batch in (1, 8):
        assert cost.seconds(0, batch=batch, context=32) < 0.5  # 1.0 where nothing was timed
