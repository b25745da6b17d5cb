"""vLLM's server with both doors: mixed requests, streamed and aborted ones, metrics, the route."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engines.vllm.engine import NODES, make_model
from tests.engines.vllm.engine import needs_vllm as pytestmark  # noqa: F401

QUERY = "select a, b from t where a = {0} and b = {0}; "


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=["proposer", "scheduler"])
def server(request, model, tmp_path_factory):
    """The address of a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    speculative = {"model": "draftwood.vllm.Proposer", "num_speculative_tokens": NODES}
    options = {"draftwood": {"share": 8, "flush_seconds": 0.5, "log_seconds": 1.0}}
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", "m", "--port", str(port)),
        *("--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager"),
        *("--max-model-len", "256", "--max-num-seqs", "8"),
        *("--kv-cache-memory-bytes", str(64 << 20)),
        *("--speculative-config", json.dumps(speculative)),
        *("--additional-config", json.dumps(options)),
    ]
    if request.param == "scheduler":
        command += ["--scheduler-cls", "draftwood.vllm.Scheduler"]
    env = {k: v for k, v in os.environ.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**env, "VLLM_PLUGINS": "draftwood"}
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                get(f"{address}/health")
                break
            except OSError:
                time.sleep(0.25)
        else:
            pytest.fail(f"the server does not answer after 300 s: {log.read_text()[-3000:]}")
        yield address, log
        assert process.poll() is None, log.read_text()[-3000:]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


def post(address, **body):
    """The text of a completion; streamed: pieces, of which `leave` are read."""
    leave = body.pop("leave", None)
    asked = urllib.request.Request(
        f"{address}/v1/completions",
        json.dumps({"model": "m", "max_tokens": 30, "temperature": 0, **body}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=300) as answer:
        if not body.get("stream"):
            return json.loads(answer.read())["choices"][0]["text"]
        pieces = []
        for line in answer:
            if line.startswith(b"data: {"):
                pieces.append(json.loads(line[6:])["choices"][0]["text"])
                if leave is not None and len(pieces) >= leave:
                    break
        return "".join(pieces)


def test_sixty_mixed_requests(server):
    address, log = server
    plain = [post(address, prompt=QUERY.format(at), vllm_xargs={"draftwood": 0}) for at in range(4)]
    kinds = [
        {},
        {"stream": True},
        {"temperature": 0.8},
        {"stream": True, "leave": 2},
        {"vllm_xargs": {"draftwood_namespace": "one"}},
        {"vllm_xargs": {"draftwood_nodes": 2}},
        {"vllm_xargs": {"draftwood_prediction": "select a, b from t"}},
        {"cache_salt": "two"},
        {"temperature": 0.8, "seed": 3},
        {"stop": ["zz"]},
    ]

    def ask(at):
        kind = kinds[at % len(kinds)]
        return at, kind, post(address, prompt=QUERY.format(at % 4), **kind)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(60)))
    for at, kind, text in answers:
        if not kind.get("temperature") and "leave" not in kind and "stop" not in kind:
            assert text == plain[at % 4]
    time.sleep(1.2)
    metrics = get(f"{address}/metrics")
    accepted = re.findall(r"^draftwood_accepted_tokens_total\{.*\} ([\d.]+)$", metrics, re.M)
    assert sum(map(float, accepted)) > 100
    assert re.search(r"^vllm:spec_decode_num_accepted_tokens_total\{.*\} [1-9]", metrics, re.M)
    assert not re.search(r"^draftwood_errors_total\{", metrics, re.M)
    figures = json.loads(get(f"{address}/draftwood"))["engines"]["0"]
    assert figures["requests"] >= 50
    assert figures["errors"] == {}
    assert figures["namespaces"] >= 2
    assert "Draftwood: " in log.read_text()
    assert threading.active_count() < 50
