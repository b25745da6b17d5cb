"""The options of a generation call: their types, defaults and checks."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final, Literal, Self, TypeAlias, TypedDict, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from draftwood.errors import InvalidOption
from draftwood.protocols import Drafter, Step
from draftwood.sampling.law import Sampling
from draftwood.sampling.processors import LogitsProcessor

TokenSequence: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
"""Token ids, as a list or an array."""

Prediction: TypeAlias = str | TokenSequence | Sequence[str] | Sequence[TokenSequence]
"""A likely answer or several, each as text or as token ids."""

Cost: TypeAlias = float | Literal["auto"] | None
"""What a drafted token costs: "auto" (measured), a part of a plain step, or None: no account."""

CostOption: TypeAlias = Cost | Literal["none"]
"""The same as a caller may write it: "none" is None."""

F = TypeVar("F", bound=Callable[..., Any])


class Options(TypedDict, total=False):
    """How to generate one text; every option may be left out.

    max_tokens: generated tokens at most; None: until the model ends; left out, 256 or what the
    model's own generation config says.
    temperature: 0 is greedy; left out, it is 0 unless the model's generation config says
    `do_sample`. top_k, top_p, min_p, repetition_penalty: as `Sampling` defines them; where one is
    left out, the model's generation config decides. sampling: a `Sampling`
    in place of these five. seed: of the text at temperature > 0, the same with every drafter and
    with none; in [0, 2**64); left out, a new one is chosen.
    stop: a string, or several; the text ends before the first that occurs. stop_token_ids: token
    ids that end it too.
    logprobs: k; report the log-probability of each token and the k likeliest tokens at its
    position, by the model's own distribution, before any option changes it.
    logit_bias: token id -> number that is added to its logit. logits_processors: callables
    `(ids, logits) -> logits` (`LogitsProcessor`), in order, after the bias.
    drafter: a spec or a drafter for this call; "none": plain decoding. cost: "auto", a part of a
    plain step, or None; left out, as the model was loaded. nodes: drafted tokens a step at most.
    prediction: a likely answer, as text or token ids, or a list of them; drafters that can use it
    draft from it, and the text stays the same.
    namespace: what is learned from this text is drafted only there.
    chat: whether a text prompt is put into the model's chat template; left out, it is where the
    model has one. tools, chat_template_kwargs: passed on to the chat template.
    metadata: whatever you like; it comes back as `Generation.metadata`.
    on_step: called with each step.
    """

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    sampling: Sampling | None
    seed: int | None
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    logprobs: int | None
    logit_bias: Mapping[int, float] | None
    logits_processors: Sequence[LogitsProcessor]
    drafter: str | Drafter | None
    cost: CostOption | Literal["loaded"]
    nodes: int | None
    prediction: Prediction | None
    namespace: str
    chat: bool | None
    tools: Sequence[Any] | None
    chat_template_kwargs: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    on_step: Callable[[Step], object] | None


class BatchOptions(Options, total=False):
    """`Options`, and those that only calls for several texts have.

    n, which stands beside these: texts a prompt, number i (from 0) drawn with `seed` + i; the
    result for each prompt is then a list, for n = 1, too. max_batch: how many texts go through the
    model at once; 8. errors: "raise", or "return" to go on without a text that fails, with a
    `Generation` that has an `error` in its place. progress: whether to show a progress bar on
    stderr.
    """

    max_batch: int
    errors: Literal["raise", "return"]
    progress: bool


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """The options of one call, checked and complete; `Settings.of` makes them."""

    max_tokens: int | None = 256
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    sampling: Sampling | None = None
    seed: int | None = None
    n: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    logprobs: int | None = None
    logit_bias: Mapping[int, float] | None = None
    logits_processors: Sequence[LogitsProcessor] = ()
    drafter: str | Drafter | None = None
    cost: Cost | Literal["loaded"] = "loaded"
    nodes: int | None = None
    prediction: Prediction | None = None
    namespace: str = ""
    chat: bool | None = None
    tools: Sequence[Any] | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    on_step: Callable[[Step], object] | None = None
    max_batch: int = 8
    errors: Literal["raise", "return"] = "raise"
    progress: bool = False
    given: frozenset[str] = field(default=frozenset(), repr=False)
    """Names of the options that the caller gave."""

    @classmethod
    def of(cls, options: Mapping[str, Any], *, several: bool = True) -> Self:
        """Check the options of a call.

        several: whether the options of `BatchOptions` are allowed, too.

        Raises:
            InvalidOption: for an unknown name (the nearest one is suggested), a value of a wrong
                type, or one outside its range.
        """
        known = _names(several)
        for name in options:
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise InvalidOption(
                    f"no option is named {name!r}; {hint}choose from {', '.join(sorted(known))}"
                )
        checked = {name: _CHECKS[name](name, value) for name, value in options.items()}
        settings = cls(**checked, given=frozenset(options))
        if settings.sampling is not None:
            for name, value in settings.laws.items():
                if value is not None:
                    raise InvalidOption(
                        f"sampling and {name} are both given; say it in `Sampling` alone"
                    )
        Sampling(**{name: value for name, value in settings.laws.items() if value is not None})
        return settings

    @property
    def laws(self) -> dict[str, Any]:
        """The five numbers of `Sampling` by name; None: as the model's generation config says."""
        return {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
        }

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


def takes(options: type[Options]) -> Callable[[F], F]:
    """Decorator: show the options, with types and defaults, in the signature of a method.

    The method itself says `**options: Unpack[Options]`, which type checkers read; this is for
    `help` and for editors that ask `inspect.signature`.
    """
    types = get_type_hints(Settings)

    def show(method: F) -> F:
        known = _names(options is BatchOptions)
        shown = [
            parameter
            for parameter in inspect.signature(method).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD and parameter.name not in known
        ]
        shown += [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=types[each.name],
            )
            for each in fields(Settings)
            if each.name in known
        ]
        signature = inspect.signature(method).replace(parameters=shown)
        method.__signature__ = signature  # type: ignore[attr-defined]
        return method

    return show


def _names(several: bool) -> frozenset[str]:
    return BatchOptions.__optional_keys__ | {"n"} if several else Options.__optional_keys__


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
    """A number that is one; bool, text and NaN are none.

    Raises:
        InvalidOption: for anything else.
    """
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        found = float(value)
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


_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "max_tokens": _or_none(_whole(1)),
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
