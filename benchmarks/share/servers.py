"""Servers on this machine that requests are spread over."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

LONG = 120.0
"""Seconds that a server may take to load its model."""


@dataclass
class Server:
    """A running `draftwood serve`."""

    url: str

    def complete(self, prompt: list[int], tokens: int) -> tuple[int, int]:
        """Tokens and steps of one greedy answer."""
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0}
        answer = self._ask("/v1/completions", json.dumps(body).encode())
        figures = answer["metrics"]
        return answer["usage"]["completion_tokens"], figures["steps"]

    def shared(self) -> dict[str, Any]:
        """What it published and what came; empty where it does not share."""
        found: dict[str, Any] = self._ask("/draftwood/history", None)
        return dict(found.get("share", {}))

    def _ask(self, path: str, body: bytes | None) -> Any:
        request = urllib.request.Request(
            self.url + path, body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            return json.load(answer)


@contextmanager
def serving(count: int, model: str, drafter: str, share: str | None) -> Iterator[Sequence[Server]]:
    """So many servers of one model."""
    command = [sys.executable, "-m", "draftwood", "serve", "--model", model, "--port", "0"]
    command += ["--drafter", drafter]
    if share is not None:
        command += ["--share", share]
    with ExitStack() as stack:
        running = []
        for _ in range(count):
            process = subprocess.Popen(
                command,
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            stack.callback(_end, process)
            running.append(process)
        yield [Server(_address(process)) for process in running]


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        found = re.search(r"at (http://\S+)", line)
        if found:
            threading.Thread(target=process.stderr.read, daemon=True).start()  # nothing waits on it
            return found[1]
    raise SystemExit(f"a server did not start:\n{''.join(said)}")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(LONG)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
