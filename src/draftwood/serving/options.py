"""What an operator sets for an engine, and what a request may ask for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias
from uuid import uuid4

from draftwood.errors import InvalidOption

Tokenize: TypeAlias = Callable[[str], Sequence[int]]
REQUEST_OPTIONS = ("draftwood", "draftwood_nodes", "draftwood_namespace", "draftwood_prediction")
"""Our keys in a request's extra arguments: `vllm_xargs` in vLLM, `custom_params` in SGLang."""
_NO = (False, 0, "false", "False", "0", "no", "off")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What is set for an engine: vLLM's `additional_config={"draftwood": {...}}`, for one.

    drafter: a spec. path: a folder for history that outlives the engine; None: in memory. cost:
    "auto" measures what a drafted token costs and cuts all drafts of a step to what pays; "none"
    drafts as much as it may; a number is the part of a plain step that each drafted token adds.
    max_tokens: slots of shared history. share: generated tokens after which other requests draft
    from them. threads: of a step with more than 63 requests. namespace: "required" keeps a request
    that names no namespace to itself. lora_namespace: whether a LoRA adapter's name is part of the
    namespace. request_ids: whether requests are told apart by the runner's ids, where the runner
    can be found; False: by their tokens. runner: 2 for vLLM's runner of version 2, whose speculator
    was not run on a GPU (speculator.py). flush_seconds, log_seconds: between two writes of history
    and figures, and between two log lines (0: none). replicas: the URL of a log
    through which replicas share what they generate, or an object of `draftwood.share.ShareOptions`.

    Raises:
        InvalidOption: a value outside its range.
    """

    drafter: str = "recall"
    path: str | None = None
    cost: str | float = "auto"
    max_tokens: int = 1_000_000
    share: int = 16
    threads: int = 1
    namespace: Literal["optional", "required"] = "optional"
    lora_namespace: bool = False
    request_ids: bool = True
    runner: int = 1
    flush_seconds: float = 10.0
    log_seconds: float = 60.0
    replicas: str | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for field, kinds in _KINDS.items():
            value = getattr(self, field)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                wanted = " or ".join(kind.__name__ for kind in kinds)
                raise InvalidOption(f"draftwood option {field} is {value!r}; use {wanted}")
        if self.namespace not in ("optional", "required"):
            raise InvalidOption(f"namespace is {self.namespace!r}; use 'optional' or 'required'")
        if self.runner not in (1, 2):
            raise InvalidOption(f"runner is {self.runner}; use 1 or 2")
        if self.flush_seconds < 0.1 or self.log_seconds < 0.0:
            raise InvalidOption(
                f"flush_seconds is {self.flush_seconds} and log_seconds {self.log_seconds}; "
                "use 0.1 or more, and 0 or more"
            )

    @classmethod
    def read(cls, given: Any) -> EngineOptions:
        """The options of a mapping, or of none.

        Raises:
            InvalidOption: for an unknown name, and as the class does.
        """
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise InvalidOption(
                f"the engine's draftwood options are {given!r}; use an object of options"
            )
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise InvalidOption.unknown("draftwood option", name, known)
        return cls(**given)


_KINDS: dict[str, tuple[type, ...]] = {
    "drafter": (str,),
    "path": (str, type(None)),
    "cost": (str, float, int),
    "max_tokens": (int,),
    "share": (int,),
    "threads": (int,),
    "namespace": (str,),
    "lora_namespace": (bool,),
    "request_ids": (bool,),
    "runner": (int,),
    "flush_seconds": (float, int),
    "log_seconds": (float, int),
    "replicas": (str, dict, type(None)),
}


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What a door knows of a request when it is first seen.

    prompt: tokens of its prompt. end: the length at which it has generated all that it may; None:
    not known. stops: ids after which it ends. extra: its extra arguments. salt: its `cache_salt`.
    adapter: the name of its LoRA adapter.
    """

    prompt: int
    end: int | None = None
    stops: frozenset[int] = frozenset()
    extra: Mapping[str, Any] | None = None
    salt: str | None = None
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What holds for one request.

    drafts: whether anything is drafted. nodes: the most tokens of a draft; None: the engine's.
    private: it shares nothing, and drafts from its own text only. problems: what was asked for and
    cannot be had; the request goes on without it.
    """

    drafts: bool = True
    nodes: int | None = None
    namespace: str = ""
    private: bool = False
    prediction: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, facts: RequestFacts, options: EngineOptions, tokenize: Tokenize | None = None
    ) -> RequestOptions:
        """The options of a request; whatever is wrong with them costs drafts only.

        A namespace that cannot be read makes the request private. tokenize: for predictions that
        are text.
        """
        extra = facts.extra or {}
        problems: list[str] = []
        drafts = extra.get("draftwood", True) not in _NO
        nodes = extra.get("draftwood_nodes")
        if nodes is not None:
            try:
                nodes = max(0, int(nodes))
            except (TypeError, ValueError, OverflowError):
                problems.append(f"draftwood_nodes is {_short(nodes)}; use 0 or more tokens")
                nodes = None
        name = extra.get("draftwood_namespace")
        unreadable = name is not None and not isinstance(name, str)
        if unreadable:
            problems.append(f"draftwood_namespace is {_short(name)}; use text")
        # What a client names lies within what the proxy has set, so that it cannot leave that.
        adapter = facts.adapter if options.lora_namespace else None
        parts = [facts.salt or "", adapter or "", name if isinstance(name, str) else ""]
        private = unreadable or (
            options.namespace == "required" and not (facts.salt or (isinstance(name, str) and name))
        )
        shared = json.dumps(parts) if any(parts) else ""
        namespace = f"private {uuid4().hex}" if private else shared
        prediction: tuple[int, ...] = ()
        if drafts and (given := extra.get("draftwood_prediction")) is not None:
            try:
                prediction = _prediction(given, tokenize)
            except Exception as error:
                problems.append(f"draftwood_prediction is {_short(given)}: {error}")
        return cls(drafts, nodes, namespace, private, prediction, tuple(problems))


def _prediction(given: Any, tokenize: Tokenize | None) -> tuple[int, ...]:
    if isinstance(given, str):
        if tokenize is None:
            raise ValueError("this engine has no tokenizer; send token ids")
        return tuple(tokenize(given))
    if isinstance(given, Sequence) and all(type(token) is int for token in given):
        return tuple(given)
    raise ValueError("use text, or a list of token ids")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
