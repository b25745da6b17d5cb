"""Every key of a generation config is applied, refused or listed as without effect."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import GenerationConfig, LogitsProcessorList, WatermarkingConfig  # noqa: E402

from draftwood.draft import as_tokens  # noqa: E402
from draftwood.errors import InvalidOption, UnsupportedModel  # noqa: E402
from draftwood.targets.transformers import generation_keys as table  # noqa: E402
from draftwood.targets.transformers.generation_config import GenerationSettings  # noqa: E402
from draftwood.testing.models import tiny_model  # noqa: E402

SIZE = 61
END = (7, 9)


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama", vocab_size=SIZE)


def settings_of(model, **keys):
    model.generation_config = GenerationConfig(**keys)
    return GenerationSettings(model)


LISTS = (table.OWN, table.BEFORE, table.AFTER, table.REFUSED, table.SILENT)


def test_every_key_that_transformers_knows_is_in_one_list():
    for name in (*vars(GenerationConfig()), "_commit_hash"):
        found = sum(name in part for part in LISTS) + (name == "cache_implementation")
        assert found == 1, f"{name} is in {found} lists"


DOCS = Path(__file__).resolve().parents[2] / "docs" / "generation-config.md"


def rows_of_the_page():
    """The table of docs/generation-config.md, from the code's own lists."""
    library = "transformers' own logits processor, asked for each visited row"
    yield from ((name, "applied", what) for name, what in table.OWN.items())
    yield from ((name, "applied", library) for name in (*table.BEFORE, *table.AFTER))
    for name, rule in table.REFUSED.items():
        neutral = ", ".join(f"`{value}`" for value in rule.neutral)
        but = f" (but for {neutral})" if neutral else ""
        yield name, f"refused{but}", f"Draftwood {rule.reason}; {rule.remedy}"
    kinds = ", ".join(f"`{kind}`" for kind in table.KEPT_CACHES)
    yield "cache_implementation", "refused", f"but for {kinds}: others round keys and values"
    yield from ((name, "no effect", why) for name, why in table.SILENT.items())


def test_the_page_says_what_the_code_does():
    rows = [f"| `{name}` | {fate} | {how} |" for name, fate, how in sorted(rows_of_the_page())]
    page = DOCS.read_text().splitlines()
    found = [line for line in page if line.startswith("| `")]
    assert found == rows, "docs/generation-config.md should hold:\n" + "\n".join(rows)


VALUES = {
    "num_beams": 3,
    "num_beam_groups": 2,
    "constraints": [1],
    "force_words_ids": [[1]],
    "penalty_alpha": 0.6,
    "dola_layers": "high",
    "guidance_scale": 1.5,
    "assistant_ensemble_weight": 0.5,
    "token_healing": True,
    "num_return_sequences": 2,
    "is_assistant": True,
}


@pytest.mark.parametrize("name", table.REFUSED)
def test_what_is_not_applied_is_refused_by_name(model, name):
    own = settings_of(model)
    setattr(model.generation_config, name, VALUES[name])
    with pytest.raises(UnsupportedModel, match=f"says {name} = .*remove {name}"):
        own.check()
    for neutral in (None, *table.REFUSED[name].neutral):
        setattr(model.generation_config, name, neutral)
        own.check()


def test_a_cache_that_rounds_is_refused_and_others_are_not(model):
    settings_of(model, cache_implementation="static").check()
    with pytest.raises(UnsupportedModel, match="cache_implementation = 'quantized'"):
        settings_of(model, cache_implementation="quantized").check()


def test_a_watermark_with_memory_is_refused(model):
    synth = transformers.SynthIDTextWatermarkingConfig(keys=[1, 2], ngram_len=3)
    with pytest.raises(UnsupportedModel, match="watermarking_config"):
        settings_of(model, watermarking_config=synth).check()


