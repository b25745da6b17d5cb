"""Follows the cache events of a vLLM engine (ZMQ), and publishes the texts that they make up.

    vllm serve MODEL --kv-events-config '{"enable_kv_cache_events": true, "endpoint": "tcp://*:5557"}'
    draftwood publish-events tcp://127.0.0.1:5557 redis://broker:6379/0 --tokenizer MODEL

Nothing is installed in the engine. Messages are three frames: topic, number, and msgpack of
[time, events, rank] (vllm/distributed/kv_events.py of vLLM 0.32).
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from draftwood.errors import BrokenRecord, InvalidOption, MissingExtra
from draftwood.share.block_texts import BlockTexts, stored_blocks
from draftwood.share.replica import Replica

log = logging.getLogger(__name__)

_WAIT_MS = 100


@dataclass(slots=True)
class CacheEventCounts:
    """Messages that came, and that were missed by their numbers; texts; events of no use."""

    messages: int = 0
    missed: int = 0
    texts: int = 0
    tokens: int = 0
    poison: int = 0


class CacheEventsPublisher:
    """Subscribes to an engine's events, in a thread, until `close`. replica: who publishes.

    Raises:
        MissingExtra: without pyzmq.
        InvalidOption: an endpoint that is none.
    """

    def __init__(
        self, endpoint: str, replica: Replica, *, topic: str = "", idle: float = 1.0
    ) -> None:
        try:
            import zmq
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"cache events need {error.name}; pip install 'draftwood[share]'"
            ) from None
        self.counts = CacheEventCounts()
        self.texts = BlockTexts(idle=idle)
        self._replica = replica
        sockets: Any = zmq
        self._context: Any = sockets.Context()
        self._socket: Any = self._context.socket(sockets.SUB)
        self._socket.setsockopt_string(sockets.SUBSCRIBE, topic)
        self._last: int | None = None
        try:
            self._socket.connect(endpoint)
        except sockets.ZMQError as error:
            self._socket.close()
            self._context.term()
            raise InvalidOption(
                f"{endpoint!r} is no endpoint of events ({error}); use tcp://HOST:5557"
            ) from None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="draftwood-events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End, and publish the texts that were growing."""
        self._stopping.set()
        self._thread.join()
        self._publish(float("inf"))
        self._socket.close()
        self._context.term()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._socket.poll(_WAIT_MS):
                    self._take(self._socket.recv_multipart())
                self._publish(time.monotonic())
            except Exception:  # of messages of anybody's
                self.counts.poison += 1
                log.debug("a message of the cache cannot be used", exc_info=True)

    def _take(self, frames: list[bytes]) -> None:
        import msgpack

        self.counts.messages += 1
        if len(frames) != 3:
            raise BrokenRecord(f"a message of {len(frames)} frames")
        number = int.from_bytes(frames[1], "big")
        if self._last is not None and number > self._last + 1:
            self.counts.missed += number - self._last - 1
        self._last = number
        batch = msgpack.unpackb(frames[2], raw=False, strict_map_key=False)
        for each in batch[1]:
            try:
                event = stored_blocks(each)
            except BrokenRecord:
                self.counts.poison += 1
                continue
            if event is not None:
                self.texts.add(event, time.monotonic())

    def _publish(self, now: float) -> None:
        for text in self.texts.finished(now):
            self._replica.finished(text)
            self.counts.texts += 1
            self.counts.tokens += len(text.tokens)
