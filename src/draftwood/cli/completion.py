"""What a shell offers for a drafter's spec: names, options with their defaults, values."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, MutableMapping

TYPED = "_DRAFTWOOD_TYPED"
"""The environment variable with what bash has before the piece of a word that it completes."""
_PARTS = (":", "=")
_OPTION = re.compile(r"^(--[\w-]+)=")


def complete_spec(incomplete: str) -> list[str]:
    """The specs that go on from one that is half written."""
    typed = os.environ.get(TYPED, "")
    begun = f"{typed}{incomplete}"
    found = [each for each in _specs(begun) if each.startswith(begun)]
    return [each.removeprefix(typed) for each in found]


def join_words(environment: MutableMapping[str, str]) -> None:
    """Give bash's words their colons and equals signs back.

    bash takes `recall:mode=chain` for five words, of which it completes the last one, unless
    COMP_WORDBREAKS says otherwise.
    """
    if "COMP_WORDS" not in environment:
        return
    words = environment["COMP_WORDS"].split("\n")
    at = int(environment.get("COMP_CWORD", "0"))
    joined: list[str] = []
    for number, word in enumerate(words[: at + 1]):
        glued = number > 1 and (word[:1] in _PARTS or words[number - 1][-1:] in _PARTS)
        if glued and joined[-1:]:
            joined[-1] += word
        else:
            joined.append(word)
    if len(joined) <= at:
        *joined, whole = joined
        option = "".join(_OPTION.findall(whole))
        spec = whole.removeprefix(f"{option}=")
        last = "" if words[at] in _PARTS else words[at]
        environment[TYPED] = spec.removesuffix(last)
        joined += [option, last] if option else [last]
    environment["COMP_WORDS"] = "\n".join(joined)
    environment["COMP_CWORD"] = str(len(joined) - 1)


def _specs(begun: str) -> Iterator[str]:
    from draftwood.drafters.catalog import DRAFTERS
    from draftwood.drafters.spec import options_of, values_of

    name, colon, rest = begun.partition(":")
    if not colon:
        for each, factory in DRAFTERS.items():
            yield each
            if options_of(factory):
                yield f"{each}:"
        return
    if name not in DRAFTERS:
        return
    *done, last = rest.split(",")
    head = f"{name}:" + "".join(f"{each}," for each in done)
    given = {each.partition("=")[0] for each in done}
    key, equals, _ = last.partition("=")
    kinds = {**options_of(DRAFTERS[name]), "cost": None}
    if not equals:
        yield from (f"{head}{each}=" for each in kinds if each not in given)
    elif key == "cost":
        yield from (f"{head}cost={each}" for each in ("auto", "none", "0.01"))
    elif key in kinds:
        yield from (f"{head}{key}={each}" for each in values_of(DRAFTERS[name], key))
