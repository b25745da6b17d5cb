"""Reading models: by path, as .gguf file, as object; and each way in which files can be wrong."""

import json
import shutil
import struct

import pytest

from draftwood.errors import (
    BrokenModel,
    InvalidOption,
    MissingExtra,
    ModelNotFound,
    TokenizerMissing,
    UnsupportedModel,
)
from draftwood.load import load
from draftwood.targets.transformers.load import read_model
from draftwood.testing import save_tiny_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of a good model folder, to be spoilt."""
    return shutil.copytree(saved, tmp_path / "model")


def change(file, **values):
    content = json.loads(file.read_text())
    content.update(values)
    file.write_text(json.dumps(content))


def tokens_of(model, count=12):
    ids = torch.tensor([[3, 10, 31, 5]])
    mask = torch.ones_like(ids)
    output = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=count)
    return output[0].tolist()


def test_a_folder_gives_a_model_in_evaluation_mode_and_its_tokenizer(folder):
    model, tokenizer = read_model(folder, device="cpu", dtype="bfloat16", attention="eager")
    assert not model.training
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"
    assert tokenizer.decode(tokenizer("SELECT 1;")["input_ids"]) == "SELECT 1;"


def test_a_model_object_is_returned_as_it_is(folder):
    model, tokenizer = read_model(folder)
    assert read_model(model, tokenizer=tokenizer) == (model, tokenizer)
    assert len(read_model(model, tokenizer=folder)[1]) == len(tokenizer)
    assert read_model(model, tokenizer_needed=False) == (model, None)
    with pytest.raises(InvalidOption, match="comes without its tokenizer; pass tokenizer="):
        read_model(model)
    with pytest.raises(InvalidOption, match="dtype is for a model that is loaded by name"):
        read_model(model, tokenizer=tokenizer, dtype="bfloat16")
    with pytest.raises(InvalidOption, match="the model is a NoneType"):
        read_model(None)


def test_a_tokenizer_may_come_from_elsewhere(folder, saved):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert len(read_model(folder, tokenizer=saved)[1]) == 257
    assert read_model(folder, tokenizer_needed=False)[1] is None
    with pytest.raises(TokenizerMissing, match="holds no tokenizer that can be read"):
        read_model(folder)


def test_options_reach_from_pretrained(folder, monkeypatch):
    asked = {}
    for kind in ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"):
        real = getattr(transformers, kind).from_pretrained

        def spy(name, *rest, kind=kind, real=real, **options):
            asked.setdefault(kind, dict(options))
            return real(name, *rest, **options)

        monkeypatch.setattr(getattr(transformers, kind), "from_pretrained", spy)
    pytest.importorskip("accelerate")
    read_model(folder, revision="main", device_map={"": "cpu"}, trust_remote_code=True)
    assert len(asked) == 3
    for options in asked.values():
        assert (options["revision"], options["trust_remote_code"]) == ("main", True)
    assert asked["AutoModelForCausalLM"]["device_map"] == {"": "cpu"}
    with pytest.raises(InvalidOption, match="device 'cpu' and a device_map are given"):
        read_model(folder, device="cpu", device_map="auto")


# GGUF


def write_gguf(path, model, tokenizer):
    """A llama model as llama.cpp's converter writes it, unquantized."""
    import gguf

    config, weights = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    texts = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    texts[255] = texts[0] + texts[1]  # llama.cpp's tokenizers have merges
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_merges([f"{texts[0]} {texts[1]}"])
    writer.add_eos_token_id(tokenizer.eos_token_id)

    def interleaved(weight, heads):
        """Rows of a projection in the order of GGUF's rotary halves."""
        return weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)

    def add(name, key, heads=None):
        tensor = weights[key].numpy()
        writer.add_tensor(name, tensor if heads is None else interleaved(tensor, heads))

    add("token_embd.weight", "model.embed_tokens.weight")
    add("output_norm.weight", "model.norm.weight")
    add("output.weight", "lm_head.weight")
    for layer in range(config.num_hidden_layers):
        own, theirs = f"model.layers.{layer}.", f"blk.{layer}."
        add(theirs + "attn_norm.weight", own + "input_layernorm.weight")
        add(theirs + "ffn_norm.weight", own + "post_attention_layernorm.weight")
        heads = config.num_attention_heads
        add(theirs + "attn_q.weight", own + "self_attn.q_proj.weight", heads)
        heads = config.num_key_value_heads
        add(theirs + "attn_k.weight", own + "self_attn.k_proj.weight", heads)
        add(theirs + "attn_v.weight", own + "self_attn.v_proj.weight")
        add(theirs + "attn_output.weight", own + "self_attn.o_proj.weight")
        for part in ("gate", "up", "down"):
            add(theirs + f"ffn_{part}.weight", own + f"mlp.{part}_proj.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def gguf_file(saved, tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    file = tmp_path / "tiny.gguf"
    write_gguf(file, *read_model(saved))
    return file


def test_a_gguf_file_is_the_model_that_it_was_made_of(gguf_file, saved):
    model, tokenizer = read_model(gguf_file)
    original, _ = read_model(saved)
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    assert tokenizer.decode(tokenizer("SELECT 1;")["input_ids"]) == "SELECT 1;"
    assert tokens_of(model) == tokens_of(original)


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_a_gguf_file_names_the_extra_that_reads_it(gguf_file, monkeypatch, package):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else real(name)
    )
    with pytest.raises(MissingExtra, match=rf"needs {package}.*pip install 'draftwood\[gguf\]'"):
        read_model(gguf_file)


