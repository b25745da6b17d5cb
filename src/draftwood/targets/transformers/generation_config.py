"""What a model's own generation config asks for: every key is applied, refused or without effect.

Importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption, UnsupportedModel
from draftwood.sampling.law import Sampling
from draftwood.sampling.processors import LogitsProcessor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """A key that a model may hold at its neutral values only.

    neutral: values that change nothing. reason: completes "... , and Draftwood". remedy: what to
    do instead.
    """

    neutral: tuple[Any, ...]
    reason: str
    remedy: str


OWN: Final[Mapping[str, str]] = {
    "do_sample": "true: the text is sampled where the call names no temperature",
    "temperature": "of sampled text, where the call names none",
    "top_k": "of sampled text, where the call names none; 50 where both are silent",
    "top_p": "of sampled text, where the call names none",
    "min_p": "of sampled text, where the call names none",
    "repetition_penalty": "where the call names none",
    "max_new_tokens": "the most tokens, where the call names no limit",
    "max_length": "the most tokens with the prompt, where nothing names a limit without it",
    "eos_token_id": "end tokens",
    "stop_strings": "stop strings, beside those of the call",
}
"""Applied by Draftwood itself."""

BEFORE: Final[Mapping[str, tuple[Any, ...]]] = {
    "sequence_bias": (),
    "encoder_repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "bad_words_ids": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "remove_invalid_values": (False,),
    "exponential_decay_length_penalty": (),
    "suppress_tokens": (),
    "begin_suppress_tokens": (),
}
"""Applied by transformers' own logits processors before the temperature; values that do nothing.

The "encoder" keys act on the prompt of a decoder-only model.
"""

AFTER: Final[Mapping[str, tuple[Any, ...]]] = {
    "top_h": (),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "watermarking_config": (),
    "renormalize_logits": (False,),
}
"""Applied by transformers' own logits processors after the temperature; values that do nothing."""

_BEAMS = ("keeps one sequence at a time", "search with beams in transformers")
_OTHER = ("does not implement this way of decoding", "decode with transformers")

REFUSED: Final[Mapping[str, Refused]] = {
    "num_beams": Refused((1,), *_BEAMS),
    "num_beam_groups": Refused((1,), *_BEAMS),
    "constraints": Refused((), *_BEAMS),
    "force_words_ids": Refused((), *_BEAMS),
    "penalty_alpha": Refused((0.0,), *_OTHER),
    "dola_layers": Refused((), *_OTHER),
    "guidance_scale": Refused(
        (1.0,), "runs no second pass without the prompt", "decode with transformers"
    ),
    "assistant_ensemble_weight": Refused((), "keeps the target's law", "leave it out"),
    "token_healing": Refused((False,), "leaves the prompt as it is", "heal the prompt yourself"),
    "max_time": Refused((), "keeps no clock", "limit the text by max_tokens"),
    "num_return_sequences": Refused((1,), "gives one text a call", "generate several times"),
    "is_assistant": Refused((False,), "keeps the target's law", "leave it out"),
}
"""Refused at load, unless neutral."""

SILENT: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("early_stopping", "length_penalty", "diversity_penalty", "low_memory"),
        "of beam search or contrastive search only",
    ),
    **dict.fromkeys(
        (
            "use_mtp",
            "num_assistant_tokens",
            "num_assistant_tokens_schedule",
            "assistant_confidence_threshold",
            "prompt_lookup_num_tokens",
            "max_matching_ngram_size",
            "assistant_early_exit",
            "assistant_lookbehind",
            "target_lookbehind",
            "speculation_type",
        ),
        "another way to draft the same text",
    ),
    **dict.fromkeys(
        (
            "use_cache",
            "cache_config",
            "max_cache_len",
            "compile_config",
            "disable_compile",
            "continuous_batching_config",
            "prefill_chunk_size",
        ),
        "how a pass is run",
    ),
    **dict.fromkeys(
        (
            "output_attentions",
            "output_hidden_states",
            "output_scores",
            "output_logits",
            "return_dict_in_generate",
        ),
        "what is returned beside the text",
    ),
    "pad_token_id": "sequences are not padded",
    "bos_token_id": "for empty prompts only, which are refused",
    "decoder_start_token_id": "of encoder-decoders only",
    "transformers_version": "who wrote the file",
    "_from_model_config": "who wrote the file",
    "_commit_hash": "who wrote the file",
    "_original_object_hash": "who wrote the file",
}
"""Without effect on the text, and why."""

