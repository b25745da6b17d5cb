"""A server in this process, on a free port, for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from draftwood.language_model import LanguageModel
from draftwood.server.app import create_app
from draftwood.server.connection import uvicorn_config
from draftwood.server.engine import Engine
from draftwood.server.guard import LOOPBACK
from draftwood.server.keys import ApiKeys
from draftwood.server.limits import ServerLimits
from draftwood.server.metrics import ServerMetrics
from draftwood.server.run import listening_socket

WAIT = 30.0


@dataclass
class Served:
    url: str
    engine: Engine

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    def idle(self) -> bool:
        return self.engine.running == self.engine.waiting == 0


@contextmanager
def served(
    llm: LanguageModel, *, limits: ServerLimits | None = None, keys: Path | None = None
) -> Iterator[Served]:
    limits = limits or ServerLimits(grace_seconds=0)
    engine = Engine(llm, limits, ServerMetrics(llm.name))
    listening = listening_socket("127.0.0.1", 0)
    app = create_app(engine, keys=None if keys is None else ApiKeys(keys), hosts=LOOPBACK)
    config = uvicorn_config(app, limits)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        until(lambda: server.started)
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", engine)
    finally:
        engine.cut()
        server.should_exit = True
        thread.join()
        engine.close()
        listening.close()


def until(true) -> None:
    """Wait until something holds; no test asserts how long that takes."""
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
