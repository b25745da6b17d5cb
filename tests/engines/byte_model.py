"""A tiny model in a folder, over bytes, that engines load as they load any other."""

from pathlib import Path

END = 256


def make_model(folder: Path) -> Path:
    """A random Llama of two layers over bytes, with its tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: at for at, letter in enumerate(alphabet)} | {"</s>": END, "<s>": END + 1}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", bos_token="<s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=END + 2,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=END + 1,
        eos_token_id=END,
        initializer_range=0.4,
    )
    AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
    return folder
