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


def test_several_texts_are_printed_and_share_a_seed(generate):
    arguments = ("--prompt", "a", "--temperature", 1, "--seed", 5, "--max-tokens", 9, "--json")
    code, out, _ = generate(*arguments, "--n", 3)
    texts = [json.loads(line) for line in out.splitlines()]
    assert (code, [text["seed"] for text in texts]) == (0, [5, 6, 7])
    assert texts[0]["text"] == json.loads(generate(*arguments)[1])["text"]


def test_a_stop_token_ends_the_text_and_logprobs_are_told(generate):
    arguments = ("--prompt", "select", "--max-tokens", 20, "--json", "--logprobs", 2)
    whole = json.loads(generate(*arguments)[1])
    assert len(whole["logprobs"]) == len(whole["top_logprobs"]) == 20
    assert all(len(each) == 2 for each in whole["top_logprobs"])
    token = whole["token_ids"][7]
    done = json.loads(generate(*arguments, "--stop-token-id", token)[1])
    assert done["token_ids"] == whole["token_ids"][: whole["token_ids"].index(token) + 1]
    assert done["finish"] == "stop"


@pytest.mark.parametrize("cost", ["auto", "none", "0.05"])
def test_cost_and_nodes_change_no_text(generate, cost):
    arguments = ("--prompt", "abcabcabc", "--max-tokens", 30)
    expected = generate(*arguments, "--drafter", "none")[1]
    assert generate(*arguments, "--cost", cost, "--nodes", 4)[1] == expected


def test_a_prediction_is_drafted_from(generate, tmp_path):
    arguments = ("--prompt", "select", "--max-tokens", 30, "--cost", "none", "--json")
    plain = json.loads(generate(*arguments)[1])
    (tmp_path / "likely.txt").write_text(plain["text"])
    told = json.loads(generate(*arguments, "--prediction-file", tmp_path / "likely.txt")[1])
    assert told["text"] == plain["text"]
    assert told["steps"] < plain["steps"]


def test_a_history_is_built_and_drafted_from(generate, model, monkeypatch, capsys, tmp_path):
    """README's way: what was generated is put into a history, which warms the next process."""
    arguments = ("--prompt", "select", "--max-tokens", 30, "--cost", "none", "--json")
    plain = json.loads(generate(*arguments)[1])
    (tmp_path / "texts.tokens").write_text(" ".join(map(str, plain["token_ids"])) + "\n")
    history = tmp_path / "history.dw"
    command = ["index", "build", tmp_path / "texts.tokens", "-o", history, "--tokenizer", model]
    monkeypatch.setattr(sys, "argv", ["draftwood", *map(str, command)])
    with pytest.raises(SystemExit) as left:
        command_line.main()
    assert not left.value.code
    capsys.readouterr()
    warm = json.loads(generate(*arguments, "--history", history)[1])
    assert warm["text"] == plain["text"]
    assert warm["steps"] < plain["steps"] / 2
    named = json.loads(generate(*arguments, "--drafter", f"recall:history={history}")[1])
    assert named["steps"] == warm["steps"]


def test_a_history_of_another_tokenizer_is_refused(generate, tmp_path):
    from draftwood.index.history_writer import HistoryWriter

    with HistoryWriter(tmp_path / "h.dw", fingerprint=bytes(range(32))) as out:
        out.add([1, 2, 3])
    code, out, err = generate("--prompt", "a", "--history", tmp_path / "h.dw")
    assert (code, out) == (2, "")
    assert "use a history of this model's tokenizer" in err


def test_the_bundled_model_goes_by_the_name_demo(monkeypatch, capsys):
    command = ["generate", "--model", "demo", "--prompt", "SELECT", "--max-tokens", "8"]
    drafter = ["--drafter", "chain:model=demo-small", "--no-chat", "--json"]
    monkeypatch.setattr(sys, "argv", ["draftwood", *command, *drafter])
    with pytest.raises(SystemExit) as left:
        command_line.main()
    assert not left.value.code
    assert json.loads(capsys.readouterr().out)["tokens"] == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", "a", "--cost", "cheap"], "cost is 'cheap'"),
        (["--prompt", "a", "--n", "0"], "n is 0"),
        (["--prompt", "a", "--n", "2", "--stream"], "--n is 2 and --stream prints one text"),
        (["--prompt", "a", "--nodes", "-1"], "nodes is -1"),
        (["--prompt", "a", "--logprobs", "-1"], "logprobs is -1"),
        (["--prompt", "a", "--stop-token-id", "-4"], "an entry of stop_token_ids is -4"),
        (["--prompt", "a", "--history", "nowhere.dw"], "nowhere.dw"),
        (["--prompt", "a", "--history", "a,b.dw"], "has a comma in it"),
        (["--prompt", "a", "--drafter", "lookup", "--history", "h.dw"], "no option 'history'"),
        (["--prompt", "a", "--prediction-file", "nowhere"], "cannot read the prediction"),
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
