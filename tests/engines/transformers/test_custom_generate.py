"""`generate(custom_generate=draftwood.transformers.generate)` gives what `generate` gives."""

import gc
import weakref
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import draftwood.transformers as ours  # noqa: E402
from draftwood.errors import (  # noqa: E402
    InvalidOption,
    TokenizerMismatch,
    UnsupportedEngine,
    UnsupportedModel,
)
from draftwood.index.fingerprint import vocab_fingerprint  # noqa: E402
from draftwood.index.history_writer import HistoryWriter  # noqa: E402
from draftwood.testing import tiny_model  # noqa: E402
from tests.engines.byte_model import make_model  # noqa: E402

torch.set_num_threads(1)
COUNT = 40
END = 17
PROMPT = [3, 10, 31, 5, 12] * 4
RAGGED = [[3, 10, 31, 5, 12] * 3, [7, 8, 9, 7, 8, 9, 7], [5]]
SPEC = "recall:cost=none,share=8"
SAMPLED = {"do_sample": True, "top_k": 6, "temperature": 0.8}


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


def padded(rows, pad=0):
    """Token ids [B, L] with padding on the left, and their mask."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def plain(model, inputs, **options):
    torch.manual_seed(5)
    made = model.generate(
        **inputs, **{"max_new_tokens": COUNT, "pad_token_id": 0, "do_sample": False} | options
    )
    return made, torch.rand(1)


def drafted(model, inputs, **options):
    own = {"custom_generate": ours.generate, "drafter": SPEC}
    return plain(model, inputs, **own | options)


def ban_the_last(ids, scores):
    """A processor that changes scores in place, by the tokens before them."""
    scores.scatter_(1, ids[:, -1:], -5.0)
    return scores


class Counting(transformers.LogitsProcessor):
    """A processor with a state: it only works where it is called once for each token, in order."""

    def __init__(self):
        self.calls = 0

    def __call__(self, ids, scores):
        self.calls += 1
        return scores.roll(self.calls % 3, dims=-1)


def no_pair(ids, scores, **_):
    """A criterion by content: the last two tokens add up to a multiple of nine."""
    return (ids[:, -1] + ids[:, -2]) % 9 == 0


OPTIONS = {
    "greedy": {},
    "penalty": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    "end token": {"eos_token_id": END},
    "end tokens": {"eos_token_id": [END, 3, 44]},
    "least": {"eos_token_id": END, "min_new_tokens": 12},
    "forced end": {"forced_eos_token_id": 9},
    "biased": {"sequence_bias": {(4,): 3.0, (9,): -8.0}, "bad_words_ids": [[6], [7, 8]]},
    "allowed": {"prefix_allowed_tokens_fn": lambda row, ids: [row + 1, 20, 21, 22, 23]},
    "processor": {"logits_processor": [ban_the_last]},
    "criterion": {"stopping_criteria": [no_pair]},
    "criterion and end": {"stopping_criteria": [no_pair], "eos_token_id": END},
    "sampled": SAMPLED,
    "sampled wide": {"do_sample": True, "top_k": 0, "temperature": 1.5, "top_p": 0.97},
    "sampled, end": {**SAMPLED, "eos_token_id": [END, 30]},
    "warped": {"do_sample": True, "typical_p": 0.9, "epsilon_cutoff": 0.01, "min_p": 0.02},
    "short": {"max_new_tokens": 1},
    "length": {"max_new_tokens": None, "max_length": 33},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("rows", [[PROMPT], RAGGED], ids=["alone", "batch"])
def test_tokens_are_those_of_generate(model, rows, name):
    inputs, options = padded(rows), OPTIONS[name]
    expected, after = plain(model, inputs, **options)
    for _ in range(2):  # the second time from history
        found, ended = drafted(model, inputs, **options)
        assert found.tolist() == expected.tolist()
        if len(rows) == 1:
            assert ended == after  # torch's generator stands where plain `generate` leaves it


def test_text_that_was_said_before_is_accepted():
    model = tiny_model("qwen2")
    inputs = padded([PROMPT])
    drafted(model, inputs)
    before = ours.statistics(model).steps
    drafted(model, inputs, **SAMPLED)
    drafted(model, inputs)
    drafted(model, inputs, **SAMPLED)
    assert ours.statistics(model).tokens == 4 * COUNT
    assert ours.statistics(model).steps < 3 * before
    assert ours.statistics(model).accepted > COUNT // 2


def test_processors_with_a_state_are_called_once_a_token(model):
    inputs = padded([PROMPT])
    for options in ({}, SAMPLED):
        expected, _ = plain(model, inputs, logits_processor=[Counting()], **options)
        for _ in range(2):
            counting = Counting()
            found, _ = drafted(model, inputs, logits_processor=[counting], **options)
            assert found.tolist() == expected.tolist()
            assert counting.calls == COUNT


@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_scores_and_logits_are_those_of_generate(model, options):
    options = {
        **options,
        "eos_token_id": END,
        "repetition_penalty": 1.2,
        "output_scores": True,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    for rows in ([PROMPT], RAGGED):
        inputs = padded(rows)
        width = inputs["input_ids"].shape[1]
        expected, _ = plain(model, inputs, **options)
        found, _ = drafted(model, inputs, **options)
        assert type(found) is type(expected)
        assert found.sequences.tolist() == expected.sequences.tolist()
        for row in range(len(rows)):
            text = expected.sequences[row, width:].tolist()
            steps = text.index(END) + 1 if END in text else len(text)
            for name in ("scores", "logits"):
                theirs, own = getattr(expected, name), getattr(found, name)
                assert len(theirs) == len(own)
                for step in range(steps):
                    assert torch.allclose(theirs[step][row], own[step][row], atol=1e-4, rtol=1e-4)


def test_several_texts_of_a_prompt(model):
    inputs = padded([PROMPT])
    options = {**SAMPLED, "num_return_sequences": 3}
    expected, _ = plain(model, inputs, **options)
    for _ in range(2):
        assert drafted(model, inputs, **options)[0].tolist() == expected.tolist()


class Heard(transformers.generation.streamers.BaseStreamer):
    def __init__(self):
        self.heard = []

    def put(self, value):
        self.heard.append(value.tolist())

    def end(self):
        self.heard.append("end")


@pytest.mark.parametrize("rows", [[PROMPT], RAGGED], ids=["alone", "batch"])
def test_a_streamer_hears_what_it_hears_from_generate(model, rows):
    inputs, options = padded(rows), {"eos_token_id": [END, 30]}
    theirs, own, whole = Heard(), Heard(), Heard()
    plain(model, inputs, streamer=theirs, **options)
    drafted(model, inputs, streamer=own, **options)
    ours.generate_with(
        model, **inputs, streamer=whole, max_new_tokens=COUNT, pad_token_id=0, **options
    )
    assert own.heard == theirs.heard
    assert whole.heard == theirs.heard


def test_a_streamer_that_raises_ends_the_call(model):
    class Canceled(Heard):
        def put(self, value):
            super().put(value)
            if len(self.heard) > 3:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        drafted(model, padded([PROMPT]), streamer=Canceled())
    expected, _ = plain(model, padded([PROMPT]))
    assert drafted(model, padded([PROMPT]))[0].tolist() == expected.tolist()


@pytest.mark.parametrize("family", ["gpt2", "mistral", "gemma2", "qwen3"])
def test_other_families(family):
    model = tiny_model(family, attention="eager" if family == "gemma2" else "sdpa")
    for rows in ([PROMPT], RAGGED):
        inputs = padded(rows)
        for options in ({}, SAMPLED):
            expected, _ = plain(model, inputs, **options)
            assert drafted(model, inputs, **options)[0].tolist() == expected.tolist()


@pytest.mark.parametrize("drafter", ["none", "lookup", "suffix:mode=tree", "recall"])
def test_other_drafters(model, drafter):
    expected, _ = plain(model, padded([PROMPT]), **SAMPLED)
    for _ in range(2):
        found, _ = drafted(model, padded([PROMPT]), drafter=drafter, nodes=6, **SAMPLED)
        assert found.tolist() == expected.tolist()


def test_changed_weights_are_seen():
    model = tiny_model("llama")
    drafted(model, padded([PROMPT]))
    model.model.layers[1].mlp.down_proj.weight = torch.nn.Parameter(
        model.model.layers[1].mlp.down_proj.weight.roll(1, 0)
    )
    expected, _ = plain(model, padded([PROMPT]))
    assert drafted(model, padded([PROMPT]))[0].tolist() == expected.tolist()
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(-1)
    expected, _ = plain(model, padded([PROMPT]))
    assert drafted(model, padded([PROMPT]))[0].tolist() == expected.tolist()


def test_a_prediction_is_drafted_from():
    model = tiny_model("llama")
    expected, _ = plain(model, padded([PROMPT]))
    answer = expected[0, len(PROMPT) :].tolist()
    found, _ = drafted(model, padded([PROMPT]), prediction=[answer])
    assert found.tolist() == expected.tolist()
    assert ours.statistics(model).steps < COUNT // 3


REFUSED = {
    "beams": ({"num_beams": 2}, InvalidOption, "num_beams is 2"),
    "attentions": (
        {"output_attentions": True, "return_dict_in_generate": True},
        InvalidOption,
        "output_attentions",
    ),
    "cost": ({"cost": "cheap"}, InvalidOption, "cost"),
    "positions": (
        {"position_ids": torch.arange(5, 5 + len(PROMPT))[None]},
        InvalidOption,
        "position_ids",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_given_exactly_is_refused(model, name):
    options, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        drafted(model, padded([PROMPT]), **options)


def test_padding_on_the_right_is_refused(model):
    ids = torch.tensor([[3, 4, 5, 0, 0], [3, 4, 5, 6, 7]])
    with pytest.raises(InvalidOption, match=r"row 0 .* padding_side='left'"):
        drafted(model, {"input_ids": ids, "attention_mask": (ids > 0).long()})


def test_embeddings_and_training_are_refused(model):
    embeds = model.get_input_embeddings()(torch.tensor([PROMPT]))
    with pytest.raises(InvalidOption, match="inputs_embeds"):
        drafted(model, {"inputs_embeds": embeds})
    with pytest.raises(UnsupportedModel, match=r"model.eval\(\)"):
        drafted(tiny_model("llama").train(), padded([PROMPT]))


def test_another_contract_is_named(model):
    ids = torch.tensor([PROMPT])
    with pytest.raises(UnsupportedEngine, match=f"transformers {transformers.__version__} gave"):
        ours.generate(model, ids)
    with pytest.raises(UnsupportedEngine, match="max_length"):
        ours.generate(model, ids, [], [], SimpleNamespace(do_sample=False))


def test_a_history_of_another_tokenizer_is_refused(tmp_path):
    saved = make_model(tmp_path / "model")
    with HistoryWriter(tmp_path / "h.dw", fingerprint=vocab_fingerprint({"a": 0, "b": 1})) as out:
        out.add([0, 1, 0])
    drafter = f"recall:history={tmp_path / 'h.dw'}"
    model = transformers.AutoModelForCausalLM.from_pretrained(saved).eval()
    with pytest.raises(TokenizerMismatch):
        drafted(model, padded([PROMPT]), drafter=drafter)
    tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 1, "b": 0})
    with pytest.raises(TokenizerMismatch):
        drafted(tiny_model("llama"), padded([PROMPT]), drafter=drafter, draft_tokenizer=tokenizer)


def test_what_is_kept_goes_with_the_model():
    model = tiny_model("llama")
    drafted(model, padded([PROMPT]))
    kept = weakref.ref(vars(model)["_draftwood"])
    ours.close_drafters(model)
    assert "_draftwood" not in vars(model)
    drafted(model, padded([PROMPT]))
    del model
    gc.collect()
    assert kept() is None
