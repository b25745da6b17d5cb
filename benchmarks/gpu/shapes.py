"""Random Llamas of the shapes of well-known models, made where they run: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from draftwood.targets.transformers.packed import pack_linears

VOCAB_SIZE = 151_936
"""Qwen 2.5's, whose tokenizer gives the ids of the recorded traffic."""

SHAPES = {  # hidden, layers, heads, groups, head size, intermediate, whether the head is tied
    "tiny": (64, 2, 4, 2, 16, 128, True),
    "0.5b": (896, 24, 14, 2, 64, 4864, True),
    "8b": (4096, 32, 32, 8, 128, 14336, False),
}
"""`0.5b` has the sizes of Qwen 2.5 0.5B, `8b` those of Llama 3.1 8B but for the vocabulary."""


def random_llama(name: str, device: torch.device, *, vocab_size: int = VOCAB_SIZE) -> Any:
    """A model of that shape in bfloat16, packed as `load` does it; float32 on a CPU."""
    hidden, layers, heads, groups, size, inner, tied = SHAPES[name]
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=size,
        intermediate_size=inner,
        max_position_embeddings=4096,
        tie_word_embeddings=tied,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    if device.type != "cpu":
        pack_linears(model)
    return model
