"""NATS JetStream: a stream a channel. nats-py wants an event loop, which has a thread here."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from draftwood.errors import LogUnreachable, MissingExtra
from draftwood.share.log import BEGINNING, LogAddress, LogMessage

_COUNT: Final = 64
_LONGEST: Final = 5.0

T = TypeVar("T")


class NatsLog:
    """A log in a JetStream stream with file storage, which is made where there is none.

    A message is confirmed once the stream has stored it. Repeated ones that come within two minutes
    are left out by the server.
    """

    def __init__(self, address: LogAddress) -> None:
        try:
            import nats
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"{address.scheme}:// needs {error.name}; pip install 'draftwood[share]'"
            ) from None
        self._nats: Any = nats
        self._address = address
        self._stream = f"draftwood-{address.channel}"
        self._subject = f"draftwood.{address.channel}"
        self._client: Any = None
        self._jetstream: Any = None
        self._subscription: Any = None
        self._at = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="draftwood-nats", daemon=True
        )
        self._thread.start()

    def append(self, message: bytes) -> None:
        """Publish and wait for the server's word that it is stored."""
        key = hashlib.blake2b(message, digest_size=16).hexdigest()  # not the publisher's numbers

        async def publish() -> None:
            await self._jetstream.publish(
                self._subject, message, timeout=_LONGEST, headers={"Nats-Msg-Id": key}
            )

        self._run(publish)

    def read(self, after: str, wait: float) -> Sequence[LogMessage]:
        """Messages behind a sequence number, by an ordered look that keeps nothing on the server.

        Where the position is not where the last call ended, the look begins anew.
        """

        async def fetch() -> list[LogMessage]:
            if self._subscription is None or self._at != after:
                await self._begin(after)
            try:
                found = await self._subscription.fetch(_COUNT, timeout=max(0.01, wait))
            except TimeoutError:
                return []
            messages = []
            for each in found:
                about = each.metadata
                place = str(about.sequence.stream)
                messages.append(LogMessage(place, each.data, about.timestamp.timestamp()))
            if messages:
                self._at = messages[-1].position
            return messages

        return self._run(fetch)

    def end(self) -> str:
        """The newest message's number in the stream."""

        async def last() -> str:
            about = await self._jetstream.stream_info(self._stream)
            number = about.state.last_seq
            return str(number) if number else BEGINNING

        return self._run(last)

    def trim(self, until: str) -> None:
        """Remove messages up to one."""
        if until == BEGINNING:
            return

        async def purge() -> None:
            await self._jetstream.purge_stream(self._stream, seq=int(until) + 1)

        self._run(purge)

    def close(self) -> None:
        """Close the connection and end the thread."""
        if self._loop.is_closed():
            return
        with suppress(Exception):  # it is gone either way
            asyncio.run_coroutine_threadsafe(self._disconnected(), self._loop).result(_LONGEST)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LONGEST)
        if not self._thread.is_alive():
            self._loop.close()

    async def _connected(self) -> None:
        if self._client is not None and self._client.is_connected:
            return
        await self._disconnected()

        async def quiet(_: Exception) -> None:
            """The calls that fail say so themselves."""

        self._client = self._nats.NATS()  # held at once, so that a half-made one is closed, too
        await self._client.connect(
            self._address.url,
            connect_timeout=_LONGEST,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            error_cb=quiet,
        )
        self._jetstream = self._client.jetstream(timeout=_LONGEST)
        try:
            await self._jetstream.stream_info(self._stream)
        except self._nats.js.errors.NotFoundError:
            await self._jetstream.add_stream(
                name=self._stream, subjects=[self._subject], max_age=self._address.keep
            )

    async def _begin(self, after: str) -> None:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.unsubscribe()
        if after == BEGINNING:
            chosen = ConsumerConfig(
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=60.0,
            )
        else:
            chosen = ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=int(after) + 1,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=60.0,
            )
        self._subscription = await self._jetstream.pull_subscribe(
            self._subject, stream=self._stream, config=chosen
        )
        self._at = after

    async def _disconnected(self) -> None:
        client, self._client, self._subscription = self._client, None, None
        if client is not None:
            with suppress(Exception):  # it is gone either way
                await asyncio.wait_for(client.close(), 1.0)
            await asyncio.sleep(0.01)  # transports close their sockets in the loop's next turns

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def within() -> T:
            await self._connected()
            return await work()

        done = asyncio.run_coroutine_threadsafe(within(), self._loop)
        try:
            return done.result(4 * _LONGEST)
        except Exception as error:  # of nats-py, asyncio and sockets: the next call begins anew
            done.cancel()
            self._subscription = None  # and with it the connection, if that is what is broken
            raise LogUnreachable(
                f"{self._address.shown} cannot be used ({error!r}); see whether the broker runs "
                "with JetStream"
            ) from error
