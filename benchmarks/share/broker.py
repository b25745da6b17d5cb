"""The log that a benchmark runs over: a broker of its own, or a folder."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_log(kind: str) -> Iterator[str]:
    """The URL of an empty log. kind: redis, nats, or files.

    Raises:
        SystemExit: where the broker is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="draftwood-share-") as room:
        if kind == "files":
            yield f"file://{room}/log?poll=0.02"
            return
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            _command(kind, port, room), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait(port)
            yield f"redis://127.0.0.1:{port}/0" if kind == "redis" else f"nats://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _command(kind: str, port: int, room: str) -> list[str]:
    program = {"redis": "redis-server", "nats": "nats-server"}[kind]
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(f"{program} is not installed; use --log files")
    folder = Path(room) / "broker"
    folder.mkdir()
    if kind == "redis":
        return [
            *(found, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        ]
    return [found, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)]


def _wait(port: int) -> None:
    for _ in range(1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise SystemExit("the broker does not listen after 10 s")
