"""The adapters of examples/ serve their engines exactly, and say so when run as scripts."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name", ["chain_engine", "tree_engine"])
def test_an_adapter_drafts_what_its_engine_accepts(name):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    tokens, passes, accepted, _drafted = map(int, re.findall(r"\b\d{2,}\b", done.stdout))
    assert accepted > tokens / 2  # most of the text was drafted
    assert passes < tokens / 8  # with 4 rows a pass, plain decoding takes a quarter of the tokens


@pytest.mark.parametrize("name", ["chain_engine", "tree_engine"])
def test_an_adapter_is_about_thirty_lines(name):
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    adapter = source[source.index("# ---- the adapter") : source.index("# ---- the imaginary")]
    code = [line for line in adapter.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 35


def test_examples_import_without_running():
    for path in EXAMPLES.glob("*.py"):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        assert callable(module.main)
