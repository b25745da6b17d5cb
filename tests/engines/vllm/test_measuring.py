"""The curve of a model in a real vLLM: `draftwood measure --vllm`."""

from __future__ import annotations

import json
import sys

import pytest

from draftwood.budget.cost import CurveCost
from draftwood.cli import app as command_line
from tests.engines.vllm.engine import make_model, needs_vllm


def measure(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["draftwood", "measure", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        command_line.main()
    return int(left.value.code or 0)


@needs_vllm
def test_the_curve_of_a_model_in_vllm_is_a_file_that_advice_reads(tmp_path, monkeypatch):
    model, out = make_model(tmp_path / "model"), tmp_path / "curve.json"
    settings = {
        "dtype": "float32",
        "enforce_eager": True,
        "kv_cache_memory_bytes": 64 << 20,
        "distributed_executor_backend": "uni",
    }
    sizes = ("--batches", "1,2", "--drafted", "0,8", "--context", "40", "--repeats", "1")
    code = measure(
        monkeypatch, "--vllm", model, "-o", out, *sizes, "--vllm-args", json.dumps(settings)
    )
    assert code == 0
    found = json.loads(out.read_text())
    assert set(found["batches"]) == {"1", "2"}
    assert [tokens for tokens, _ in found["batches"]["2"]] == [0, 16]
    assert found["context"] >= 40
    assert found["how"].startswith("vLLM, estimated")
    assert CurveCost.read(out).seconds(8, batch=1) > 0


@needs_vllm
def test_a_model_that_vllm_does_not_load_is_named(tmp_path, monkeypatch, capsys):
    code = measure(monkeypatch, "--vllm", tmp_path / "none", "-o", tmp_path / "curve.json")
    assert code == 2
    assert "vLLM does not start with" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[1]", "{", "x"])
def test_arguments_that_are_no_object_are_refused(tmp_path, monkeypatch, capsys, text):
    words = ("--vllm", "m", "-o", tmp_path / "curve.json", "--vllm-args", text)
    assert measure(monkeypatch, *words) == 2
    assert "give a JSON object" in capsys.readouterr().err
