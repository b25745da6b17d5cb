"""Specs: `name:key=value,...`, the one form in which users name a drafter and its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from draftwood.errors import InvalidSpec, choices

_TRUTH = {"true": True, "yes": True, "on": True, "1": True}
_TRUTH |= {"false": False, "no": False, "off": False, "0": False}
_WANTED = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Spec:
    """A parsed spec: the name, and the options as they were written."""

    name: str
    options: Mapping[str, str]


def parse(text: str) -> Spec:
    """Split `name:key=value,...`; the options may be absent.

    Raises:
        InvalidSpec: no name, an item without `=`, or a key given twice.
    """
    name, _, rest = text.strip().partition(":")
    if not name:
        raise InvalidSpec(f"spec {text!r} has no name; write name:key=value,...")
    options: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            raise InvalidSpec(f"{item!r} in spec {text!r} is no option; write key=value")
        if key in options:
            raise InvalidSpec(f"option {key!r} stands twice in spec {text!r}; give it once")
        options[key] = value
    return Spec(name, options)


def build(text: str, factories: Mapping[str, Callable[..., Any]], *, what: str = "drafter") -> Any:
    """The object that a spec names, its options typed by the annotations of its factory.

    factories: spec name -> what makes the object from keyword arguments.

    Options may be int, float, bool, str, a Literal of these, or any of them or None; parameters
    of other types, and those that are positional only, are not options.

    Raises:
        InvalidSpec: for an unknown name or option (the nearest one is suggested, all are listed),
            for a value that is not of the option's type, and for an option that is missing.
    """
    spec = parse(text)
    if spec.name not in factories:
        raise InvalidSpec(f"no {what} is named {spec.name!r}; {_choices(spec.name, factories)}")
    factory = factories[spec.name]
    kinds = options_of(factory)
    arguments = {}
    for key, value in spec.options.items():
        if key not in kinds:
            raise InvalidSpec(f"{what} {spec.name!r} has no option {key!r}; {_choices(key, kinds)}")
        try:
            arguments[key] = _convert(value, kinds[key])
        except ValueError:
            raise InvalidSpec(
                f"{what} {spec.name!r}: {key}={value} is not {_wanted(kinds[key])}"
            ) from None
    for key in required_of(factory):
        if key not in arguments:
            raise InvalidSpec(
                f"{what} {spec.name!r} needs the option {key!r}; write {spec.name}:{key}=..."
            )
    return factory(**arguments)


def required_of(factory: Callable[..., Any]) -> list[str]:
    """The options that a spec must give to `factory`, in its order."""
    parameters = inspect.signature(factory).parameters.values()
    return [p.name for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is p.empty]


def options_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """The options that a spec may give to `factory`: name -> annotation."""
    parameters = inspect.signature(factory, eval_str=True).parameters.values()
    return {
        p.name: p.annotation
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and _alternatives(p.annotation)
    }


def values_of(factory: Callable[..., Any], option: str) -> list[str]:
    """Values that an option may have, as a spec writes them: all of a few, else its default."""
    kinds = _alternatives(options_of(factory)[option])
    found = [str(each) for kind in kinds if get_origin(kind) is Literal for each in get_args(kind)]
    if bool in kinds:
        found += ["true", "false"]
    default = inspect.signature(factory).parameters[option].default
    if default is None:
        found.append("none")
    elif default is not inspect.Parameter.empty and not isinstance(default, bool):
        found.append(str(default))
    return list(dict.fromkeys(found))


def _alternatives(annotation: Any) -> list[Any]:
    """The plain types, None and literal values that `annotation` allows; [] if it needs more."""
    if get_origin(annotation) in (Union, UnionType):
        parts = [_alternatives(arm) for arm in get_args(annotation)]
        return [kind for part in parts for kind in part] if all(parts) else []
    if get_origin(annotation) is Literal:
        return [annotation]
    return [annotation] if annotation in (int, float, bool, str, NoneType, None) else []


def _convert(value: str, annotation: Any) -> Any:
    for kind in _alternatives(annotation):
        if kind in (None, NoneType):
            if value.lower() == "none":
                return None
        elif get_origin(kind) is Literal:
            for choice in get_args(kind):
                if value == str(choice):
                    return choice
        elif kind is bool:
            if value.lower() in _TRUTH:
                return _TRUTH[value.lower()]
        else:
            try:
                return kind(value)
            except ValueError:
                continue
    raise ValueError(value)


def _wanted(annotation: Any) -> str:
    words: list[str] = []
    for kind in _alternatives(annotation):
        if kind in (None, NoneType):
            words.append("none")
        elif get_origin(kind) is Literal:
            words += [str(choice) for choice in get_args(kind)]
        else:
            words.append(_WANTED.get(kind, "text"))
    return " or ".join(words)


def _choices(wrong: str, valid: Mapping[str, Any]) -> str:
    if not valid:
        return "it has none"
    return choices(wrong, valid)
