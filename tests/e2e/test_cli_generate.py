"""`draftwood generate` on a tiny random model with a real (small) tokenizer, in a folder."""

from __future__ import annotations

import json
import sys

import pytest

from draftwood.cli import app as command_line


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder as `save_pretrained` writes it: a random Llama over letters."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from draftwood.testing import tiny_model

    folder = tmp_path_factory.mktemp("model")
    pieces = ["<s>", "<end>", *"abcdefghijklmnopqrstuvwxyz .:"]
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token="."))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<end>", unk_token="."
    )
    fast.chat_template = "{% for m in messages %}{{ m['role'] + ':' + m['content'] }}{% endfor %}"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    tiny_model("llama", vocab_size=len(pieces)).save_pretrained(folder)
    return folder


@pytest.fixture
def generate(monkeypatch, capsys, model):
    """Run `draftwood generate` on the model in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        command = ["draftwood", "generate", "--model", str(model), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as left:
            command_line.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def test_text_goes_to_stdout_and_figures_to_stderr(generate):
    code, out, err = generate("--prompt", "select", "--max-tokens", 16)
    assert code == 0
    assert 0 < len(out.strip()) <= 16
    assert "16 tokens in" in err


@pytest.mark.parametrize("drafter", ["suffix", "suffix:mode=tree,alpha=4,floor=0", "lookup"])
def test_every_drafter_gives_the_text_of_plain_decoding(generate, drafter):
    arguments = ("--prompt", "abcabcabc", "--max-tokens", 40)
    assert (
        generate(*arguments, "--drafter", drafter)[1]
        == generate(*arguments, "--drafter", "none")[1]
    )


def test_streaming_gives_the_same_text(generate):
    arguments = ("--prompt", "select", "--max-tokens", 30)
    assert generate(*arguments, "--stream")[1] == generate(*arguments)[1]


def test_a_seed_draws_the_same_text_again(generate):
    arguments = ("--prompt", "a", "--temperature", 1, "--top-k", 20, "--max-tokens", 30, "--json")
    first, second = (json.loads(generate(*arguments, "--seed", 5)[1]) for _ in range(2))
    other = json.loads(generate(*arguments, "--seed", 6)[1])
    assert first["text"] == second["text"] != other["text"]
    assert first["seed"] == 5


def test_json_holds_text_tokens_and_figures(generate):
    code, out, err = generate(
        *("--prompt", "select", "--max-tokens", 8, "--json", "--drafter", "lookup")
    )
    result = json.loads(out)
    assert (code, result["finish"], result["drafter"]) == (0, "length", "lookup")
    assert len(result["token_ids"]) == result["tokens"] == 8
    assert result["tokens_per_step"] == 8 / result["steps"]
    assert "tokens in" not in err


def test_the_chat_template_is_used_unless_turned_off(generate):
    arguments = ("--prompt", "hello", "--max-tokens", 2, "--json")
    assert json.loads(generate(*arguments)[1])["prompt_tokens"] == len("user:hello")
    assert json.loads(generate(*arguments, "--no-chat")[1])["prompt_tokens"] == len("hello")


def test_a_stop_string_ends_the_text_before_it(generate):
    whole = generate("--prompt", "select", "--max-tokens", 30)[1].rstrip("\n")
    code, out, _ = generate("--prompt", "select", "--max-tokens", 30, "--stop", whole[9:12])
    assert (code, out.rstrip("\n")) == (0, whole[: whole.index(whole[9:12])])


def test_a_prompt_file_is_read(generate, tmp_path):
    (tmp_path / "prompt.txt").write_text("select")
    given = generate("--prompt", "select", "--max-tokens", 9)[1]
    assert generate("--prompt-file", tmp_path / "prompt.txt", "--max-tokens", 9)[1] == given


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", "a" * 300, "--no-chat"], "the prompt has 300 tokens and the model's context"),
        (["--prompt", "a", "--max-tokens", "0"], "max_tokens is 0"),
        (["--prompt", "a", "--temperature", "-1"], "temperature is -1"),
        (["--prompt", "a", "--drafter", "sufix"], "did you mean 'suffix'?"),
        (["--prompt", "a", "--device", "tpu9"], "tpu9"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(generate, arguments, said):
    code, out, err = generate(*arguments)
    assert (code, out) == (2, "")
    complaint = err.strip().splitlines()[-1]
    assert complaint.startswith("draftwood: ")
    assert said in complaint


def test_a_missing_model_is_named(monkeypatch, capsys):
    arguments = ["draftwood", "generate", "--model", "./nowhere", "--prompt", "a"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as left:
        command_line.main()
    assert left.value.code == 2
    assert "./nowhere" in capsys.readouterr().err