KEPT_CACHES: Final = ("dynamic", "static", "hybrid", "sliding_window", "offloaded")
"""Parts of the names of caches that hold keys and values as they were computed."""


class GenerationSettings:
    """A model's own generation config, as Draftwood applies it.

    The config is read anew for every text, so that changes to `model.generation_config` count.

    model: of the transformers library.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def end_tokens(self) -> frozenset[int] | None:
        """The ids that end a text; None where the config names none."""
        ids = self._own("eos_token_id")
        if ids is None:
            return None
        return frozenset([ids] if isinstance(ids, int) else ids)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that end a text."""
        stops = self._own("stop_strings")
        return () if stops is None else (stops,) if isinstance(stops, str) else tuple(stops)

    def max_tokens(self, prompt: int, otherwise: int | None) -> int | None:
        """The most tokens to generate after a prompt of so many, where the call names no limit.

        Raises:
            InvalidOption: where the config's `max_length` leaves no room after the prompt.
        """
        limit, length = self._own("max_new_tokens"), self._own("max_length")
        if limit is not None:
            return int(limit)
        if length is None:
            return otherwise
        if length <= prompt:
            raise InvalidOption(
                f"the prompt has {prompt} tokens and the model's generation config says max_length "
                f"{length}; shorten the prompt or give max_tokens"
            )
        return int(length) - prompt

    def check(self, end_tokens: Collection[int] = ()) -> None:
        """Refuse what cannot be applied, before anything is generated.

        end_tokens: the ids that will end texts.

        Raises:
            UnsupportedModel: for a key with a value that Draftwood does not apply, or one that
                transformers does not take.
        """
        own, names = vars(self._config), set(vars(type(self._config)()))
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
            logits_processor=LogitsProcessorList([_border]),
            device="cpu",
            model_kwargs={},
        )
        at = found.index(_border)
        return LibraryProcessors(found[:at]), LibraryProcessors(found[at + 1 :])

    def _try(self, asked: str, end_tokens: Collection[int]) -> None:
        """Build the laws of greedy and of sampled text; asked: what the config says, in words."""
        try:
            for temperature in (0.0, self._or("temperature", 1.0)):
                self.sampling(
                    np.zeros(1, dtype=np.int32),
                    max_tokens=1,
                    end_tokens=end_tokens,
                    temperature=temperature,
                )
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise UnsupportedModel(
                f"the model's generation config says {asked}, which cannot be applied ({reason}); "
                "correct it in generation_config.json"
            ) from error

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


class LibraryProcessors:
    """Logits processors of transformers as one of Draftwood's."""

    def __init__(self, processors: Sequence[Any]) -> None:
        self._processors = tuple(processors)

    def __call__(self, ids: TokenIds, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [V]: the logits after all of them."""
        if not self._processors:
            return logits
        import torch

        with torch.inference_mode():
            before = torch.from_numpy(ids.astype(np.int64))[None]
            scores = torch.from_numpy(logits)[None]
            for processor in self._processors:
                scores = processor(before, scores)
            found: NDArray[np.float32] = scores[0].numpy()
        return found


class _Alone:
    """A model whose generation config holds one key only."""

    def __init__(self, model: Any, name: str, value: Any) -> None:
        self._get_logits_processor = model._get_logits_processor
        self.generation_config = type(model.generation_config)()
        setattr(self.generation_config, name, value)


def _border(ids: Any, scores: Any) -> Any:
    """The place of the call's own processors in transformers' list."""
    return scores


def _refusal(name: str, value: Any, reason: str, remedy: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"the model's generation config says {name} = {value!r}, and Draftwood {reason}; {remedy}, "
        f"and remove {name} from generation_config.json"
    )
