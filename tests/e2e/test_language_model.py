"""The four lines of the manual on a tiny model folder: load, generate, stream, stats."""

import logging

import pytest

from draftwood.drafters.lookup import PromptLookup
from draftwood.errors import (
    ContextTooLong,
    HistoryBusy,
    InvalidOption,
    InvalidTokens,
    ModelNotFound,
    UnsupportedModel,
)
from draftwood.index.recall import Recall
from draftwood.load import load
from draftwood.testing import raising, random_trees, save_tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

PROMPT = "SELECT name FROM trees;"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("chat"), "qwen2", chat=True)


@pytest.fixture(scope="module")
def llm(folder):
    return load(folder, drafter="lookup", device="cpu")


@pytest.fixture(scope="module")
def chat(chat_folder):
    return load(str(chat_folder), drafter="lookup", device="cpu")


def test_text_and_tokens_are_those_of_generate(llm):
    ids = torch.tensor([llm.encode(PROMPT).tolist()])
    expected = llm.target.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=40
    )[0, ids.shape[1] :]
    done = llm.generate(PROMPT, max_tokens=40)
    assert done.tokens.tolist() == expected.tolist()
    assert done.text == llm.tokenizer.decode(expected, skip_special_tokens=True)
    assert (done.prompt_tokens, done.seed) == (ids.shape[1], None)
    assert done.finish == ("stop" if done.tokens[-1] in llm.end_tokens else "length")
    assert done.stats.tokens == len(done.tokens)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_streamed_pieces_make_the_generated_text(llm, temperature):
    options = {"max_tokens": 60, "temperature": temperature, "seed": 5}
    pieces = list(llm.stream(PROMPT, **options))
    assert "".join(pieces) == llm.generate(PROMPT, **options).text
    assert all(pieces)
    assert len(pieces) > 1


def test_the_law_of_a_calls_options_is_told(llm):
    law = llm.sampling({"temperature": 0.7, "top_p": 0.9})
    assert (law.temperature, law.top_p) == (0.7, 0.9)
    with pytest.raises(InvalidOption, match="temperatur"):
        llm.sampling({"temperatur": 0.7})


def test_a_list_of_prompts_gives_the_texts_that_each_gives_by_itself(llm):
    prompts = [PROMPT, "a", "WITH t AS (SELECT 1)", PROMPT + PROMPT]
    together = llm.generate(prompts, max_tokens=25, stop=["\x00"], max_batch=3)
    for prompt, done in zip(prompts, together, strict=True):
        alone = llm.generate(prompt, max_tokens=25, stop=["\x00"])
        assert done.tokens.tolist() == alone.tokens.tolist()
        assert (done.text, done.finish) == (alone.text, alone.finish)
        assert done.prompt_tokens == alone.prompt_tokens
        assert done.stats.tokens == len(done.tokens)


def test_a_list_of_prompts_draws_each_with_a_seed_of_its_own(folder):
    plain = load(folder, drafter="none", device="cpu")
    drafting = load(folder, drafter=random_trees(257), device="cpu")
    options = {"max_tokens": 20, "temperature": 1.0}
    together = drafting.generate([PROMPT] * 3, seed=40, **options)
    assert [done.seed for done in together] == [40, 41, 42]
    for done in together:
        alone = plain.generate(PROMPT, seed=done.seed, **options)
        assert done.tokens.tolist() == alone.tokens.tolist()
    assert len({done.text for done in together}) == 3
    assert len({done.seed for done in plain.generate([PROMPT] * 3, **options)}) == 3


def test_lists_may_hold_chats_or_token_ids(chat):
    turns = [{"role": "user", "content": PROMPT}]
    texts = [done.text for done in chat.generate([turns, turns], max_tokens=5)]
    assert texts == [chat.generate(PROMPT, max_tokens=5).text] * 2
    ids = chat.encode(PROMPT)
    for prompts in ([ids, ids[:3]], [ids.tolist(), ids[:3].tolist()]):
        found = chat.generate(prompts, max_tokens=5)
        assert [done.prompt_tokens for done in found] == [len(ids), 3]
        assert found[0].text == texts[0]


