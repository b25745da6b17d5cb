"""Redis and Valkey Streams: a stream a channel, a message an entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from draftwood.errors import InvalidOption, LogUnreachable, MissingExtra
from draftwood.share.log import BEGINNING, LogAddress, LogMessage

_FIELD: Final = b"m"
_COUNT: Final = 64
_TRIM_EVERY: Final = 64
"""Messages after which those that are too old are trimmed."""
_LONGEST: Final = 5.0
"""Seconds that an answer of the broker is waited for, beside what a read waits itself."""

T = TypeVar("T")


class RedisLog:
    """A log in a Redis stream.

    What the server has confirmed outlives it as far as its own persistence goes: with `appendonly
    yes` and `appendfsync always`, all of it.
    """

    def __init__(self, address: LogAddress) -> None:
        try:
            import redis
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"{address.scheme}:// needs {error.name}; pip install 'draftwood[share]'"
            ) from None
        self._errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        self._shown = address.shown
        self._stream = f"draftwood:{address.channel}"
        self._keep = address.keep
        self._appended = 0
        url = address.url
        if address.scheme.startswith("valkey"):
            url = "redis" + url[len("valkey") :]
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_connect_timeout=_LONGEST,
                socket_timeout=_LONGEST,
                single_connection_client=False,
                health_check_interval=0,
                retry=None,
            )
        except ValueError as error:
            raise InvalidOption(f"{self._shown} is no address of a log: {error}") from None

    def append(self, message: bytes) -> None:
        """Add an entry; entries that are older than `keep` go now and then."""

        def add() -> None:
            found = self._client.xadd(self._stream, {_FIELD: message})
            self._appended += 1
            if self._appended % _TRIM_EVERY == 0:
                now = int(found.split(b"-")[0])
                oldest = max(0, now - int(self._keep * 1000))
                self._client.xtrim(self._stream, minid=f"{oldest}-0", approximate=True)

        self._tried(add)

    def read(self, after: str, wait: float) -> Sequence[LogMessage]:
        """Entries behind one; BLOCK is kept below the time limit of the socket."""
        block = max(1, int(min(wait, _LONGEST / 2) * 1000))
        found = self._tried(
            lambda: self._client.xread({self._stream: after or "0-0"}, count=_COUNT, block=block)
        )
        entries = found[0][1] if isinstance(found, list) and found else _entries(found)
        return [
            LogMessage(place.decode(), fields.get(_FIELD, b""), int(place.split(b"-")[0]) / 1000.0)
            for place, fields in entries
        ]

    def end(self) -> str:
        """The newest entry's id."""
        found = self._tried(lambda: self._client.xrevrange(self._stream, count=1))
        return found[0][0].decode() if found else BEGINNING

    def trim(self, until: str) -> None:
        """Remove entries up to one."""
        if until == BEGINNING:
            return
        milliseconds, _, number = until.partition("-")
        beyond = f"{milliseconds}-{int(number or 0) + 1}"
        self._tried(lambda: self._client.xtrim(self._stream, minid=beyond, approximate=False))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _tried(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except self._errors as error:
            raise LogUnreachable(
                f"{self._shown} cannot be used ({error}); see whether the broker runs"
            ) from error


def _entries(found: Any) -> list[Any]:
    """Of an answer in the form of protocol 3, or of none."""
    if isinstance(found, dict) and found:
        (streams,) = found.values()
        return list(streams[0]) if streams and isinstance(streams[0], list) else list(streams)
    return []
