"""Brokers on loopback that tests start themselves, and a wire that can be cut."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

WAIT = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(true, seconds: float = WAIT) -> None:
    """Wait until something holds; no test asserts how long that takes."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


class Broker:
    """A server in a folder of its own; `kill` and `start` again, as often as needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    def command(self) -> list[str]:
        raise NotImplementedError

    def url(self, port: int | None = None) -> str:
        raise NotImplementedError

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.listens)

    def listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the broker ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class RedisBroker(Broker):
    def command(self) -> list[str]:
        return [
            need("redis-server", "redis-server"),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        ]

    def url(self, port: int | None = None) -> str:
        return f"redis://127.0.0.1:{port or self.port}/0"


class NatsBroker(Broker):
    def command(self) -> list[str]:
        return [
            need("nats-server", "nats-server"),
            *("-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder)),
        ]

    def url(self, port: int | None = None) -> str:
        return f"nats://127.0.0.1:{port or self.port}"


def need(program: str, package: str) -> str:
    """Where a program is; the test is skipped where it is not."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed (Debian's package {package})")
    return found


class Wire:
    """A proxy on loopback before a broker; `cut` ends all connections and takes no more."""

    def __init__(self, port: int) -> None:
        self.beyond = port
        self.port = free_port()
        self._open: list[socket.socket] = []
        self._whole = threading.Event()
        self._closed = False
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._listening.settimeout(0.1)
        self._whole.set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        self._whole.clear()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def mend(self) -> None:
        self._whole.set()

    def close(self) -> None:
        self._closed = True
        self.cut()
        self._thread.join()
        self._listening.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listening.accept()
            except OSError:
                continue
            if not self._whole.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.beyond))
            except OSError:
                near.close()
                continue
            near.settimeout(None)
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
