"""What a call may ask for beside the text: n, logprobs, drafters, predictions, errors, metadata."""

import numpy as np
import pytest

import draftwood as dw
from draftwood.drafters.none import NoDraft
from draftwood.errors import GenerationFailed, InvalidOption, InvalidTokens
from draftwood.testing import random_trees, save_tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers.batch import TransformersBatch  # noqa: E402

torch.set_num_threads(1)

PROMPT = "SELECT name FROM trees;"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def llm(folder):
    with dw.load(folder, random_trees(257), cost=None, device="cpu") as model:
        yield model


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("chat"), "qwen2", chat=True)
    with dw.load(folder, "lookup", device="cpu") as model:
        yield model


def plain_rows(llm, prompt, tokens):
    """float64 [n, V]: log-probabilities of each generated token's row, by one plain pass."""
    ids = torch.tensor([[*prompt, *tokens[:-1]]])
    with torch.inference_mode():
        logits = llm.target.model(ids).logits[0, len(prompt) - 1 :]
    return torch.log_softmax(logits.double(), -1).numpy()


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 3, "top_k": 5}])
def test_logprobs_are_those_of_a_plain_pass(llm, options):
    options = {"max_tokens": 30, "logprobs": 4, "drafter": "recall:share=1", **options}
    llm.generate(PROMPT, **options)
    done = llm.generate(PROMPT, **options)
    assert done.stats.accepted > 0  # rows of accepted tokens are among them
    rows = plain_rows(llm, llm.encode(PROMPT).tolist(), done.tokens.tolist())
    assert len(done.logprobs.chosen) == len(done.tokens)
    np.testing.assert_allclose(
        done.logprobs.chosen, rows[np.arange(len(rows)), done.tokens], atol=1e-4
    )
    expected = np.sort(rows, axis=1)[:, ::-1][:, :4]
    np.testing.assert_allclose(done.logprobs.top_logprobs, expected, atol=1e-4)
    assert done.logprobs.top_tokens.shape == (len(done.tokens), 4)
    assert done.logprobs.top_tokens[:, 0].tolist() == rows.argmax(1).tolist()


def test_logprobs_are_of_the_models_own_law_whatever_the_options_do(llm):
    # without drafts, so that the first row comes from a pass of one shape
    options = {"max_tokens": 8, "logprobs": 1, "nodes": 0}
    plain = llm.generate(PROMPT, **options)
    biased = llm.generate(PROMPT, repetition_penalty=3.0, temperature=5.0, seed=1, **options)
    assert biased.logprobs.top_logprobs[0] == pytest.approx(plain.logprobs.top_logprobs[0])


def test_logprobs_are_cut_with_the_text_and_may_be_of_the_tokens_alone(llm):
    whole = llm.generate(PROMPT, max_tokens=30)
    stop = whole.text[9:12]
    done = llm.generate(PROMPT, max_tokens=30, logprobs=0, stop=stop)
    assert done.text == whole.text[: whole.text.index(stop)]
    assert len(done.logprobs.chosen) == len(done.tokens)
    assert done.logprobs.top_tokens.shape == (len(done.tokens), 0)
    assert llm.generate(PROMPT, max_tokens=3).logprobs is None


def test_logprobs_in_a_batch_are_those_alone(llm):
    together = llm.generate([PROMPT, "abc"], max_tokens=12, logprobs=2)
    for prompt, done in zip([PROMPT, "abc"], together, strict=True):
        alone = llm.generate(prompt, max_tokens=12, logprobs=2)
        np.testing.assert_allclose(done.logprobs.chosen, alone.logprobs.chosen, atol=1e-4)


def test_n_texts_are_drawn_with_seeds_in_a_row_and_share_passes(llm):
    options = {"max_tokens": 15, "temperature": 1.0}
    done = llm.generate(PROMPT, n=3, seed=7, **options)
    assert [one.seed for one in done] == [7, 8, 9]
    for one in done:
        alone = llm.generate(PROMPT, seed=one.seed, **options)
        assert one.tokens.tolist() == alone.tokens.tolist()
    assert len({one.text for one in done}) == 3


