"""What every request has to pass before anybody reads it: host, type, size and time of its body."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from draftwood.server.limits import ServerLimits
from draftwood.server.refusal import Refusal

_SAFE: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Headers of every response."""

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts of this machine only."""


class RequestGuard:
    """ASGI middleware; refuses in OpenAI's shape.

    hosts: names that a Host header may have; None: any. Without keys this is what keeps web pages
    out that have a name of theirs point to this machine (DNS rebinding); a page's own form or
    script cannot send `application/json` to another origin without being asked first.
    """

    def __init__(
        self, app: ASGIApp, *, limits: ServerLimits, hosts: Collection[str] | None = None
    ) -> None:
        self._app = app
        self._limits = limits
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_SAFE]}
            await send(message)

        try:
            self._check(scope, Headers(scope=scope))
            if scope["method"] in ("POST", "PUT", "PATCH"):
                receive = _replay(await self._body(receive), receive)
        except Refusal as refusal:
            refused = JSONResponse(refusal.body(), refusal.status, refusal.headers)
            await refused(scope, receive, answer)
            return
        await self._app(scope, receive, answer)

    def _check(self, scope: Scope, headers: Headers) -> None:
        if self._hosts is not None and _host(headers.get("host", "")) not in self._hosts:
            raise Refusal(
                421, "this server answers to the names of this machine only; use localhost"
            )
        if scope["method"] != "POST":
            return
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, f"the content type is {kind or 'missing'!r}; send application/json")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.max_body:
            raise self._too_large()

    async def _body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the client went away before its request was complete")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limits.max_body:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            seconds = self._limits.body_seconds
            raise Refusal(408, f"the body took more than {seconds} s; send it faster") from None

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"the request has more than {self._limits.max_body} bytes; send less",
            headers={"Connection": "close"},
        )


def _host(header: str) -> str:
    """The name in a Host header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives a body that has come already, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
