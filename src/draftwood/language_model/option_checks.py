"""Checks of the options of a generation call: the value to use, or an error that names it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from draftwood.errors import InvalidOption
from draftwood.sampling.law import Sampling
from draftwood.sampling.processors import LogitsProcessor

Cost: TypeAlias = float | Literal["auto"] | None
"""What a drafted token costs: "auto" (measured), a part of a plain step, or None: no account."""

CostOption: TypeAlias = Cost | Literal["none"]
"""The same as a caller may write it: "none" is None."""


def whole(name: str, value: Any, *, least: int = 0, most: int | None = None) -> int:
    """A whole number within [least, most]; NumPy's are taken, bool and float are not.

    Raises:
        InvalidOption: for anything else.
    """
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise InvalidOption(f"{name} is {_shown(value)}; give a whole number {limits}")
    return number


def number(name: str, value: Any, *, finite: bool = True) -> float:
    """A number; bool, text and NaN are refused.

    Raises:
        InvalidOption: for anything else.
    """
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:  # a whole number that no float reaches
            found = math.inf if value > 0 else -math.inf
        if not math.isnan(found) and (math.isfinite(found) or not finite):
            return found
    raise InvalidOption(f"{name} is {_shown(value)}; give a number, such as 0.7")


def cost_of(name: str, value: Any) -> Cost:
    """What a caller wrote as a cost: "auto", None, "none", or a part of a plain step.

    Raises:
        InvalidOption: for anything else.
    """
    if value is None or value == "none":
        return None
    if value == "auto":
        return "auto"
    if isinstance(value, str) or number(name, value) < 0:
        raise InvalidOption(
            f"{name} is {_shown(value)}; use 'auto', 'none', or 0 or more, such as 0.01 of a step"
        )
    return float(value)


def _seconds(name: str, value: Any) -> float:
    found = number(name, value, finite=False)
    if found < 0:
        raise InvalidOption(f"{name} is {_shown(value)}; give seconds, 0 or more")
    return found


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


def _whole(least: int, most: int | None = None) -> Callable[[str, Any], int]:
    return lambda name, value: whole(name, value, least=least, most=most)


def _is(kind: type | tuple[type, ...], wanted: str) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise InvalidOption(f"{name} is {_shown(value)}; give {wanted}")
        return value

    return check


def _function(name: str, value: Any) -> Any:
    if not callable(value):
        raise InvalidOption(f"{name} is {_shown(value)}; give something that can be called")
    return value


def _stop(name: str, value: Any) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else value
    if stops is None:
        return ()
    if not isinstance(stops, Sequence) or not all(isinstance(each, str) for each in stops):
        raise InvalidOption(f"{name} is {_shown(value)}; give a string or a list of strings")
    if "" in stops:
        raise InvalidOption("a stop string is empty; give at least one character")
    return tuple(stops)


def _ids(name: str, value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray, set)):
        raise InvalidOption(f"{name} is {_shown(value)}; give a list of token ids")
    return tuple(whole(f"an entry of {name}", each, most=2**31 - 1) for each in value)


def _bias(name: str, value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise InvalidOption(f"{name} is {_shown(value)}; give a dict from token id to number")
    return {
        whole(f"a token id of {name}", token, most=2**31 - 1): number(
            f"{name}[{token}]", added, finite=False
        )
        for token, added in value.items()
    }


def _processors(name: str, value: Any) -> tuple[LogitsProcessor, ...]:
    if callable(value):
        return (value,)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidOption(f"{name} is {_shown(value)}; give a list of callables")
    return tuple(_function(f"an entry of {name}", each) for each in value)


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise InvalidOption(f"{name} is {_shown(value)}; use {' or '.join(map(repr, choices))}")
        return str(value)

    return check


def _prediction(name: str, value: Any) -> Any:
    if not isinstance(value, (str, Sequence, np.ndarray)) or isinstance(value, bytes):
        raise InvalidOption(f"{name} is {_shown(value)}; give text, token ids, or a list of such")
    return value


def _drafter(name: str, value: Any) -> Any:
    if not isinstance(value, str) and not callable(getattr(value, "open", None)):
        raise InvalidOption(
            f"{name} is {_shown(value)}; give a spec such as 'recall', or a drafter with `open`"
        )
    return value


CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "max_tokens": _or_none(_whole(1)),
    "max_time": _or_none(_seconds),
    "temperature": _or_none(number),
    "top_k": _or_none(_whole(0)),
    "top_p": _or_none(number),
    "min_p": _or_none(number),
    "repetition_penalty": _or_none(number),
    "sampling": _or_none(_is(Sampling, "a Sampling")),
    "seed": _or_none(_whole(0, 2**64 - 1)),
    "n": _or_none(_whole(1)),
    "stop": _stop,
    "stop_token_ids": _ids,
    "logprobs": _or_none(_whole(0)),
    "logit_bias": _or_none(_bias),
    "logits_processors": _processors,
    "drafter": _or_none(_drafter),
    "cost": lambda name, value: value if value == "loaded" else cost_of(name, value),
    "nodes": _or_none(_whole(0)),
    "prediction": _or_none(_prediction),
    "namespace": _is(str, "text"),
    "chat": _or_none(_is(bool, "True, False or None")),
    "tools": _or_none(_is((list, tuple), "a list of tools")),
    "chat_template_kwargs": _or_none(_is(Mapping, "a dict")),
    "metadata": _or_none(_is(Mapping, "a dict")),
    "on_step": _or_none(_function),
    "max_batch": _whole(1),
    "errors": _one_of("raise", "return"),
    "progress": _is(bool, "True or False"),
}


def _shown(value: Any) -> str:
    """The value as it stands in an error, at most 60 characters of it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
