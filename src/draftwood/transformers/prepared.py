"""A call as transformers prepared it, checked: what cannot be given exactly is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption, UnsupportedEngine, UnsupportedModel
from draftwood.targets.transformers.generation_keys import KEPT_CACHES
from draftwood.transformers.draws import Draws

_HARMLESS: Final = frozenset(
    (
        "attention_mask",
        "cache_position",
        "logits_to_keep",
        "past_key_values",
        "position_ids",
        "token_type_ids",
        "use_cache",
    )
)
"""Arguments of a pass that say how it is run, or follow from the tokens."""

_PASSES: Final = ("UnbatchedClassifierFreeGuidance", "SynthIDTextWatermark")
"""Processors of transformers that keep something for a whole batch from step to step."""


@dataclass(slots=True)
class Prepared:
    """What the rows of one call share.

    batch: rows. processors, criteria: as transformers prepared them. sample: whether tokens are
    drawn; `draws` then draws them. pads: whether finished rows are padded, as they are where an end
    token is known. keep_scores, keep_logits: whether they are returned, too. most: tokens that may
    be generated.
    """

    batch: int
    processors: Any
    criteria: Any
    sample: bool
    draws: Draws
    pads: bool
    keep_scores: bool
    keep_logits: bool
    most: int

    @classmethod
    def of(cls, ids: torch.Tensor, processors: Any, criteria: Any, config: Any) -> Prepared:
        """A call over token ids [B, L].

        Raises:
            UnsupportedEngine: where transformers prepares calls in another way.
            InvalidOption: for an option whose result would not be that of plain `generate`.
        """
        own = {} if config is None else vars(config)
        missing = {"max_length", "do_sample", "_pad_token_tensor"} - own.keys()
        if missing or processors is None or criteria is None:
            from transformers import __version__

            lacks = ", ".join(sorted(missing)) or "logits_processor or stopping_criteria"
            raise UnsupportedEngine(
                f"transformers {__version__} gave the decoding loop no {lacks}: call it as "
                "model.generate(..., custom_generate=draftwood.transformers.generate), with "
                "transformers 5"
            )
        _refuse_options(own)
        batch, length = ids.shape
        if batch > 1:
            for each in processors:
                if type(each).__name__.startswith(_PASSES):
                    raise InvalidOption(
                        f"{type(each).__name__} keeps its state for a whole batch, and rows of "
                        f"drafts are steps apart; generate the {batch} texts one by one"
                    )
        returned = bool(own.get("return_dict_in_generate"))
        return cls(
            batch=batch,
            processors=processors,
            criteria=criteria,
            sample=bool(config.do_sample),
            draws=Draws(batch),
            pads=batch == 1 or any(hasattr(each, "eos_token_id") for each in criteria),
            keep_scores=returned and bool(own.get("output_scores")),
            keep_logits=returned and bool(own.get("output_logits")),
            most=int(config.max_length) - length,
        )


def prompts_of(ids: torch.Tensor, arguments: Mapping[str, Any]) -> list[TokenIds]:
    """The tokens of each row of ids [B, L], without its padding on the left.

    Raises:
        InvalidOption: for inputs that are more than tokens, or are padded in another way.
    """
    given = {key for key, value in arguments.items() if value is not None}
    refused = sorted(given - _HARMLESS)
    if refused or not ids.shape[1]:
        what = ", ".join(refused) or "inputs without token ids"
        raise InvalidOption(
            f"drafts are verified for texts of token ids, and this call has {what}; leave "
            "custom_generate out"
        )
    mask = arguments.get("attention_mask")
    rows = ids.to("cpu", torch.int64).numpy()
    seen = np.ones_like(rows) if mask is None else mask.to("cpu", torch.int64).numpy()
    if seen.shape != rows.shape:
        raise InvalidOption(f"attention_mask has shape {list(seen.shape)}; use {list(rows.shape)}")
    starts = rows.shape[1] - (seen != 0).sum(1)
    for row, start in enumerate(starts.tolist()):
        if not seen[row, start:].all() or start == rows.shape[1]:
            raise InvalidOption(
                f"the attention_mask of row {row} hides tokens that are no padding on the left; "
                "set padding_side='left' in the tokenizer"
            )
    _check_positions(arguments.get("position_ids"), seen)
    return [row[start:].astype(np.int32) for row, start in zip(rows, starts, strict=True)]


def _check_positions(given: torch.Tensor | None, seen: np.ndarray[Any, Any]) -> None:
    if given is None:
        return
    positions = given.to("cpu", torch.int64).numpy()
    ours = (seen != 0).cumsum(1) - 1
    if positions.shape[-2:] != ours.shape and positions.shape[0] != 1:
        raise InvalidOption(f"position_ids has shape {list(positions.shape)}; leave it out")
    if not ((positions == ours) | (seen == 0)).all():
        raise InvalidOption("position_ids are not those of the tokens from 0 up; leave it out")


def _refuse_options(own: Mapping[str, Any]) -> None:
    """Refuse what is no plain greedy or sampled text."""
    neutral: tuple[tuple[str, Collection[Any], str], ...] = (
        ("num_beams", (None, 1), "beams are searched by transformers alone"),
        ("penalty_alpha", (None, 0, 0.0), "this is another way of decoding"),
        ("dola_layers", (None,), "this is another way of decoding"),
        ("output_attentions", (None, False), "the attention of drafted rows is not kept"),
        ("output_hidden_states", (None, False), "the states of drafted rows are not kept"),
    )
    for name, values, reason in neutral:
        value = own.get(name)
        if value not in values:
            raise InvalidOption(f"{name} is {value!r}, and {reason}; leave custom_generate out")
    cache = own.get("cache_implementation")
    if cache is not None and not any(kind in str(cache) for kind in KEPT_CACHES):
        raise UnsupportedModel(
            f"cache_implementation is {cache!r}, and Draftwood keeps keys and values as they were "
            "computed; leave it out"
        )
