"""Tiny models of every class that transformers calls a causal language model."""

from __future__ import annotations

from typing import Any

VOCAB_SIZE = 61
LAYERS = 4
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WINDOW = 12
"""Tokens of a sliding window, and of whatever else depends on the length of a text."""

SIZES: dict[str, Any] = {
    # widths
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "dim": 32,
    "embedding_size": 32,
    "attention_hidden_size": 32,
    "word_embed_proj_dim": 32,
    "emb_dim": 32,
    "hidden_size_per_layer_input": 8,
    "intermediate_size": 48,
    "intermediate_size_mlp": 48,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "shared_intermediate_size": 24,
    "moe_shared_expert_intermediate_size": 24,
    "shared_experts_intermediate_size": 24,
    "expert_ffn_hidden_size": 24,
    "dense_intermediate_size": 48,
    "ffn_hidden_size": 48,
    "ffn_dim": 48,
    "dff": 48,
    "dim_ff": 48,
    "n_inner": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "lru_width": 32,
    "laurel_rank": 8,
    "gated_norm_rank": 8,
    # layers
    "num_hidden_layers": LAYERS,
    "num_layers": LAYERS,
    "n_layer": LAYERS,
    "n_layers": LAYERS,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "first_k_dense_replace": 1,
    "num_kv_shared_layers": 0,
    # heads
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "swa_num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_kv_heads": 2,
    "swa_num_key_value_heads": 2,
    "num_global_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 8,
    "swa_head_dim": 8,
    "swa_v_head_dim": 8,
    "dim_head": 8,
    "kv_channels": 8,
    "rotary_dim": 4,
    "attention_head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "o_lora_rank": 16,
    "index_n_heads": 2,
    "index_head_dim": 16,
    # experts
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_local_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_k": 2,
    "moe_topk": 2,
    "n_group": 1,
    "topk_group": 1,
    "num_expert_group": 1,
    "zero_expert_num": 2,
    # recurrences
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_d_state": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_num_heads": 8,
    "mamba_head_dim": 8,
    "n_mamba_heads": 2,
    "state_size": 8,
    "ssm_state_size": 8,
    # lengths
    "max_position_embeddings": 128,
    "n_positions": 128,
    "n_ctx": 128,
    "max_seq_len": 128,
    "model_max_length": 128,
    "max_target_positions": 128,
    "sliding_window": WINDOW,
    "sliding_window_size": WINDOW,
    "window_size": WINDOW,
    "local_attention": WINDOW,
    "attention_window_size": WINDOW,
    "attention_chunk_size": WINDOW,
    "keep_window_size": WINDOW,
    "index_topk": 8,
    # the rest
    "vocab_size": VOCAB_SIZE,
    "vocab_size_per_layer_input": VOCAB_SIZE,
    "unpadded_vocab_size": VOCAB_SIZE,
    "initializer_range": 0.6,
    "init_std": 0.6,
    "tie_word_embeddings": False,
    "is_decoder": True,
    "use_cache": True,
}
"""What a configuration says of size, by the names of transformers, and how small it is here."""

_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
    "ngram_vocab_size_base": 64,
}
_NO_TABLE = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 64, "num_hidden_layers": 4 * LAYERS},
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
            for kind in ("sliding_attention", "full_attention")
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 48},
    },
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "dots3_note": {
        "text_config": {"per_layer_config": {}, "head_dim": 16},
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32, "per_layer_config": {}},
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": {"per_layer_config": {}, "head_dim": 16},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma4_assistant": {"text_config": {**_NO_TABLE, "num_kv_shared_layers": LAYERS}},
    "gemma4_unified_assistant": {"text_config": {"num_kv_shared_layers": LAYERS}},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 8},
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "reformer": {
        "axial_pos_shape": (8, 16),
        "axial_pos_embds_dim": (16, 16),
        "attention_head_size": 8,
        "feed_forward_size": 48,
        "num_buckets": 4,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
    },
    "roc_bert": {
        "shape_vocab_size": VOCAB_SIZE,
        "pronunciation_vocab_size": VOCAB_SIZE,
        "shape_embed_dim": 16,
        "pronunciation_embed_dim": 16,
    },
    "xlstm": {"hidden_size": 64, "embedding_dim": 64, "qk_dim_factor": 1.0, "v_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16, "mamba_dt_rank": 8},
    "zamba2": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "xlnet": {"d_inner": 48, "d_head": 8},
    "zaya": {"num_experts_per_tok": 1},
}
"""What single families need beside that."""
PARTS: dict[str, dict[str, Any]] = {
    "gemma4_assistant": {"text_config": {**_NO_TABLE, "num_kv_shared_layers": 30}},
}
"""Configurations whose defaults are none that they would take."""
DECODER_ALONE = ("musicgen", "musicgen_melody")
"""Families whose causal language model takes the configuration of its decoder only."""


def tiny(kind: str, *, attention: str = "eager", seed: int = 0) -> Any:
    """A random model of the family `kind` (a `model_type`), in evaluation mode."""
    import torch
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

    config = tiny_config(kind)
    torch.manual_seed(seed)
    if kind in DECODER_ALONE:
        made = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[kind]]._from_config(config.decoder)
    else:
        made = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention, dtype=torch.float32
        )
    return made.eval()


def tiny_config(kind: str) -> Any:
    """The configuration of `kind` with the sizes above."""
    from transformers import CONFIG_MAPPING

    return shrunk(CONFIG_MAPPING[kind], OWN.get(kind, {}))


def shrunk(config_class: Any, own: dict[str, Any]) -> Any:
    """A small configuration of a class, its parts shrunk as well."""
    full = vars(config_class(**PARTS.get(config_class.model_type, {})))
    values = {name: value for name, value in SIZES.items() if name in full}
    own = dict(own)
    for name in getattr(config_class, "sub_configs", None) or {}:
        if hasattr(full.get(name), "sub_configs"):
            values[name] = shrunk(type(full[name]), own.pop(name, {}))
    aliases = getattr(config_class, "attribute_map", {})
    for alias, name in aliases.items():
        if alias in SIZES and name in full:
            values.setdefault(name, SIZES[alias])
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id"):
        if name in full:
            values[name] = 0
    if "kv_lora_rank" in full:  # latent attention has as many keys as queries
        values["num_key_value_heads"] = values["num_attention_heads"]
    layers = next((full[name] for name in LAYER_COUNTS if name in full), 0)
    for name, value in full.items():
        if isinstance(value, (list, tuple)) and len(value) == layers > LAYERS:
            values[name] = _cover(list(value), SIZES.get(name))
    return config_class(**(values | own))


def _cover(values: list[Any], size: Any) -> list[Any]:
    """As many entries as there are layers, each kind among them where there are so many kinds."""
    if size is not None:
        return [size] * LAYERS
    kinds = list(dict.fromkeys(map(_plain, values)))
    return (kinds * LAYERS)[:LAYERS] if len(kinds) <= LAYERS else values[:LAYERS]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
