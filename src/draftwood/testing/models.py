"""Seeded random models of Hugging Face families, small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

FAMILIES: Final = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "phi3",
    "gpt2",
    "gemma",
    "gemma2",
    "gemma3",
)
"""The families that `tiny_model` makes. Mistral, Gemma 2 and Gemma 3 slide over 24 tokens."""


def tiny_model(
    family: str, *, attention: str = "sdpa", vocab_size: int = 61, seed: int = 0, **overrides: Any
) -> Any:
    """A random-weight float32 model of a Hugging Face family, in evaluation mode.

    Its weights are large enough that greedy text wanders instead of repeating one token, and
    that the two likeliest tokens are far apart in float32. overrides: options of the config.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
    }
    if family != "gpt2":
        sizes |= {"num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 8}
    if family in ("mistral", "gemma2", "gemma3"):
        sizes |= {"sliding_window": 24}
    if family in ("gemma2", "gemma3"):
        sizes |= {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    ids = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": None}
    kind = "gemma3_text" if family == "gemma3" else family
    config = AutoConfig.for_model(
        kind, **{"vocab_size": vocab_size, "initializer_range": 0.6, **ids, **sizes, **overrides}
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention, dtype=torch.float32
    )
    return model.eval()


CHAT_TEMPLATE: Final = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}<assistant>"
)
"""The template of the chat models that `save_tiny_model` writes."""


def save_tiny_model(folder: str | Path, family: str = "llama", *, chat: bool = False) -> Path:
    """Write a tiny model with a byte-level tokenizer to `folder`; its end token is `<end>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    byte_characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(byte_characters)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>")
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    model = tiny_model(family, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return Path(folder)