def test_a_key_of_a_newer_transformers_is_refused_and_a_foreign_one_only_named(model, caplog):
    own = settings_of(model)
    model.generation_config.chat_format = "chatml"
    own.check()
    assert "holds chat_format, which transformers does not know" in caplog.text

    class Newer(GenerationConfig):
        def __init__(self, **keys):
            super().__init__(**keys)
            self.swirl = keys.get("swirl")

    model.generation_config = Newer()
    own.check()
    model.generation_config.swirl = 2
    with pytest.raises(UnsupportedModel, match="swirl = 2, and Draftwood does not know"):
        own.check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("suppress_tokens", "hot"),
        ("bad_words_ids", [[-1]]),
        ("sequence_bias", [1]),
        ("typical_p", -0.5),
        ("top_p", 1.5),
        ("top_k", -3),
        ("repetition_penalty", -1.0),
        ("exponential_decay_length_penalty", 3),
        ("max_time", "soon"),
        ("max_time", -1.0),
        ("max_time", float("nan")),
        ("max_time", True),
        ("eos_token_id", "end"),
        ("eos_token_id", 2.5),
        ("stop_strings", 5),
        ("stop_strings", ["", "x"]),
        ("max_new_tokens", "many"),
        ("max_new_tokens", 1.5),
        ("max_length", [3]),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("min_p", "some"),
        ("min_length", "long"),
        ("no_repeat_ngram_size", 1.5),
        ("forced_eos_token_id", "end"),
    ],
)
def test_values_that_transformers_does_not_take_are_refused_at_load_by_name(model, name, value):
    own = settings_of(model)
    setattr(model.generation_config, name, value)
    with pytest.raises(UnsupportedModel, match=f"says {name} = .*correct it in generation_config"):
        own.check(END)


def test_a_config_that_was_changed_is_checked_again(model):
    own = settings_of(model)
    own.check(END)
    own.check(END)
    model.generation_config.num_beams = 4
    for _ in range(2):
        with pytest.raises(UnsupportedModel, match="num_beams = 4"):
            own.check(END)
    model.generation_config.num_beams = 1
    model.generation_config.bad_words_ids = [[5]]
    own.check(END)
    model.generation_config.bad_words_ids[0][0] = -1
    with pytest.raises(UnsupportedModel, match="bad_words_ids"):
        own.check(END)


def test_keys_that_do_not_go_together_are_refused_at_load(model):
    own = settings_of(model)
    model.generation_config.suppress_tokens = [3]
    model.generation_config.forced_eos_token_id = 3
    with pytest.raises(UnsupportedModel, match=r"forced_eos_token_id.*is also in"):
        own.check(END)


ids = st.integers(0, SIZE - 1)
words = st.lists(st.lists(ids, min_size=1, max_size=3), min_size=1, max_size=3)
own_keys = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.3, 1.0, 1.7]),
        "top_k": st.sampled_from([0, 1, 5, 50, 90]),
        "top_p": st.sampled_from([0.3, 0.9, 1.0]),
        "min_p": st.sampled_from([0.02, 0.3]),
        "repetition_penalty": st.sampled_from([0.8, 1.0, 1.3]),
        "sequence_bias": words.map(lambda w: [[one, 2.5] for one in w]),
        "encoder_repetition_penalty": st.sampled_from([1.0, 1.5]),
        "no_repeat_ngram_size": st.integers(0, 3),
        "encoder_no_repeat_ngram_size": st.integers(0, 3),
        "bad_words_ids": words,
        "min_length": st.integers(0, 12),
        "min_new_tokens": st.integers(0, 12),
        "forced_bos_token_id": ids,
        "forced_eos_token_id": ids,
        "remove_invalid_values": st.booleans(),
        "exponential_decay_length_penalty": st.tuples(st.integers(0, 4), st.sampled_from([1.1])),
        "suppress_tokens": st.lists(ids, min_size=1, max_size=9),
        "begin_suppress_tokens": st.lists(ids, min_size=1, max_size=9),
        "top_h": st.sampled_from([0.4, 0.9]),
        "typical_p": st.sampled_from([0.2, 0.9, 1.0]),
        "epsilon_cutoff": st.sampled_from([0.0, 3e-3, 0.05]),
        "eta_cutoff": st.sampled_from([0.0, 3e-3, 0.05]),
        "watermarking_config": st.just(WatermarkingConfig(bias=1.5, context_width=1)),
        "renormalize_logits": st.booleans(),
    },
)


def add_one(ids_, logits):
    """A processor of a caller: 3 more for the token after the last."""
    logits[(int(ids_[-1]) + 1) % SIZE] += 3
    return logits


class AddOne(transformers.LogitsProcessor):
    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[0, (int(input_ids[0, -1]) + 1) % SIZE] += 3
        return scores


def of_generate(model, keys, prompt, seen, logits, *, max_tokens, sampled):
    """float64 [V]: what `generate` makes of logits, by its own steps."""
    config, _ = model._prepare_generation_config(None, do_sample=sampled)
    config.max_new_tokens, config.max_length = max_tokens, None
    config.eos_token_id = list(END)
    model._prepare_special_tokens(config, True, device="cpu")
    row = torch.tensor([prompt])
    config = model._prepare_generated_length(config, False, True, "input_ids", len(prompt), row)
    processors = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=len(prompt),
        encoder_input_ids=row,
        logits_processor=LogitsProcessorList([AddOne()]),
        device="cpu",
        model_kwargs={"attention_mask": torch.ones_like(row)},
    )
    return processors(torch.tensor([seen]), torch.from_numpy(logits.copy())[None])[0]


