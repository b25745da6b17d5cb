"""The log that texts travel through: one small protocol, and the transports behind a URL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qs, urlsplit

from draftwood.errors import InvalidOption

BEGINNING: Final = ""
"""The position before the first message that the log still has."""
CHANNEL: Final = "draftwood"
KEEP_SECONDS: Final = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A message as it was read. position: to read on after it. time: by the broker's clock."""

    position: str
    data: bytes
    time: float


class TextLog(Protocol):
    """Messages in an order that all readers see, kept for a while. Used by one thread at a time.

    Every call may raise LogUnreachable; the next one tries again, over a new connection where
    needed.
    """

    def append(self, message: bytes) -> None:
        """Return once the log has it; the same bytes MAY be kept once where they come twice."""

    def read(self, after: str, wait: float) -> Sequence[LogMessage]:
        """Some of the messages behind a position, in order; waits up to `wait` seconds for one."""

    def end(self) -> str:
        """The position of the newest message."""

    def trim(self, until: str) -> None:
        """Let go of the messages up to a position, that one included."""

    def close(self) -> None:
        """Let go of the connection; a second call does nothing."""


@dataclass(frozen=True, slots=True)
class LogAddress:
    """A log's URL, taken apart. url: without what is ours. keep: seconds that messages are kept."""

    url: str
    scheme: str
    channel: str = CHANNEL
    keep: float = KEEP_SECONDS
    poll: float = 0.2

    @classmethod
    def read(cls, url: str) -> LogAddress:
        """Take a URL apart: `redis://broker:6379/0?channel=chat&keep=86400`.

        Raises:
            InvalidOption: a scheme or a parameter that is not known.
        """
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        if not scheme:
            raise InvalidOption(
                f"{url!r} is no address of a log; use redis://HOST:PORT/0, nats://HOST:PORT, "
                "file:///FOLDER or another URL that fsspec knows, such as s3://BUCKET/FOLDER"
            )
        given = parse_qs(parts.query)
        known = {"channel", "keep", "poll"}
        channel = given.get("channel", [CHANNEL])[-1]
        if not channel or not channel.replace("-", "").replace("_", "").isalnum():
            raise InvalidOption(
                f"channel is {channel!r}; use letters, digits, hyphens and underscores"
            )
        rest = "&".join(
            f"{name}={value}"
            for name, values in given.items()
            if name not in known
            for value in values
        )
        return cls(
            parts._replace(query=rest).geturl(),
            scheme,
            channel,
            _seconds("keep", given, KEEP_SECONDS, 1.0),
            _seconds("poll", given, 0.2, 0.01),
        )

    @property
    def shown(self) -> str:
        """The URL without a password."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        port = "" if parts.port is None else f":{parts.port}"
        return f"{self.scheme}://{host}{port}{parts.path}?channel={self.channel}"


def open_log(url: str) -> TextLog:
    """The log behind a URL; nothing is connected before the first call.

    Raises:
        InvalidOption: a URL that is none.
        MissingExtra: where the transport's package is not installed.
    """
    address = LogAddress.read(url)
    if address.scheme in ("redis", "rediss", "valkey", "valkeys", "unix"):
        from draftwood.share.redis_log import RedisLog

        return RedisLog(address)
    if address.scheme in ("nats", "tls"):
        from draftwood.share.nats_log import NatsLog

        return NatsLog(address)
    from draftwood.share.folder_log import FolderLog

    return FolderLog(address)


def _seconds(name: str, given: dict[str, list[str]], default: float, least: float) -> float:
    written = given.get(name, [str(default)])[-1]
    try:
        seconds = float(written)
    except ValueError:
        seconds = -1.0
    if not least <= seconds < 1e10:
        raise InvalidOption(f"{name} is {written!r}; use {least} or more seconds")
    return seconds
