"""What may be said about a model that is loaded by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from draftwood.errors import InvalidOption


class LoadOptions(TypedDict, total=False):
    """How a model is found, read and placed; `draftwood.load` explains each."""

    tokenizer: Any
    device: str | None
    dtype: str | None
    attention: str | None
    revision: str | None
    trust_remote_code: bool
    device_map: Any
    quantization_config: Any
    packed: bool | None


DEFAULTS: Final[LoadOptions] = {
    "tokenizer": None,
    "device": None,
    "dtype": None,
    "attention": None,
    "revision": None,
    "trust_remote_code": False,
    "device_map": None,
    "quantization_config": None,
    "packed": None,
}


def complete(options: Mapping[str, Any]) -> LoadOptions:
    """The options, with the defaults of those that are left out.

    Raises:
        InvalidOption: for an unknown name; the nearest one is suggested.
    """
    for name in options:
        if name not in DEFAULTS:
            raise InvalidOption.unknown("option of a model", name, DEFAULTS)
    return {**DEFAULTS, **options}  # type: ignore[typeddict-item]


def shown_options() -> list[tuple[str, str, Any]]:
    """Name, type as it is written, and default of every option."""
    written = LoadOptions.__annotations__
    return [(name, written[name].__forward_arg__, value) for name, value in DEFAULTS.items()]