@given(
    own_keys,
    st.lists(ids, min_size=1, max_size=4),
    st.lists(ids, max_size=7),
    st.integers(0, 9999),
)
@settings(max_examples=150, deadline=None)
def test_the_law_is_that_of_generate_row_by_row(keys, prompt, text, seed):
    forced = {keys.get("forced_bos_token_id"), keys.get("forced_eos_token_id")}
    assume(not forced & set(keys.get("suppress_tokens", ())))
    model = MODEL
    own = settings_of(model, **keys)
    model.generation_config._from_model_config = False
    seen, logits = prompt + text, np.random.default_rng(seed).normal(0, 3, SIZE).astype("f")
    common = {"max_tokens": 8, "end_tokens": END, "processors": [add_one]}
    expected = of_generate(model, keys, prompt, seen, logits, max_tokens=8, sampled=True)
    expected = expected.softmax(-1).double().numpy()
    law = own.sampling(as_tokens(prompt), temperature=keys.get("temperature", 1.0), **common)
    if np.isnan(expected).any():
        with pytest.raises(ArithmeticError):
            law(logits, as_tokens(seen))
        return
    weights = law(logits, as_tokens(seen))
    assert ((weights > 0) == (expected > 1e-40)).all()
    np.testing.assert_allclose(weights / weights.sum(), expected, rtol=2e-4, atol=1e-9)
    scores = of_generate(model, keys, prompt, seen, logits, max_tokens=8, sampled=False)
    greedy = own.sampling(as_tokens(prompt), temperature=0.0, **common)
    assert greedy.likeliest(logits, as_tokens(seen)) == int(scores.argmax())


MODEL = tiny_model("llama", vocab_size=SIZE)


def test_a_plain_model_gets_a_law_without_processors(model):
    own = settings_of(model, suppress_tokens=None, min_length=0, no_repeat_ngram_size=0)
    greedy = own.sampling(as_tokens([1]))
    assert greedy.greedy
    assert not greedy.changes_logits
    sampled = own.sampling(as_tokens([1]), temperature=0.7)
    assert (sampled.processors, sampled.warpers, sampled.top_k) == ((), (), 50)


def test_text_is_sampled_by_default_only_where_the_config_says_so(model):
    prompt = as_tokens([1])
    assert settings_of(model, do_sample=False, temperature=0.6).sampling(prompt).greedy
    assert settings_of(model, temperature=0.6).sampling(prompt).greedy
    assert settings_of(model, do_sample=True, temperature=0.6).sampling(prompt).temperature == 0.6
    assert settings_of(model, do_sample=True).sampling(prompt).temperature == 1
    assert settings_of(model, do_sample=True).sampling(prompt, temperature=0.0).greedy


def test_limits_of_the_config_count_where_the_call_names_none(model):
    assert settings_of(model).max_tokens(5, 256) == 256
    assert settings_of(model, max_length=20).max_tokens(5, 256) == 15
    assert settings_of(model, max_length=20, max_new_tokens=30).max_tokens(5, 256) == 30
    with pytest.raises(InvalidOption, match=r"prompt has 20 tokens .* max_length 20"):
        settings_of(model, max_length=20).max_tokens(20, 256)


def test_min_new_tokens_takes_the_place_of_min_length_as_in_generate(model):
    own = settings_of(model, min_new_tokens=2, min_length=12)
    law = own.sampling(as_tokens([1, 2, 3]), end_tokens=END)
    scores = [law.scores(np.zeros(SIZE), as_tokens(range(1, 4 + n)))[7] for n in range(4)]
    assert scores == [-np.inf, -np.inf, 0, 0]


def test_end_tokens_and_stop_strings_are_read_in_every_form(model):
    assert settings_of(model).end_tokens is None
    assert settings_of(model, eos_token_id=3).end_tokens == {3}
    assert settings_of(model, eos_token_id=[3, 4]).end_tokens == {3, 4}
    assert settings_of(model).stop_strings == ()
    assert settings_of(model, stop_strings="END").stop_strings == ("END",)
    assert settings_of(model, stop_strings=["a", "b"]).stop_strings == ("a", "b")