def test_n_of_several_prompts_is_a_list_for_each(llm):
    options = {"max_tokens": 6, "temperature": 1.0, "seed": 20}
    done = llm.generate([PROMPT, "abc"], n=2, **options)
    assert [[one.seed for one in each] for each in done] == [[20, 21], [22, 23]]
    assert done[1][0].prompt_tokens == 3
    assert len(llm.generate(PROMPT, n=1, **options)) == 1


def test_texts_of_one_call_go_through_the_model_together(llm, monkeypatch):
    sizes = []
    score = dw.TransformersTarget.open_batch

    def watched(self, size):
        sizes.append(size)
        return score(self, size)

    monkeypatch.setattr(dw.TransformersTarget, "open_batch", watched)
    llm.generate(PROMPT, n=3, max_tokens=3)
    assert sizes == [3]


@pytest.mark.parametrize("drafter", ["none", "lookup", "suffix", random_trees(257)])
@pytest.mark.parametrize("cost", ["auto", "none", None, 0.01])
def test_a_call_may_choose_drafter_and_cost_and_keeps_its_text(llm, drafter, cost):
    expected = llm.generate(PROMPT, max_tokens=20).tokens.tolist()
    done = llm.generate(PROMPT, max_tokens=20, drafter=drafter, cost=cost)
    assert done.tokens.tolist() == expected
    if drafter == "none":
        assert done.stats.drafted == 0


def test_nodes_limit_a_calls_drafts(llm):
    steps = []
    llm.generate(PROMPT, max_tokens=20, nodes=3, on_step=steps.append)
    assert max(len(step.draft) for step in steps) == 3
    off = llm.generate(PROMPT, max_tokens=20, nodes=0)
    assert off.stats.drafted == 0


def test_a_drafter_named_twice_is_the_same_and_keeps_what_it_learned(llm):
    first = llm.generate(PROMPT, max_tokens=40, drafter="recall:share=1", cost=None)
    again = llm.generate(PROMPT, max_tokens=40, drafter="recall:share=1", cost=None)
    assert again.stats.steps < first.stats.steps
    assert again.text == first.text


def test_an_unknown_drafter_is_refused_before_anything_is_generated(llm):
    before = llm.stats.steps
    with pytest.raises(dw.InvalidSpec, match="did you mean 'suffix'"):
        llm.generate(PROMPT, drafter="sufix")
    assert llm.stats.steps == before


def test_the_default_cost_is_measured(folder):
    with dw.load(folder, device="cpu") as llm:
        assert llm.drafters.default_cost == "auto"
        assert isinstance(llm.drafters.choose().budget, dw.Spending)
        llm.generate(PROMPT, max_tokens=30)
        assert llm.stats.seconds_saved is not None
    for off in (None, "none"):
        with dw.load(folder, cost=off, device="cpu") as llm:
            assert llm.drafters.choose().budget is None
    with dw.load(folder, "recall:cost=none", device="cpu") as llm:
        assert llm.drafters.choose().budget is None
    with dw.load(folder, "none", device="cpu") as llm:
        assert llm.drafters.choose().budget is None


def test_drafters_of_ones_own_are_taken_wherever_a_spec_is(folder):
    class Counting(NoDraft):
        opened = closed = 0

        def open(self, prompt, *, namespace="", prediction=()):
            self.opened += 1
            return NoDraft().open(prompt)

        def close(self):
            self.closed += 1

    mine, other = Counting(), Counting()
    with dw.load(folder, mine, device="cpu") as llm:
        assert llm.drafter is mine
        llm.generate(PROMPT, max_tokens=2)
        llm.generate(PROMPT, max_tokens=2, drafter=other)
        llm.generate(PROMPT, max_tokens=2, drafter=other)
    assert (mine.opened, other.opened) == (1, 2)
    assert (mine.closed, other.closed) == (1, 0)  # what a call was given stays its caller's


