"""What a transformers model can do: its layers by configuration, the rest by trying.

A layer whose state is a row of keys and values a token can forget a rejected draft; a recurrent
state cannot. Whether several tokens at once, a tree among them, get the logits of one after the
other is seen by comparing passes over a few tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from draftwood.draft import ROOT, Draft, TokenIds, as_tokens
from draftwood.errors import UnsupportedModel
from draftwood.protocols import Target, Verdict

LONG_ROPE = ("dynamic", "longrope")
"""Rotary embeddings that turn with the length of a pass: exact on one side of their switch."""


@dataclass(frozen=True, slots=True)
class Layers:
    """How a model's attention layers see the past, by the name of their type.

    count: layers with keys and values. windows: the window of each layer type in tokens, None for
    full attention. tree_masks: whether masks by position are all that these layers need.
    """

    count: int
    windows: dict[str, int | None]
    tree_masks: bool


def attention_layers(config: Any) -> Layers:
    """The attention layers that the model's own cache would have.

    Raises:
        UnsupportedModel: for a layer that keeps anything but a row of keys and values a token.
    """
    windows: dict[str, int | None] = {}
    layers = DynamicCache(config=config).layers
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


def refuse_other_kinds(model: Any) -> None:
    """Raise UnsupportedModel for a model that is no causal one with a cache, ready to run."""
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise UnsupportedModel(f"{name} has an encoder; use a causal (decoder-only) language model")
    if getattr(model, "_is_stateful", False):
        raise UnsupportedModel(
            f"{name} carries a recurrent state, which cannot forget a rejected draft; "
            "use a model whose layers are all full or sliding-window attention"
        )
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModel(
            f"{name} takes no past_key_values; use a model with a key-value cache"
        )
    if model.training:
        raise UnsupportedModel(f"{name} is in training mode; call model.eval() first")


def rope_switch(config: Any) -> tuple[str, int] | None:
    """The kind of a length-dependent rotary embedding, and the length where it switches."""
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in (ropes, *ropes.values()):
        if isinstance(rope, dict) and rope.get("rope_type") in LONG_ROPE:
            at = rope.get("original_max_position_embeddings") or config.max_position_embeddings
            return rope["rope_type"], int(at)
    return None


def spread(vocab_size: int, count: int) -> TokenIds:
    """`count` token ids spread over the vocabulary."""
    return as_tokens([(1 + i * 7919) % vocab_size for i in range(count)])


def disagreement(
    target: Target,
    plain: Callable[[TokenIds], NDArray[np.float32]],
    draft: Draft,
    accepted: int,
    allowed: float,
) -> str | None:
    """How a scored draft and the pass after its commit differ from plain passes; None: not at all.

    plain: [n, V], the logits after each of n tokens, by one pass without a cache. accepted: the
    node to which the draft is accepted before the second pass. allowed: the largest difference, in
    standard deviations of the plain logits.
    """
    prompt, nothing = draft.tokens[::-1].copy(), Draft.empty()
    context = np.append(prompt, prompt[:1])
    verdict = Verdict(draft.path(accepted), int(draft.tokens[0]))

    def difference(logits: NDArray[Any], expected: NDArray[np.float32]) -> str | None:
        off = float(np.abs(expected - logits).max() / max(float(expected.std()), 1e-30))
        return None if off <= allowed else f"logits off by {off:.2g} standard deviations"

    try:
        with closing(target.open(prompt)) as cursor:
            cursor.score(nothing)
            cursor.commit(nothing, Verdict(draft.path(ROOT), int(context[-1])))
            rows = cursor.score(draft)
            for leaf in sorted(set(range(len(draft))).difference(draft.parents.tolist())):
                path = draft.path(leaf)
                expected = plain(np.append(context, draft.tokens[path]))[-len(path) - 1 :]
                for node, row in zip([ROOT, *path.tolist()], expected, strict=True):
                    if off := difference(rows.logits(node + 1), row):
                        return f"at node {node}, {off}"
            cursor.commit(draft, verdict)
            following = cursor.score(nothing).logits(0)
            off = difference(following, plain(np.append(context, verdict.tokens(draft)))[-1])
            return off and f"after a commit, {off}"
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
        return f"{type(error).__name__}: {error}"
