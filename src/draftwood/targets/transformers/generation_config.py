"""What a model's own generation config asks for: every key is applied, refused or without effect.

Importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

import copy
import logging
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption, UnsupportedModel
from draftwood.sampling.law import Sampling
from draftwood.sampling.processors import LogitsProcessor, process
from draftwood.targets.transformers.generation_keys import (
    AFTER,
    BEFORE,
    KEPT_CACHES,
    OWN,
    REFUSED,
    SILENT,
)
from draftwood.targets.transformers.library_processors import LibraryProcessors, border
from draftwood.text.stream import stop_strings

log = logging.getLogger(__name__)


class GenerationSettings:
    """A model's own generation config, as Draftwood applies it.

    The config is read anew for every text, so that changes to `model.generation_config` count.

    model: of the transformers library.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._checked: dict[str, Any] | None = None

    @property
    def end_tokens(self) -> frozenset[int] | None:
        """The ids that end a text; None where the config names none.

        Raises:
            UnsupportedModel: for what is no id and no list of ids.
        """
        ids = self._own("eos_token_id")
        if ids is None:
            return None
        try:
            return frozenset(_whole(each) for each in ([ids] if isinstance(ids, int) else ids))
        except TypeError as error:
            raise _unfit(f"eos_token_id = {ids!r}", error) from error

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that end a text."""
        stops = self._own("stop_strings")
        return () if stops is None else stop_strings(stops)

    @property
    def max_seconds(self) -> float | None:
        """Seconds after which no further step is made; None: as many as it takes."""
        limit = self._own("max_time")
        if limit is None:
            return None
        if isinstance(limit, bool) or not isinstance(limit, Real) or not float(limit) >= 0:
            raise ValueError("a time in seconds is due")
        return float(limit)

    def max_tokens(self, prompt: int, otherwise: int | None) -> int | None:
        """The most tokens to generate after a prompt of so many, where the call names no limit.

        Raises:
            InvalidOption: where the config's `max_length` leaves no room after the prompt.
        """
        limit, length = self._own("max_new_tokens"), self._own("max_length")
        if limit is not None:
            return _whole(limit)
        if length is None:
            return otherwise
        if _whole(length) <= prompt:
            raise InvalidOption(
                f"the prompt has {prompt} tokens and the model's generation config says max_length "
                f"{length}; shorten the prompt or give max_tokens"
            )
        return int(length) - prompt

    def check(self, end_tokens: Collection[int] = ()) -> None:
        """Refuse what cannot be applied, before anything is generated; again once it has changed.

        end_tokens: the ids that will end texts.

        Raises:
            UnsupportedModel: for a key with a value that Draftwood does not apply, or one that
                transformers does not take.
        """
        own, names = vars(self._config), set(vars(type(self._config)()))
        if self._checked is not None and _equal(self._checked, own):
            return
        self._checked = None
        for name, value in own.items():
            if value is None:
                continue
            if name in REFUSED:
                rule = REFUSED[name]
                if value not in rule.neutral:
                    raise _refusal(name, value, rule.reason, rule.remedy)
            elif name == "cache_implementation":
                if not any(kind in str(value) for kind in KEPT_CACHES):
                    raise _refusal(
                        name, value, "keeps keys and values as they were computed", "leave it out"
                    )
            elif name == "watermarking_config" and type(value).__name__ != "WatermarkingConfig":
                raise _refusal(
                    name,
                    type(value).__name__,
                    "applies only watermarks that depend on the tokens before alone",
                    "use WatermarkingConfig",
                )
            elif name in OWN or name in BEFORE or name in AFTER:
                alone = GenerationSettings(_Alone(self._model, name, value))
                alone._try(f"{name} = {value!r}", end_tokens)
            elif name not in SILENT:
                if name in names:
                    raise _refusal(
                        name, value, "does not know what it does", "use a release that does"
                    )
                log.warning(
                    "the model's generation config holds %s, which transformers does not know "
                    "and nothing applies",
                    name,
                )
        self._try("what does not go together", end_tokens)
        self._checked = copy.deepcopy(own)

    def sampling(
        self,
        prompt: TokenIds,
        *,
        max_tokens: int | None = None,
        end_tokens: Collection[int] = (),
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        processors: Sequence[LogitsProcessor] = (),
    ) -> Sampling:
        """The law of one text: what the call names, completed by the model's generation config.

        It is that of `generate(do_sample=True)`, or at temperature 0 of `generate(do_sample=False)`
        with the same values. None stands for what the call leaves out; a temperature left out is
        the config's where it says `do_sample`, else 0.

        prompt: int32 [n]. max_tokens: the text's limit. end_tokens: ids that will end the text.
        processors: the call's own, applied after the config's and before the temperature.
        """
        config = self._config
        if temperature is None:
            temperature = self._or("temperature", 1.0) if config.do_sample else 0.0
        law = Sampling(
            temperature=temperature,
            top_k=self._or("top_k", 50) if top_k is None else top_k,
            top_p=self._or("top_p", 1.0) if top_p is None else top_p,
            min_p=self._or("min_p", 0.0) if min_p is None else min_p,
            repetition_penalty=(
                self._or("repetition_penalty", 1.0)
                if repetition_penalty is None
                else repetition_penalty
            ),
            processors=tuple(processors),
        )
        before, after = self._asks(BEFORE), self._asks(AFTER)
        if not (before or after):
            return law
        first, last = self._library(law, prompt, max_tokens, end_tokens)
        law = replace(law, repetition_penalty=1.0, processors=(first, *law.processors))
        if not after:
            return law
        if law.greedy:
            return replace(law, processors=(*law.processors, last))
        return Sampling(law.temperature, processors=law.processors, warpers=(last,))

    def _library(
        self,
        law: Sampling,
        prompt: TokenIds,
        max_tokens: int | None,
        end_tokens: Collection[int],
    ) -> tuple[LogitsProcessor, LogitsProcessor]:
        """Transformers' processors before the call's own, and those after the temperature."""
        import torch
        from transformers import LogitsProcessorList

        config = copy.deepcopy(self._config)
        config.update(**config._get_default_generation_params(), defaults_only=True)
        config.do_sample, config.temperature = not law.greedy, 1.0  # `Sampling` divides by it
        config.top_k, config.top_p = law.top_k, law.top_p
        config.min_p = law.min_p or None
        config.repetition_penalty = law.repetition_penalty
        if max_tokens is None:
            config.forced_eos_token_id = None
        else:
            config.max_length = len(prompt) + max_tokens
        if config.min_new_tokens is not None:
            config.min_length = len(prompt) + config.min_new_tokens
        config._eos_token_tensor = torch.tensor(sorted(end_tokens)) if end_tokens else None
        found = self._model._get_logits_processor(
            generation_config=config,
            input_ids_seq_length=len(prompt),
            encoder_input_ids=torch.from_numpy(prompt.astype(np.int64))[None],
            logits_processor=LogitsProcessorList([border]),
            device="cpu",
            model_kwargs={},
        )
        at = found.index(border)
        return LibraryProcessors(found[:at]), LibraryProcessors(found[at + 1 :])

    def _try(self, asked: str, end_tokens: Collection[int]) -> None:
        """Try the laws of greedy and of sampled text; asked: what the config says, in words."""
        try:
            limits = self.end_tokens, self.stop_strings, self.max_seconds, self.max_tokens(0, None)
            log.debug("end tokens, stop strings, seconds and tokens of the config: %s", limits)
            text = np.zeros(1, dtype=np.int32)
            size = getattr(self._model.config.get_text_config(), "vocab_size", 0)
            for temperature in (0.0, self._or("temperature", 1.0)):
                law = self.sampling(
                    text, max_tokens=1, end_tokens=end_tokens, temperature=temperature
                )
                # Some processors look at their values, or at the vocabulary, when they are called.
                for tokens in (1, 3) if size else ():
                    for processors in (law.processors, law.warpers):
                        process(processors, np.resize(text, tokens), np.zeros(size, np.float32))
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise _unfit(asked, error) from error

    def _asks(self, keys: Mapping[str, tuple[Any, ...]]) -> bool:
        """Whether one of the keys has a value that does something."""
        own = vars(self._config)
        return any(own.get(name) not in (None, *off) for name, off in keys.items())

    @property
    def _config(self) -> Any:
        return self._model.generation_config

    def _own(self, name: str) -> Any:
        return vars(self._config).get(name)

    def _or(self, name: str, otherwise: Any) -> Any:
        value = self._own(name)
        return otherwise if value is None else value


class _Alone:
    """A model whose generation config holds one key only."""

    def __init__(self, model: Any, name: str, value: Any) -> None:
        self._get_logits_processor = model._get_logits_processor
        self.config = model.config
        self.generation_config = type(model.generation_config)()
        setattr(self.generation_config, name, value)


def _whole(value: Any) -> int:
    """A whole number; bool and float are none."""
    if isinstance(value, bool):
        raise TypeError(f"{value} is no whole number")
    return operator.index(value)


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configs hold the same; arrays, which do not say so in a word, never do."""
    try:
        return bool(one == other)
    except (ValueError, RuntimeError):
        return False


def _unfit(asked: str, error: Exception) -> UnsupportedModel:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return UnsupportedModel(
        f"the model's generation config says {asked}, which cannot be applied ({reason}); "
        "correct it in generation_config.json"
    )


def _refusal(name: str, value: Any, reason: str, remedy: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"the model's generation config says {name} = {value!r}, and Draftwood {reason}; {remedy}, "
        f"and remove {name} from generation_config.json"
    )
