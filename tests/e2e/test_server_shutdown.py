"""The command from its start to a signal: what runs is returned, and everything is closed."""

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("torch")
pytest.importorskip("fastapi", reason="pip install 'draftwood[server]'")
httpx = pytest.importorskip("httpx2")

ENDLESS = {
    "prompt": "SELECT title FROM films WHERE year =",
    "max_tokens": 2000,
    "logit_bias": {"1": -100},
    "draftwood": {"drafts": False},
    "stream": True,
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_ends_the_server_and_returns_what_runs(tmp_path):
    history = tmp_path / "history.dw"
    words = ["serve", "--model", "demo", "--port", "0", "--grace", "1", "--cost", "none"]
    words += ["--drafter", f"recall:path={history}"]
    with subprocess.Popen(
        [sys.executable, "-m", "draftwood", *words], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            url = None
            for line in server.stderr:
                if found := re.search(r"at (http://[\d.]+:\d+)", line):
                    url = found[1]
                    break
            assert url is not None, server.wait()
            with (
                httpx.Client(timeout=120) as client,
                client.stream("POST", f"{url}/v1/completions", json=ENDLESS) as answer,
                ThreadPoolExecutor(1) as thread,
            ):
                pieces = answer.iter_text()
                next(pieces)
                rest = thread.submit("".join, pieces)
                server.send_signal(signal.SIGTERM)
                body = rest.result()
            assert body.endswith("data: [DONE]\n\n")
            assert '"ended_by": "shutdown"' in body
            assert server.wait(timeout=120) == 0
        finally:
            server.kill()
    assert history.exists()
