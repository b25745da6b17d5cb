"""Texts equal `model.generate` under the model's own generation config, whatever drafts."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch")

from draftwood import load  # noqa: E402
from draftwood.errors import InvalidOption, UnsupportedModel  # noqa: E402
from draftwood.testing import save_tiny_model  # noqa: E402

PROMPTS = ["SELECT name FROM trees;", "a", "SELECT SELECT name, name"]
DRAFTERS = ["none", "lookup:max_ngram=1", "suffix:mode=tree,alpha=4", "recall"]
END = 256

CONFIGS = {
    "suppress_tokens": list(range(180, 256)),
    "begin_suppress_tokens": list(range(128)),
    "bad_words_ids": [[191], [106, 108], [82, 28]],
    "no_repeat_ngram_size": 1,
    "encoder_no_repeat_ngram_size": 1,
    "encoder_repetition_penalty": 1.8,
    "sequence_bias": [[[191], -9.0], [[106, 108], -30.0], [[77], 4.0]],
    "min_new_tokens": 30,
    "min_length": 40,
    "forced_bos_token_id": 65,
    "forced_eos_token_id": 70,
    "exponential_decay_length_penalty": [3, 1.5],
    "repetition_penalty": 1.4,
    "watermarking_config": {"bias": 4.0, "context_width": 1},
    "renormalize_logits": True,
    "remove_invalid_values": True,
    "max_new_tokens": 9,
    "max_length": 40,
    "typical_p": 0.3,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def configured(folder, drafter, **keys):
    file = folder / "generation_config.json"
    was = file.read_text()
    file.write_text(json.dumps(json.loads(was) | keys))
    try:
        return load(folder, drafter=drafter, device="cpu")
    finally:
        file.write_text(was)


def of_generate(llm, prompt, **options):
    ids = torch.tensor([llm.encode(prompt).tolist()])
    out = llm.target.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, **options
    )
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("key", CONFIGS)
def test_greedy_text_is_that_of_generate_with_every_drafter_alone_and_together(folder, key):
    limit = {} if key in ("max_new_tokens", "max_length") else {"max_tokens": 40}
    for drafter in DRAFTERS:
        with configured(folder, drafter, **{key: CONFIGS[key]}) as llm:
            new = {"max_new_tokens": 40} if limit else {}
            expected = [of_generate(llm, prompt, **new) for prompt in PROMPTS]
            alone = [llm.generate(prompt, **limit).tokens.tolist() for prompt in PROMPTS]
            assert alone == expected
            together = llm.generate(PROMPTS, **limit)
            assert [done.tokens.tolist() for done in together] == expected


@pytest.mark.parametrize("key", ["bad_words_ids", "typical_p", "no_repeat_ngram_size", "top_h"])
def test_sampled_text_is_the_same_with_every_drafter(folder, key):
    texts = set()
    for drafter in DRAFTERS:
        with configured(folder, drafter, **{key: CONFIGS.get(key, 0.6)}) as llm:
            options = {"max_tokens": 30, "temperature": 0.8, "seed": 3}
            texts.add(llm.generate(PROMPTS[0], **options).text)
            texts.add(llm.generate([PROMPTS[0], "b"], **options)[0].text)
    assert len(texts) == 1


def test_a_model_that_samples_by_itself_is_sampled_unless_told_otherwise(folder):
    with configured(folder, "none", do_sample=True, temperature=0.7) as llm:
        done = llm.generate(PROMPTS[0], max_tokens=20, seed=4)
        asked = llm.generate(PROMPTS[0], max_tokens=20, seed=4, temperature=0.7)
        assert done.seed == 4
        assert done.tokens.tolist() == asked.tokens.tolist()
        greedy = llm.generate(PROMPTS[0], max_tokens=20, temperature=0)
        assert greedy.tokens.tolist() == of_generate(llm, PROMPTS[0], max_new_tokens=20)


def test_stop_strings_of_the_model_end_the_text_beside_those_of_the_call(folder):
    with configured(folder, "recall") as llm:
        text = llm.generate(PROMPTS[0], max_tokens=40).text
    own, other = text[12:14], text[5:7]
    with configured(folder, "recall", stop_strings=own) as llm:
        assert llm.generate(PROMPTS[0], max_tokens=40).text == text[: text.index(own)]
        done = llm.generate(PROMPTS[0], max_tokens=40, stop=[other])
        assert done.text == text[: text.index(other)]


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_beams", 4), ("guidance_scale", 2.0), ("max_time", "1 s"), ("penalty_alpha", 0.6)],
)
def test_what_cannot_be_applied_is_refused_at_load_in_one_sentence(folder, key, value):
    with pytest.raises(UnsupportedModel, match=key) as caught:
        configured(folder, "none", **{key: value})
    assert "\n" not in str(caught.value)


def test_a_prompt_beyond_the_models_max_length_is_refused(folder):
    with (
        configured(folder, "none", max_length=10) as llm,
        pytest.raises(InvalidOption, match="max_length 10"),
    ):
        llm.generate(PROMPTS[0])


def test_a_time_limit_ends_the_text_after_a_step_and_the_call_decides_first(folder):
    # more than one draft holds: a step that reaches max_tokens ends the text by that
    for drafter in DRAFTERS:
        with configured(folder, drafter, max_time=0.0) as llm:
            whole = llm.generate(PROMPTS[0], max_tokens=100, max_time=None)
            assert whole.finish == "length"
            short = llm.generate(PROMPTS[0], max_tokens=100)
            assert (short.finish, short.stats.steps) == ("time", 1)
            assert short.tokens.tolist() == whole.tokens.tolist()[: len(short.tokens)]
            assert llm.generate(PROMPTS[0], max_tokens=100, max_time=1e9).finish == "length"
            together = llm.generate(PROMPTS, max_tokens=100)
            assert {(done.finish, done.stats.steps) for done in together} == {("time", 1)}
            with llm.stream(PROMPTS[0], max_tokens=100) as stream:
                assert whole.text.startswith("".join(stream))
            assert (stream.generation.finish, stream.generation.stats.steps) == ("time", 1)


@pytest.mark.parametrize("where", ["beside", "without"])
def test_values_that_stand_in_config_json_count_as_generate_counts_them(folder, tmp_path, where):
    there = tmp_path / "model"
    shutil.copytree(folder, there)
    config = json.loads((there / "config.json").read_text())
    keys = {"repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "suppress_tokens": [4, 5, 6]}
    (there / "config.json").write_text(json.dumps(config | keys))
    if where == "without":
        (there / "generation_config.json").unlink()
    for drafter in DRAFTERS:
        with load(there, drafter=drafter, device="cpu") as llm:
            expected = of_generate(llm, PROMPTS[0], max_new_tokens=40)
            assert llm.generate(PROMPTS[0], max_tokens=40).tokens.tolist() == expected


def test_a_config_that_was_changed_to_what_is_refused_ends_the_next_call(folder):
    with configured(folder, "recall") as llm:
        llm.generate(PROMPTS[0], max_tokens=2)
        llm.target.model.generation_config.num_beams = 3
        with pytest.raises(UnsupportedModel, match="num_beams = 3"):
            llm.generate(PROMPTS[0], max_tokens=2)


def test_a_model_object_keeps_its_generation_config_and_end_tokens_may_change(folder):
    with configured(folder, "none") as llm:
        model, words = llm.target.model, llm.tokenizer
        model.generation_config.suppress_tokens = [3, 4, 5, 6]
        with load(model, drafter="recall", tokenizer=words) as again:
            text = again.generate(PROMPTS[0], max_tokens=30).tokens.tolist()
            assert text == of_generate(again, PROMPTS[0], max_new_tokens=30)
            model.generation_config.eos_token_id = text[9]
            ended = again.generate(PROMPTS[0], max_tokens=30)
            first = text.index(text[9])
            assert (ended.tokens.tolist(), ended.finish) == (text[: first + 1], "stop")


def test_stop_strings_are_found_where_generate_finds_them_also_across_the_prompt(folder):
    found = 0
    with configured(folder, "recall") as llm:
        for prompt in PROMPTS:
            text = llm.generate(prompt, max_tokens=20).text
            whole = prompt + text
            for begin in range(max(0, len(prompt) - 3), len(prompt) + 6):
                for length in (1, 2, 4):
                    stop = whole[begin : begin + length]
                    if len(stop) < length or "\ufffd" in stop:
                        continue
                    expected = of_generate(
                        llm, prompt, max_new_tokens=20, stop_strings=[stop], tokenizer=llm.tokenizer
                    )
                    done = llm.generate(prompt, max_tokens=20, stop=stop, chat=False)
                    assert done.tokens.tolist() == expected, stop
                    across = begin < len(prompt) < begin + length
                    found += across
                    if across:
                        assert (done.text, done.finish) == ("", "stop")
    assert found
