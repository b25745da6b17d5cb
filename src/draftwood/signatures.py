"""Signatures that show options which a function takes as `**options`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def shows(options: Iterable[tuple[str, str, Any]]) -> Callable[[F], F]:
    """Decorator: options by name, type as it is written, and default, in place of `**options`.

    Type checkers read `**options: Unpack[...]`; this is for `help`, and for editors that ask
    `inspect.signature`.
    """
    chosen = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Written(kind)
        )
        for name, kind, default in options
    ]
    names = {each.name for each in chosen}

    def show(function: F) -> F:
        signature = inspect.signature(function)
        own = [
            each.replace(annotation=Written.of(each.annotation))
            for each in signature.parameters.values()
            if each.kind is not each.VAR_KEYWORD and each.name not in names
        ]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=own + chosen, return_annotation=Written.of(signature.return_annotation)
        )
        return function

    return show


class Written(str):
    """A type as it is written in the source; `help` shows it without quotes."""

    __slots__ = ()

    @classmethod
    def of(cls, annotation: Any) -> Any:
        """The annotation, written where it is a string."""
        return cls(annotation) if isinstance(annotation, str) else annotation

    def __repr__(self) -> str:
        return str(self)
