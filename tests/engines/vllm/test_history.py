"""History of a real engine: after a restart, after SIGKILL, and beside a second rank."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.vllm.engine import make_model
from tests.engines.vllm.engine import needs_vllm as pytestmark  # noqa: F401

REPO = Path(__file__).resolve().parents[3]
SCRIPT = """
import json, os, sys
from tests.engines.vllm.engine import PROPOSER, drafting_of, ours, start
from vllm import SamplingParams

model, folder, ranks = sys.argv[1:4]
if __name__ == "__main__":
    options = {"tensor_parallel_size": int(ranks)} if int(ranks) > 1 else {}
    if options:
        options["distributed_executor_backend"] = "mp"
    engine = start(
        model, speculative_config=PROPOSER, additional_config=ours(path=folder), **options
    )
    prompts = [f"select a, b from t where a = {at} and b = {at}; " for at in range(4)]
    greedy = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    outputs = engine.generate(prompts, greedy, use_tqdm=False)
    texts = [list(each.outputs[0].token_ids) for each in outputs]
    steps = None if options else drafting_of(engine).figures.steps
    print(json.dumps({"texts": texts, "steps": steps}), flush=True)
    if "kill" in sys.argv:
        os.kill(os.getpid(), 9)
"""


def run(model, folder, *, ranks=1, kill=False):
    script = folder.parent / "serve.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(model), str(folder), str(ranks), *["kill"] * kill],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO), "VLLM_CPU_KVCACHE_SPACE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
    )
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr[-3000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_a_second_run_takes_fewer_steps_even_after_a_kill(model, tmp_path):
    folder = tmp_path / "kept"
    cold = run(model, folder, kill=True)
    warm = run(model, folder)
    assert warm["texts"] == cold["texts"]
    assert warm["steps"] < cold["steps"] / 2
    assert [each.name for each in folder.iterdir()] == ["history-0.recall"]


def test_two_ranks_start_with_a_path_and_write_one_file(model, tmp_path):
    folder = tmp_path / "kept"
    one = run(model, tmp_path / "other")
    two = run(model, folder, ranks=2)
    assert two["texts"] == one["texts"]
    assert [each.name for each in folder.iterdir()] == ["history-0.recall"]