def test_steps_and_figures_of_a_list_are_counted(folder):
    llm = load(folder, drafter="lookup", device="cpu")
    steps = []
    done = llm.generate([PROMPT, "b"], max_tokens=6, on_step=steps.append)
    assert llm.stats.sequences == 2
    assert llm.stats.steps == len(steps) == sum(one.stats.steps for one in done)


def test_one_bad_prompt_of_a_list_is_refused_before_anything_is_generated(llm):
    before = llm.stats.tokens
    with pytest.raises(ContextTooLong, match="300 tokens and the model's context holds 256"):
        llm.generate([[1, 2], [1] * 300])
    with pytest.raises(InvalidTokens, match="0 tokens"):
        llm.generate([PROMPT, ""])
    with pytest.raises(InvalidOption, match="max_batch is 0"):
        llm.generate([PROMPT, PROMPT], max_batch=0)
    assert llm.stats.tokens == before


def test_the_same_seed_gives_the_same_text_with_every_drafter(folder):
    texts = {
        load(folder, drafter=drafter, device="cpu")
        .generate(PROMPT, max_tokens=40, temperature=0.9, seed=11)
        .text
        for drafter in ("none", "lookup:max_ngram=1", "suffix:mode=tree,alpha=4", random_trees(257))
    }
    assert len(texts) == 1


def test_a_seed_is_chosen_reported_and_repeats_the_text(folder):
    llm = load(folder, drafter="none", device="cpu")
    first = llm.generate(PROMPT, max_tokens=30, temperature=1.0)
    again = llm.generate(PROMPT, max_tokens=30, temperature=1.0, seed=first.seed)
    assert again.tokens.tolist() == first.tokens.tolist()
    seeds = {llm.generate(PROMPT, max_tokens=1, temperature=1.0).seed for _ in range(3)}
    assert len(seeds) == 3


def test_a_stop_string_ends_the_text_before_it(llm):
    whole = llm.generate(PROMPT, max_tokens=60).text
    stop = whole[10:13]
    done = llm.generate(PROMPT, max_tokens=60, stop=[stop])
    assert (done.text, done.finish) == (whole[: whole.index(stop)], "stop")


def test_stats_add_up_over_generations(folder):
    llm = load(folder, drafter=random_trees(257), device="cpu")
    steps = []
    one = llm.generate(PROMPT, max_tokens=7, on_step=steps.append)
    two = llm.generate([1, 2, 3], max_tokens=5)
    assert one.stats.steps == len(steps)
    assert llm.stats.tokens == len(one.tokens) + len(two.tokens)
    assert llm.stats.sequences == 2
    assert f"{llm.stats.tokens} tokens in {llm.stats.steps} steps" in str(llm.stats)


def test_a_chat_model_gets_its_template_unless_told_otherwise(chat):
    templated = chat.encode(f"<user>{PROMPT}<assistant>", chat=False).tolist()
    assert chat.encode(PROMPT).tolist() == templated
    assert chat.encode([{"role": "user", "content": PROMPT}]).tolist() == templated
    assert chat.encode(PROMPT, chat=False).tolist() != templated
    assert len(chat.generate(PROMPT, max_tokens=3).tokens) <= 3


def test_chat_turns_need_a_template(llm):
    with pytest.raises(InvalidOption, match="no chat template"):
        llm.generate([{"role": "user", "content": PROMPT}])
    with pytest.raises(InvalidOption, match="no chat template"):
        llm.generate(PROMPT, chat=True)


def test_the_models_generation_config_fills_in_what_is_left_out(folder):
    llm = load(folder, drafter="none", device="cpu")
    plain = llm.generate(PROMPT, max_tokens=40).tokens.tolist()
    llm.target.model.generation_config.repetition_penalty = 1.5
    penalized = llm.generate(PROMPT, max_tokens=40).tokens.tolist()
    assert penalized != plain
    assert llm.generate(PROMPT, max_tokens=40, repetition_penalty=1.0).tokens.tolist() == plain
    ids = torch.tensor([llm.encode(PROMPT).tolist()])
    expected = llm.target.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=40
    )
    assert penalized == expected[0, ids.shape[1] :].tolist()


