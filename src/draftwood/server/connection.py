"""A connection whose requests have to come in time: uvicorn itself waits for headers for ever."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from draftwood.server.limits import ServerLimits
from draftwood.server.refusal import Refusal


class _TimedConnection(H11Protocol):
    """Ends a connection on which no complete headers come in time, with 408 where some came.

    The time runs from the connection's start, and from the first byte of every further request.
    Whoever opens many connections and never finishes a request so holds each for a while only; the
    time of bodies is the guard's.
    """

    header_seconds: ClassVar[float]
    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_headers(self) -> None:
        """Start the timer where headers are awaited, and stop it where they have come."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_watching()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_seconds, self._too_late)

    def _stop_watching(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _too_late(self) -> None:
        self._header_timer = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        began, _ = self.conn.trailing_data
        if began and self.conn.our_state is h11.IDLE:
            refusal = Refusal(
                408, f"the headers took more than {self.header_seconds} s; send them faster"
            )
            body = json.dumps(refusal.body()).encode()
            headers = [("content-type", "application/json"), ("connection", "close")]
            headers.append(("content-length", str(len(body))))
            for event in (
                h11.Response(status_code=refusal.status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def uvicorn_config(app: ASGIApp, limits: ServerLimits) -> uvicorn.Config:
    """How uvicorn serves an app of ours within its limits."""
    timed = type("TimedConnection", (_TimedConnection,), {"header_seconds": limits.header_seconds})
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        http=timed,
        ws="none",
        lifespan="off",
        limit_concurrency=4 * (limits.max_batch + limits.max_waiting) + 64,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=limits.grace_seconds + 10,
        h11_max_incomplete_event_size=64 * 1024,
    )
