"""Runs the server until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from draftwood.errors import InvalidOption
from draftwood.language_model import LanguageModel
from draftwood.server.app import create_app
from draftwood.server.connection import uvicorn_config
from draftwood.server.engine import Engine
from draftwood.server.guard import LOOPBACK
from draftwood.server.keys import ApiKeys
from draftwood.server.limits import ServerLimits
from draftwood.server.metrics import ServerMetrics

log = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address or name."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_address(host: str, port: int, keys: Path | None) -> None:
    """Refuse a port that is none, and to be reached from elsewhere without keys.

    Raises:
        InvalidOption: for a port outside 0 to 65535, or an address that is not this machine's own,
            where there are no keys.
    """
    if not 0 <= port <= 65535:  # getaddrinfo would take its last 16 bits
        raise InvalidOption(f"port is {port}; give one from 1 to 65535, or 0 for a free one")
    if keys is None and not is_loopback(host):
        raise InvalidOption(
            f"host is {host!r}, which other machines reach, and there are no keys; give "
            "--api-keys FILE, or bind to 127.0.0.1"
        )


class _Server(uvicorn.Server):
    """uvicorn, which tells the engine at once when it is told to stop.

    A signal is not raised again when all is done, as uvicorn would: that ends the process before
    the model's files are closed.
    """

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stop()
        self.force_exit = self.should_exit  # told twice
        self.should_exit = True


def run_server(
    llm: LanguageModel,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Path | None = None,
    limits: ServerLimits | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a model until SIGINT or SIGTERM.

    Running texts then get `limits.grace_seconds` to end; what is left is cut where it stands, and
    returned as it is. ready: called with the server's address once it listens. port: 0: a free one.

    Raises:
        InvalidOption: for an address that needs keys or cannot be used, or unusable keys.
    """
    check_address(host, port, keys)
    limits = limits or ServerLimits()
    known = None if keys is None else ApiKeys(keys)
    listening = listening_socket(host, port)
    engine = Engine(llm, limits, ServerMetrics(llm.name))
    timer: list[threading.Timer] = []

    def stop() -> None:
        engine.drain()
        if timer:  # told twice: at once
            engine.cut()
            return
        timer.append(threading.Timer(limits.grace_seconds, engine.cut))
        timer[0].daemon = True
        timer[0].start()

    try:
        hosts = (LOOPBACK | {host.strip("[]").lower()}) if is_loopback(host) else None
        app = create_app(engine, keys=known, hosts=hosts)
        config = uvicorn_config(app, limits)
        if ready is not None:
            name, bound = listening.getsockname()[:2]
            ready(f"http://{f'[{name}]' if ':' in name else name}:{bound}")
        _Server(config, stop).run(sockets=[listening])
    finally:
        for each in timer:
            each.cancel()
        engine.close()
        listening.close()


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    name = host.strip("[]")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)  # at once: whoever is told the address may come before the loop runs
    except (OSError, OverflowError) as error:
        raise InvalidOption(
            f"cannot listen on {host} port {port} ({error}); choose another --port or --host"
        ) from None
    return made
