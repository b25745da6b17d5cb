"""Errors as OpenAI's API shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from draftwood.errors import DraftwoodError


class Refusal(Exception):
    """A request that is not answered, and why.

    status: of the HTTP response. kind, param, code: `type`, `param` and `code` of the error object.
    headers: further ones, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The response's JSON."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    @classmethod
    def of(cls, error: Exception) -> Refusal:
        """Of an error that ended a request: the caller's to mend, or the server's."""
        if isinstance(error, Refusal):
            return error
        if isinstance(error, DraftwoodError):
            return cls(400, str(error))
        return cls(
            500,
            f"the server failed ({type(error).__name__}); its log says more",
            kind="server_error",
        )

    @classmethod
    def of_fields(cls, errors: Sequence[Mapping[str, Any]]) -> Refusal:
        """Of what pydantic found wrong with a request."""
        first = errors[0]
        place = [str(part) for part in first["loc"] if part != "body"]
        where = ".".join(place) or None
        message = str(first["msg"]).removeprefix("Value error, ")
        return cls(400, f"{where}: {message}" if where else message, param=where)


def busy(seconds: int) -> Refusal:
    """The queue is full. seconds: when to try again."""
    return Refusal(
        429,
        f"the queue is full; try again in {seconds} s",
        kind="rate_limit_error",
        code="queue_full",
        headers={"Retry-After": str(seconds)},
    )


def stopping() -> Refusal:
    """The server shuts down."""
    return Refusal(
        503,
        "the server is shutting down; send the request to another one",
        kind="server_error",
        code="shutting_down",
        headers={"Retry-After": "5"},
    )
