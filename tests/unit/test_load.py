"""What `load` refuses, and what it needs no model for."""

import inspect
import subprocess
import sys

import pytest

from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import InvalidOption, InvalidSpec, MissingExtra, ModelNotFound
from draftwood.load import load


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


def test_the_default_drafter_is_recall():
    default = inspect.signature(load).parameters["drafter"].default
    assert isinstance(make_drafter(default), RecallDrafter)