def test_an_end_token_of_the_model_ends_the_text(folder):
    plain = load(folder, drafter="none", device="cpu").generate(PROMPT, max_tokens=40)
    llm = load(folder, drafter="lookup", device="cpu")
    llm.end_tokens = {int(plain.tokens[12])}
    done = llm.generate(PROMPT, max_tokens=40)
    end = plain.tokens.tolist().index(int(plain.tokens[12])) + 1
    assert (done.tokens.tolist(), done.finish) == (plain.tokens.tolist()[:end], "stop")


def test_a_drafter_that_fails_costs_its_drafts_and_not_the_text(folder, caplog):
    expected = load(folder, drafter="none", device="cpu").generate(PROMPT, max_tokens=30).text
    llm = load(folder, drafter=raising(after=4), device="cpu")
    with caplog.at_level(logging.ERROR):
        assert llm.generate(PROMPT, max_tokens=30).text == expected
    assert sum("goes on without drafts" in record.getMessage() for record in caplog.records) == 1


def test_an_abandoned_stream_is_counted_and_leaves_the_model_usable(llm):
    before = llm.stats.tokens
    stream = llm.stream(PROMPT, max_tokens=50)
    next(stream)
    del stream
    assert llm.stats.tokens > before
    assert len(llm.generate(PROMPT, max_tokens=3).tokens) == 3


def test_text_ends_with_the_context(llm):
    prompt = [1] * 250
    done = llm.generate(prompt, max_tokens=50)
    assert (len(done.tokens), done.finish) == (6, "context")
    with pytest.raises(ContextTooLong, match="300 tokens and the model's context holds 256"):
        llm.generate([1] * 300)


def test_prompts_that_are_none_are_refused(llm):
    with pytest.raises(InvalidTokens, match="0 tokens"):
        llm.generate("")
    with pytest.raises(InvalidTokens, match=r"token id 257 is outside \[0, 256\]"):
        llm.generate([1, 257])
    with pytest.raises(InvalidTokens, match="pass integers"):
        llm.generate([1.5])


def test_a_misspelled_option_is_refused(llm):
    with pytest.raises(InvalidOption, match="no option is named 'max_token'"):
        llm.generate(PROMPT, max_token=3)
    with pytest.raises(InvalidOption, match="top_p is 2"):
        llm.stream(PROMPT, temperature=1.0, top_p=2)


def test_closing_ends_the_drafter(folder):
    class Closing:
        closed = False

        def open(self, prompt, *, namespace=""):
            raise NotImplementedError

        def close(self):
            self.closed = True

    drafter = Closing()
    with load(folder, drafter=drafter, device="cpu") as llm:
        assert not drafter.closed
    assert drafter.closed
    assert llm.drafter is drafter


def test_a_model_that_is_no_causal_one_is_refused(folder, tmp_path):
    from transformers import AutoTokenizer, T5Config

    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    T5Config(vocab_size=257).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="has an encoder"):
        load(tmp_path, drafter="none")


def test_a_folder_without_weights_is_refused(folder, tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelNotFound, match="give a folder with config, tokenizer and weights"):
        load(tmp_path, drafter="none")


@pytest.mark.parametrize(("attention", "dtype"), [("eager", "float32"), ("sdpa", "bfloat16")])
def test_attention_and_dtype_can_be_chosen(folder, attention, dtype):
    llm = load(folder, drafter="lookup", device="cpu", attention=attention, dtype=dtype)
    assert str(llm.target.network.dtype) == f"torch.{dtype}"
    assert llm.target.trees
    assert len(llm.generate(PROMPT, max_tokens=9).tokens) == 9


def test_a_closed_model_leaves_its_history_file_to_the_next(folder, tmp_path):
    path = tmp_path / "kept"
    for _ in range(2):
        with load(folder, f"recall:path={path},max_tokens=4096", device="cpu") as llm:
            llm.generate([5, 6, 7], max_tokens=3)
            with pytest.raises(HistoryBusy):
                Recall.open(path)
    assert Recall.open(path).writable


def test_closing_a_model_ends_its_target_even_where_its_drafter_fails(folder):
    closed = []

    class Failing(PromptLookup):
        def close(self):
            raise OSError("disk full")

    llm = load(folder, Failing(), device="cpu")
    llm.target.close = lambda: closed.append(True)
    with pytest.raises(OSError, match="disk full"):
        llm.close()
    assert closed == [True]