def test_a_gguf_file_that_is_none_or_cut_is_refused(gguf_file):
    content = gguf_file.read_bytes()
    for size in (len(content) // 2, len(content) - 100, 40):
        gguf_file.write_bytes(content[:size])
        with pytest.raises(BrokenModel, match=r"tiny\.gguf' cannot be read .*; fetch them again"):
            read_model(gguf_file)
    gguf_file.write_bytes(b"GGML" + content[4:])
    with pytest.raises(BrokenModel, match="does not begin as a GGUF file does"):
        read_model(gguf_file)
    with pytest.raises(ModelNotFound, match=r"is a folder of GGUF files.*tiny\.gguf"):
        read_model(gguf_file.parent)
    with pytest.raises(ModelNotFound, match="is no folder; give a model folder or"):
        read_model(gguf_file.parent / "other.gguf")


# files that are wrong


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 1234567\n"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_git_lfs_pointer_is_named(folder, name):
    (folder / name).write_text(POINTER)
    with pytest.raises(BrokenModel, match=rf"{name} of .* is a Git LFS pointer.*git lfs pull"):
        read_model(folder)


@pytest.mark.parametrize("left", [0, 5, 100, 0.5, -1])
def test_cut_weights_are_refused_before_they_are_loaded(folder, left):
    file = folder / "model.safetensors"
    content = file.read_bytes()
    size = int(len(content) * left) if isinstance(left, float) else left
    file.write_bytes(content[:size])
    with pytest.raises(BrokenModel, match=r"model\.safetensors of .* bytes.*was cut"):
        read_model(folder)


def test_a_header_that_is_none_is_refused(folder):
    file = folder / "model.safetensors"
    for header in (b"[1]", b"{}}", b'{"a": 3}', b'{"a": {"data_offsets": "no"}}'):
        file.write_bytes(struct.pack("<Q", len(header)) + header)
        with pytest.raises(BrokenModel, match="has no whole safetensors header"):
            read_model(folder)


def test_a_cut_pickle_is_refused(folder):
    (folder / "model.safetensors").unlink()
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.from_pretrained(folder)
    )
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    content = (folder / "pytorch_model.bin").read_bytes()
    read_model(folder)
    (folder / "pytorch_model.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises((BrokenModel, ModelNotFound), match=r"the files of|can be loaded"):
        read_model(folder)


def test_missing_weights_are_not_made_up(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BrokenModel, match=r"lacks 1 of its weights, such as model\.layers\.1"):
        read_model(folder)


def test_weights_of_other_shapes_are_refused(folder):
    change(folder / "config.json", intermediate_size=40)
    with pytest.raises(BrokenModel, match="cannot be read"):
        read_model(folder)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"version": "1.0"}'])
def test_a_tokenizer_file_without_a_vocabulary_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerMissing, match="holds no tokenizer that can be read"):
        read_model(folder)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"type": "WordLevel", "vocab": {}, "unk_token": "?"}, "vocabulary is empty|Missing"),
        ({"type": "WordLevel", "vocab": {"b": 0}, "unk_token": "?"}, "Missing .UNK. token"),
        ({"type": "WordLevel", "vocab": {"a": 2**31 + 5}, "unk_token": "a"}, "a token id of 2147"),
    ],
)
def test_a_tokenizer_that_cannot_encode_is_refused(folder, model, reason):
    change(folder / "tokenizer.json", model=model, added_tokens=[], post_processor=None)
    with pytest.raises(TokenizerMissing, match=f"holds no tokenizer that can be read.*({reason})"):
        read_model(folder)