def test_a_sampling_object_says_it_all(llm):
    law = dw.Sampling(temperature=0.8, top_k=9, repetition_penalty=1.2)
    options = {"temperature": 0.8, "top_k": 9, "repetition_penalty": 1.2}
    texts = [
        llm.generate(PROMPT, max_tokens=20, seed=4, **each).text
        for each in ({"sampling": law}, options)
    ]
    assert texts[0] == texts[1]
    assert llm.sampling({"sampling": law}).top_k == 9


def test_stop_token_ids_end_the_text(llm):
    whole = llm.generate(PROMPT, max_tokens=30)
    token = int(whole.tokens[11])
    done = llm.generate(PROMPT, max_tokens=30, stop_token_ids=[token])
    first = whole.tokens.tolist().index(token)
    assert done.tokens.tolist() == whole.tokens.tolist()[: first + 1]
    assert done.finish == "stop"


def test_metadata_comes_back(llm):
    given = {"request": 7}
    assert llm.generate(PROMPT, max_tokens=1, metadata=given).metadata == given
    stream = llm.stream(PROMPT, max_tokens=1, metadata=given)
    list(stream)
    assert stream.generation.metadata == given


def test_predictions_reach_the_drafter_as_token_ids(llm):
    given = []

    class Watching(NoDraft):
        def open(self, prompt, *, namespace="", prediction=()):
            given.append([each.tolist() for each in prediction])
            return NoDraft().open(prompt)

    ids = llm.tokenizer("abc", add_special_tokens=False)["input_ids"]
    for prediction in ("abc", ids, np.array(ids), ["abc", "abc"], [ids, ids], None):
        llm.generate(PROMPT, max_tokens=1, drafter=Watching(), prediction=prediction)
    llm.generate([PROMPT, PROMPT], max_tokens=1, drafter=Watching(), prediction="abc")
    assert given == [[ids], [ids], [ids], [ids, ids], [ids, ids], [], [ids], [ids]]
    with pytest.raises(InvalidTokens):
        llm.generate(PROMPT, prediction=[999_999])


def test_the_chat_template_gets_tools_and_keyword_arguments(chat, monkeypatch):
    told = {}

    def template(turns, **options):
        told.update(options, turns=turns)
        return [1, 2, 3]

    monkeypatch.setattr(chat.tokenizer, "apply_chat_template", template)
    tool = {"type": "function", "function": {"name": "search"}}
    chat.generate(
        PROMPT, max_tokens=1, tools=[tool], chat_template_kwargs={"enable_thinking": False}
    )
    assert told["tools"] == [tool]
    assert told["enable_thinking"] is False
    assert told["add_generation_prompt"] is True
    assert told["turns"] == [{"role": "user", "content": PROMPT}]


def test_what_a_chat_template_refuses_is_said_in_a_sentence(chat, llm):
    chat.tokenizer.chat_template, kept = (
        "{{ raise_exception('roles must alternate') }}",
        chat.tokenizer.chat_template,
    )
    try:
        with pytest.raises(InvalidOption, match=r"refuses these turns \(roles must alternate\)"):
            chat.generate(PROMPT, max_tokens=1)
    finally:
        chat.tokenizer.chat_template = kept
    with pytest.raises(InvalidOption, match="tools are given with a prompt that goes into no"):
        llm.generate(PROMPT, tools=[{}])
    with pytest.raises(InvalidOption, match="turn 1 of the chat has no role"):
        chat.generate([{"role": "user", "content": "a"}, {"content": "b"}])


@pytest.mark.parametrize("prompt", [None, 5, 2.5, b"bytes", {"role": "user"}, object()])
def test_what_is_no_prompt_is_refused(llm, prompt):
    with pytest.raises(InvalidOption, match=f"the prompt is {type(prompt).__name__}; give text"):
        llm.generate(prompt)
    with pytest.raises(InvalidOption, match="the prompt is"):
        llm.generate([PROMPT, prompt])


def test_a_prompt_that_fails_is_reported_in_its_place(llm):
    done = llm.generate([PROMPT, "", [1] * 400, "abc"], max_tokens=4, errors="return")
    assert [one.finish for one in done] == ["length", "error", "error", "length"]
    assert isinstance(done[1].error, InvalidTokens)
    assert "400 tokens" in str(done[2].error)
    assert done[3].text == llm.generate("abc", max_tokens=4).text
    alone = llm.generate("", errors="return")
    assert (alone.text, alone.finish) == ("", "error")


