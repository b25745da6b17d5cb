"""Which attention layers a transformers model has, and whether they can drop a rejected draft.

A layer whose state is a row of keys and values for each token can forget a token; a recurrent
state cannot.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from draftwood.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class Layers:
    """How a model's attention layers see the past, by the name of their type.

    count: layers with keys and values. windows: the window of each layer type in tokens, None for
    full attention. tree_masks: whether masks by position are all that these layers need.
    """

    count: int
    windows: dict[str, int | None]
    tree_masks: bool


@runtime_checkable
class _Adapted(Protocol):
    """What PEFT puts around a model: its forward says nothing of what the model takes."""

    def get_base_model(self) -> Any: ...

    def merge_and_unload(self) -> Any: ...


def attention_layers(config: Any) -> Layers:
    """The attention layers that the model's own cache would have.

    Raises:
        UnsupportedModel: for a layer that keeps anything but a row of keys and values a token, and
            for a configuration that transformers makes no cache of.
    """
    windows: dict[str, int | None] = {}
    try:
        layers = DynamicCache(config=config).layers
    except Exception as error:  # it takes a configuration's values as they are
        raise UnsupportedModel(
            f"transformers makes no cache for the layers that {type(config).__name__} describes "
            f"({type(error).__name__}: {error}); correct config.json, or fetch it again"
        ) from error
    if not layers:  # transformers adds layers of full attention as they come
        layers = [DynamicLayer() for _ in range(config.num_hidden_layers)]
    names = getattr(config, "layer_types", None) or [None] * len(layers)
    for layer, name in zip(layers, names, strict=False):
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise UnsupportedModel(
                f"a layer of type {name or type(layer).__name__} keeps a {type(layer).__name__}, "
                "and only keys and values of ordinary attention can forget a rejected draft; "
                "use a model whose layers are all full or sliding-window attention"
            )
        default = "sliding_attention" if layer.is_sliding else "full_attention"
        windows[name or default] = layer.sliding_window if layer.is_sliding else None
    by_row = getattr(config, "attention_chunk_size", None) is not None or "local" in (
        getattr(config, "attention_layers", None) or ()  # GPT-Neo: a window over rows
    )
    return Layers(len(layers), windows, tree_masks=not by_row)


def refuse_encoder(config: Any, name: str) -> None:
    """Raise UnsupportedModel for the configuration of a model with an encoder."""
    if config.is_encoder_decoder:
        raise UnsupportedModel(
            f"{name} has an encoder, without which its decoder writes another text; "
            "use a causal (decoder-only) language model"
        )


def refuse_other_kinds(model: Any) -> None:
    """Raise UnsupportedModel for a model that is no causal one with a cache, ready to run."""
    name = type(model).__name__
    refuse_encoder(model.config, name)
    if getattr(model, "_is_stateful", False):
        raise UnsupportedModel(
            f"{name} carries a recurrent state, which cannot forget a rejected draft; "
            "use a model whose layers are all full or sliding-window attention"
        )
    if isinstance(model, _Adapted):
        raise UnsupportedModel(
            f"{name} stands around a model (PEFT); give model.get_base_model(), in which its "
            "adapters are applied, or the model that merge_and_unload() makes"
        )
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModel(
            f"{name} takes no past_key_values; use a model with a key-value cache"
        )
    _refuse_several_tables(model, name)
    if model.training:
        raise UnsupportedModel(f"{name} is in training mode; call model.eval() first")


def _refuse_several_tables(model: Any, name: str) -> None:
    """Raise UnsupportedModel for a model that reads anything but one token id at a place."""
    try:
        table = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        table = None
    if getattr(getattr(table, "weight", None), "ndim", None) != 2:
        raise UnsupportedModel(
            f"{name} has no table of embeddings with one row a token, as models of sound with "
            "several codebooks do not; use a language model of text"
        )
