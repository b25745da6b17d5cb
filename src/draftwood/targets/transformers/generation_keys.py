"""The keys of a generation config: which are applied, by whom, refused, or without effect.

docs/generation-config.md shows these tables; a test holds them complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


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
    "max_time": "seconds from the call on, where the call names none; whole steps are made",
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
