"""The settings that advice prints are options that the engines' own parsers take."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec

import pytest

from draftwood.advise.settings import _ENGINES

SPEC = "recall:mode=chain,cost=auto"


def words_of(name):
    """The words of each setting for an engine or a part of its name, without the program."""
    found = [text(SPEC) for engine, _, text in _ENGINES if engine.startswith(name)]
    assert found
    return [shlex.split(text) for text in found]


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_takes_the_settings():
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    for words in words_of("vllm"):
        assert words[:2] == ["vllm", "serve"]
        given = vars(parser.parse_args([*words[3:], "--model", words[2]]))
        config = given["speculative_config"]
        config = json.loads(config) if isinstance(config, str) else config
        assert config["num_speculative_tokens"] >= 5


def sglang_python():
    """A Python that has SGLang: this one, or the one that DRAFTWOOD_SGLANG_PYTHON names."""
    return sys.executable if find_spec("sglang") else os.environ.get("DRAFTWOOD_SGLANG_PYTHON")


@pytest.mark.skipif(sglang_python() is None, reason="SGLang is not installed")
def test_sglang_takes_the_settings():
    code = (
        "import argparse, json, sys\n"
        "from sglang.srt.server_args import ServerArgs\n"
        "parser = argparse.ArgumentParser()\n"
        "ServerArgs.add_cli_args(parser)\n"
        "given = vars(parser.parse_args(sys.argv[1:]))\n"
        "print(json.dumps({k: v for k, v in given.items() if 'speculative' in k}))\n"
    )
    (words,) = words_of("sglang-ngram")
    done = subprocess.run(
        [str(sglang_python()), "-c", code, *words[3:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout.splitlines()[-1])
    assert given["speculative_algorithm"] == "NGRAM"
    assert given["speculative_num_draft_tokens"] == 6
    assert given["speculative_ngram_max_bfs_breadth"] == 1
