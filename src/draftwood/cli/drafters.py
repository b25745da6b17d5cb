"""`draftwood drafters`: what a spec can name, with the options and their defaults."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from textwrap import fill
from typing import Annotated, Any

import typer


def drafters(
    name: Annotated[str | None, typer.Argument(help="One drafter; all without.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of text.")
    ] = False,
) -> None:
    """List the drafters that a spec can name, with their options and defaults.

    A spec is NAME:OPTION=VALUE,..; any drafter has the option cost besides (auto, none, or a part
    of a plain step for each drafted token).
    """
    from draftwood.drafters.catalog import DRAFTERS
    from draftwood.errors import InvalidSpec

    if name is not None and name not in DRAFTERS:
        raise InvalidSpec(f"no drafter is named {name!r}; choose from {', '.join(DRAFTERS)}")
    chosen = {each: made for each, made in DRAFTERS.items() if name in (None, each)}
    found = {each: described(made) for each, made in chosen.items()}
    if as_json:
        print(json.dumps(found))
        return
    for each, told in found.items():
        print(each)
        print(fill(told["about"], 78, initial_indent="    ", subsequent_indent="    "))
        options = ", ".join(f"{key}={value}" for key, value in told["options"].items())
        if options:
            print(fill(options, 78, initial_indent="    ", subsequent_indent="    "))
        if name is not None and told["more"]:
            print()
            print("\n".join(f"    {line}".rstrip() for line in told["more"].splitlines()))


def described(factory: Callable[..., Any]) -> dict[str, Any]:
    """A factory's first line, its options with their defaults, and the rest of its docstring."""
    from draftwood.drafters.spec import options_of

    first, _, rest = inspect.cleandoc(factory.__doc__ or "").partition("\n")
    parameters = inspect.signature(factory).parameters
    options = {
        key: "..."
        if parameters[key].default is inspect.Parameter.empty
        else _shown(parameters[key].default)
        for key in options_of(factory)
    }
    more = rest.partition("\nRaises:")[0].strip()
    return {"about": first, "options": options, "more": more}


def _shown(default: Any) -> str:
    return (
        "none"
        if default is None
        else str(default).lower()
        if isinstance(default, bool)
        else str(default)
    )
