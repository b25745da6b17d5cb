"""The options of a generation call: their types, defaults and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from draftwood.errors import InvalidOption
from draftwood.language_model.option_checks import CHECKS, Cost, CostOption
from draftwood.protocols import Drafter
from draftwood.sampling.law import Sampling
from draftwood.sampling.processors import LogitsProcessor
from draftwood.signatures import shows
from draftwood.step import Step

TokenSequence: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
"""Token ids, as a list or an array."""

Prediction: TypeAlias = str | TokenSequence | Sequence[str] | Sequence[TokenSequence]
"""A likely answer or several, each as text or as token ids."""

F = TypeVar("F", bound=Callable[..., Any])


class Options(TypedDict, total=False):
    """How to generate one text; every option may be left out.

    max_tokens: generated tokens at most; None: until the model ends; left out, 256 or what the
    model's own generation config says.
    max_time: seconds from the call on; the step that is under way then is the last one.
    temperature: 0 is greedy; left out, it is 0 unless the model's generation config says
    `do_sample`. top_k, top_p, min_p, repetition_penalty: as `Sampling` defines them; where one is
    left out, the model's generation config decides. sampling: a `Sampling`
    in place of these five. seed: in [0, 2**64); at temperature > 0 one seed gives one text, with
    every drafter and with none; left out, a new one is chosen.
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
    max_time: float | None
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

    n (a parameter of the methods themselves): texts for each prompt; text i (from 0) is drawn with
    `seed` + i, and the result for each prompt is a list, for n = 1, too. max_batch: how many texts
    go through the model at once; 8. errors: "raise", or "return" to go on without a text that
    fails, with a `Generation` that has an `error` in its place. progress: whether to show a
    progress bar on stderr.
    """

    max_batch: int
    errors: Literal["raise", "return"]
    progress: bool


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """The options of one call, checked and complete; `Settings.of` makes them."""

    max_tokens: int | None = 256
    max_time: float | None = None
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
                raise InvalidOption.unknown("option", name, known)
        checked = {name: CHECKS[name](name, value) for name, value in options.items()}
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
    """Decorator: show the options in the signature of a method that takes `**options`."""
    known = _names(options is BatchOptions)
    return shows(
        (each.name, str(each.type), each.default) for each in fields(Settings) if each.name in known
    )


def _names(several: bool) -> frozenset[str]:
    return BatchOptions.__optional_keys__ | {"n"} if several else Options.__optional_keys__