def failing_at(count):
    """A callback that fails when it is called for the `count`-th time."""
    calls = []

    def call(step):
        calls.append(step)
        if len(calls) == count:
            raise KeyError("disk full")

    return call


def test_an_error_on_the_way_costs_its_own_text_only(llm):
    prompts = [PROMPT, "abc", "xyz"]
    expected = [llm.generate(prompt, max_tokens=12).text for prompt in prompts]
    done = llm.generate(prompts, max_tokens=12, on_step=failing_at(5), errors="return")
    failed = [at for at, one in enumerate(done) if one.error is not None]
    assert len(failed) == 1
    assert isinstance(done[failed[0]].error, KeyError)
    assert done[failed[0]].finish == "error"
    for at, one in enumerate(done):
        if at not in failed:
            assert one.text == expected[at]


def test_an_error_on_the_way_carries_the_finished_texts(llm):
    prompts = ["a", "abc", PROMPT]
    steps = []
    llm.generate(prompts[:2], max_tokens=5, max_batch=1, on_step=steps.append)
    with pytest.raises(GenerationFailed, match="text 2 of 3 failed") as failed:
        llm.generate(prompts, max_tokens=5, max_batch=1, on_step=failing_at(len(steps) + 1))
    assert isinstance(failed.value.__cause__, KeyError)
    assert [one.text for one in failed.value.finished] == [
        llm.generate(prompt, max_tokens=5).text for prompt in prompts[:2]
    ]
    assert len(failed.value.generations) == 3


def test_a_single_text_raises_the_error_itself(llm):
    with pytest.raises(KeyError, match="disk full"):
        llm.generate(PROMPT, max_tokens=5, on_step=failing_at(1))
    stream = llm.stream(PROMPT, max_tokens=5, on_step=failing_at(1))
    with pytest.raises(KeyError, match="disk full"):
        next(stream)


def test_a_failing_model_loses_no_finished_text(llm, monkeypatch):
    passes = []
    score = TransformersBatch.score

    def dying(self, *arguments, **options):
        passes.append(1)
        if len(passes) > 8:
            raise RuntimeError("out of memory")
        return score(self, *arguments, **options)

    monkeypatch.setattr(TransformersBatch, "score", dying)
    done = llm.generate(["a", "b"], max_tokens=6, max_batch=1, nodes=0, errors="return")
    assert [one.finish for one in done] == ["length", "error"]
    assert "out of memory" in str(done[1].error)
    assert len(done[1].tokens) == 2


def test_a_progress_bar_is_shown_when_asked_for(llm, capsys):
    llm.generate(["a", "b", "c"], max_tokens=2)
    assert capsys.readouterr().err == ""
    llm.generate(["a", "b", "c"], max_tokens=2, progress=True)
    assert "3/3" in capsys.readouterr().err


def test_a_model_object_is_loaded_with_its_tokenizer(llm):
    with dw.load(llm.target.model, "lookup", tokenizer=llm.tokenizer) as given:
        assert given.target.model is llm.target.model
        text = given.generate(PROMPT, max_tokens=12).text
        assert repr(given).startswith("LanguageModel(LlamaForCausalLM, ")
    assert text == llm.generate(PROMPT, max_tokens=12).text


def test_reprs_say_what_the_things_are(llm, folder):
    done = llm.generate(PROMPT, max_tokens=4)
    assert repr(done).startswith(f"Generation({done.text!r}, 4 tokens after {len(PROMPT)}, ")
    assert "finish='length'" in repr(done)
    assert repr(llm) == f"LanguageModel({folder}, drafter={llm.drafter!r}, cost=None)"
    with dw.load(folder, "lookup:nodes=4", cost=0.5, device="cpu") as other:
        assert repr(other) == f"LanguageModel({folder}, drafter='lookup:nodes=4', cost=0.5)"
    assert repr(done.stats) == f"Stats({done.stats})"