def test_all_tokenizer_files_empty_are_refused(folder):
    for file in folder.glob("tokenizer*"):
        file.write_text("")
    with pytest.raises(TokenizerMissing, match="holds no tokenizer that can be read"):
        read_model(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_config_that_says_nothing_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises((ModelNotFound, UnsupportedModel, BrokenModel), match=str(folder)):
        read_model(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", b"\xff\xfe"])
def test_a_generation_config_that_is_none_is_not_passed_over(folder, content):
    file = folder / "generation_config.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BrokenModel, match=r"generation_config\.json of .* is no JSON object"):
        read_model(folder)


class Adapted(torch.nn.Module):
    """As PEFT wraps a model."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, *args, **options):
        return self.model(*args, **options)

    def get_base_model(self):
        return self.model

    def merge_and_unload(self):
        return self.model


def test_a_model_inside_an_adapter_says_what_to_give_instead(folder):
    model, tokenizer = read_model(folder)
    with pytest.raises(
        UnsupportedModel, match=r"give model\.get_base_model\(\), in which its adap"
    ):
        load(Adapted(model), tokenizer=tokenizer, drafter="none", cost="none")


@pytest.mark.parametrize("key", ["suppress_tokens", "watermarking_config"])
def test_a_key_of_a_wrong_type_is_named(folder, key):
    change(folder / "generation_config.json", **{key: 5})
    with pytest.raises(BrokenModel, match=f"says {key} = 5, which is of a wrong type"):
        read_model(folder)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("bad_words_ids", [[10**9]], "vocabulary size is 257"),
        ("exponential_decay_length_penalty", [0, "x"], "unsupported operand"),
    ],
)
def test_a_value_at_which_a_processor_stumbles_is_refused_at_load(folder, key, value, reason):
    change(folder / "generation_config.json", **{key: value})
    with pytest.raises(UnsupportedModel, match=f"says {key} = .*cannot be applied.*{reason}"):
        load(folder, drafter="none", cost="none")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"num_hidden_layers": -1}, "no cache for the layers that LlamaConfig describes"),
        ({"sliding_window": "x"}, "no cache for the layers that LlamaConfig describes"),
        ({"max_position_embeddings": 0}, "a context of 0 tokens, and 16 are needed"),
    ],
)
def test_a_config_of_impossible_values_is_refused(folder, values, reason):
    change(folder / "config.json", **values)
    with pytest.raises(UnsupportedModel, match=reason):
        load(folder, drafter="none", cost="none")


def test_an_adapter_beside_its_model_is_not_passed_over(folder, monkeypatch):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b"}')
    monkeypatch.setattr("draftwood.targets.transformers.files.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="adapter beside its model, and peft"):
        read_model(folder)


def test_weights_that_are_no_numbers_are_named(folder):
    from safetensors.torch import load_file, save_file

    from draftwood.targets.transformers.target import TransformersTarget

    weights = load_file(folder / "model.safetensors")
    broken = {name: each * float("nan") for name, each in weights.items()}
    save_file(broken, folder / "model.safetensors", metadata={"format": "pt"})
    model, _ = read_model(folder, packed=False)
    with pytest.raises(UnsupportedModel, match="own logits are NaN"):
        TransformersTarget(model)


def test_an_adapter_without_its_model_is_refused(tmp_path):
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "some/base"}))
    with pytest.raises(ModelNotFound, match=r"adapter \(PEFT\) without its model.*'some/base'"):
        read_model(tmp_path)
    file.write_text("{}")
    with pytest.raises(ModelNotFound, match="names no base model"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        {"quant_method": "awq", "bits": 4, "group_size": 128},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "compressed-tensors", "config_groups": {}},
        {"quant_method": "aqlm"},
        {"quant_method": "hqq"},
    ],
)
def test_a_quantized_folder_without_its_package_is_refused_in_a_sentence(folder, quantization):
    change(folder / "config.json", quantization_config=quantization)
    with pytest.raises((MissingExtra, UnsupportedModel, BrokenModel)) as refused:
        read_model(folder, device="cpu")
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 420


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(folder, monkeypatch):
    def asked(*_):
        raise AssertionError("asked on the terminal")

    monkeypatch.setattr("builtins.input", asked)
    change(
        folder / "config.json",
        model_type="own",
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    )
    (folder / "own.py").write_text("raise RuntimeError('it was run')")
    with pytest.raises(UnsupportedModel, match=r"code of its own.*trust_remote_code=True"):
        read_model(folder)
    with pytest.raises(BrokenModel, match="it was run"):
        read_model(folder, trust_remote_code=True)


def test_code_of_a_tokenizer_is_neither_run_nor_asked_about(folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]})
    change(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer")
    (folder / "own.py").write_text("raise RuntimeError('it was run')")
    with pytest.raises(UnsupportedModel, match="Python code of its own"):
        read_model(folder)


@pytest.mark.parametrize(
    "kind", ["bart", "mbart", "marian", "pegasus", "blenderbot", "plbart", "t5", "whisper"]
)
def test_an_encoder_decoder_does_not_run_as_its_decoder(folder, kind):
    config = transformers.AutoConfig.for_model(kind)
    (folder / "config.json").write_text(config.to_json_string(use_diff=False))
    with pytest.raises(UnsupportedModel, match="has an encoder"):
        read_model(folder)
