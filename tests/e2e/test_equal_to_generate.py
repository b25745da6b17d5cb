"""Greedy text is `model.generate(do_sample=False)`, token for token, whatever is drafted."""

from functools import cache

import numpy as np
import pytest

from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.none import NoDraft
from draftwood.errors import ContextTooLong, InvalidDraft, InvalidTokens, UnsupportedModel
from draftwood.protocols import Verdict
from draftwood.sampling.law import Sampling
from draftwood.testing import (
    FAMILIES,
    DraftFrom,
    oracle,
    raising,
    random_trees,
    tiny_model,
)
from draftwood.text.decoding import Decoding
from draftwood.text.stop import Stop
from draftwood.text.stream import TextStream
from draftwood.verify.greedy import Greedy

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers.target import TransformersTarget  # noqa: E402
from draftwood.targets.tree_rows import row_positions, tree_mask, within_window  # noqa: E402

torch.set_num_threads(1)
VOCAB_SIZE = 61
COUNT = 32
PROMPTS = {
    "one token": [7],
    "ordinary": [3, 10, 31, 5, 12],
    "long": [(3 + 7 * i * i) % 61 for i in range(70)],
}
# Gemma 2 caps its logits, which sdpa cannot.
CASES = [
    *((family, "sdpa", prompt) for family in FAMILIES if family != "gemma2" for prompt in PROMPTS),
    *((family, "eager", "long") for family in FAMILIES),
    ("gemma2", "eager", "one token"),
]


@cache
def target_of(family, attention="sdpa", **options):
    return TransformersTarget(tiny_model(family, attention=attention, **options))


def generate(target, prompt, count=COUNT, **options):
    """What transformers' own loop gives, as a list."""
    ids = torch.tensor([list(prompt)])
    output = target.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
        **options,
    )
    return output[0, len(prompt) :].tolist()


def run(target, drafter, prompt, *, verifier=None, budget=None, **stop):
    """Our tokens, and the steps."""
    verifier, limits = verifier or Greedy(), Stop(**{"max_tokens": COUNT, **stop})
    steps = list(decode(target, drafter, verifier, prompt, budget=budget, stop=limits))
    return [token for step in steps for token in step.tokens.tolist()], steps


def drafters(prompt, expected):
    text = [*prompt, *expected]
    return {
        "empty": NoDraft(),
        "right chains": oracle(text, vocab_size=VOCAB_SIZE),
        "half-right chains": oracle(text, vocab_size=VOCAB_SIZE, errors=0.3),
        "trees with decoys": oracle(text, vocab_size=VOCAB_SIZE, decoys=2, errors=0.1),
        "wrong chains": random_trees(VOCAB_SIZE, chains=True),
        "wrong trees": random_trees(VOCAB_SIZE),
        "lookup": PromptLookup(),
        "suffix": make_drafter("suffix:mode=tree"),
        "failing": raising(after=3),
    }


@pytest.mark.parametrize(("family", "attention", "prompt"), CASES)
def test_greedy_text_equals_generate(family, attention, prompt):
    target, prompt = target_of(family, attention), PROMPTS[prompt]
    assert target.trees
    expected = generate(target, prompt)
    for name, drafter in drafters(prompt, expected).items():
        tokens, steps = run(target, drafter, prompt, budget=Budget(24))
        assert tokens == expected, name
        if name == "right chains":
            assert len(steps) <= 1 + COUNT // 24
        if name == "trees with decoys":
            assert len(steps) < COUNT / 2


@pytest.mark.parametrize("spec", ["suffix:mode=tree", "suffix:mode=linear"])
def test_a_text_seen_before_comes_in_few_steps_and_unchanged(spec):
    target, prompt, drafter = target_of("qwen3"), PROMPTS["ordinary"], make_drafter(spec)
    expected = generate(target, prompt)
    assert run(target, drafter, prompt)[0] == expected
    tokens, steps = run(target, drafter, prompt)
    assert tokens == expected
    assert len(steps) < COUNT / 3


@pytest.mark.parametrize(("family", "attention"), [("llama", "sdpa"), ("gemma", "eager")])
def test_a_repetition_penalty_equals_that_of_generate(family, attention):
    target, prompt = target_of(family, attention), PROMPTS["ordinary"]
    expected = generate(target, prompt, repetition_penalty=1.4)
    assert expected != generate(target, prompt)
    verifier = Greedy(Sampling(temperature=0, repetition_penalty=1.4))
    for name, drafter in drafters(prompt, expected).items():
        assert run(target, drafter, prompt, verifier=verifier)[0] == expected, name


def test_an_end_token_within_a_draft_ends_the_text_there():
    target, prompt = target_of("llama"), PROMPTS["ordinary"]
    text = generate(target, prompt)
    end = text[20]
    expected = generate(target, prompt, eos_token_id=end)
    assert len(expected) == text.index(end) + 1 < COUNT
    for name, drafter in drafters(prompt, text).items():
        tokens, steps = run(target, drafter, prompt, end_tokens=(end,))
        assert (tokens, steps[-1].finish) == (expected, "stop"), name


@pytest.mark.parametrize("count", [1, 2, 7, 16, 17])
def test_max_tokens_may_fall_within_an_accepted_run(count):
    target, prompt = target_of("qwen2"), PROMPTS["ordinary"]
    text = generate(target, prompt)
    for name, drafter in drafters(prompt, text).items():
        tokens, steps = run(target, drafter, prompt, max_tokens=count)
        assert (tokens, steps[-1].finish) == (text[:count], "length"), name


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_stop_string_across_steps_ends_the_text(width):
    target, prompt = target_of("llama"), PROMPTS["ordinary"]
    text = generate(target, prompt)

    def spell(ids):
        return "".join(chr(ord("0") + i) for i in ids)

    stop = spell(text[9:13])
    end = spell(text).index(stop) + len(stop)
    for name, drafter in drafters(prompt, text).items():
        stream = TextStream(Decoding(spell), [stop])
        tokens, steps = run(
            target, drafter, prompt, ends=(stream,), budget=Budget(3 * width, width)
        )
        assert (tokens, steps[-1].finish) == (text[:end], "stop"), name
        assert stream.finish() == spell(text[: end - len(stop)]), name


def test_sequences_of_one_target_do_not_mix():
    target = target_of("mistral")
    expected = {name: generate(target, prompt) for name, prompt in PROMPTS.items()}
    running = {
        name: decode(
            target,
            oracle([*prompt, *expected[name]], vocab_size=VOCAB_SIZE, decoys=1, errors=0.4),
            Greedy(),
            prompt,
            budget=Budget(8),
            stop=Stop(COUNT),
        )
        for name, prompt in PROMPTS.items()
    }
    texts = {name: [] for name in PROMPTS}
    while running:
        for name, steps in list(running.items()):
            step = next(steps)
            texts[name] += step.tokens.tolist()
            if step.finish:
                del running[name]
    assert texts == expected


def test_a_prompt_longer_than_the_drafters_memory_changes_nothing():
    target, prompt = target_of("llama"), PROMPTS["long"]
    expected = generate(target, prompt)
    drafter = DraftFrom(lambda context, budget: Draft.chain(context[-budget.reach :]), memory=8)
    assert run(target, drafter, prompt)[0] == expected


def test_a_prompt_in_several_passes_gives_the_same_text():
    model, prompt = target_of("gemma3").model, PROMPTS["long"]
    expected = generate(target_of("gemma3"), prompt)
    for rows in (1, 7, 64, 69, 70):
        target = TransformersTarget(model, prefill_rows=rows)
        for drafter in (NoDraft(), oracle([*prompt, *expected], vocab_size=VOCAB_SIZE, decoys=1)):
            assert run(target, drafter, prompt)[0] == expected


def test_text_ends_where_the_context_is_full():
    target = target_of("gpt2", max_position_embeddings=32)
    prompt = PROMPTS["ordinary"]
    expected = generate(target, prompt, count=27)
    for drafter in drafters(prompt, [*expected, 1, 2, 3, 4]).values():
        tokens, steps = run(target, drafter, prompt)
        assert (tokens, steps[-1].finish) == (expected, "context")
    with pytest.raises(ContextTooLong, match="32 tokens and the model's context holds 32"):
        target.open(as_tokens([1] * 32))


def test_scoring_twice_replaces_the_first_score():
    target = target_of("llama")
    cursor, draft = target.open(as_tokens([3, 10, 31])), Draft.tree([4, 5, 6], [ROOT, ROOT, 1])
    cursor.score(Draft.chain([1, 2, 3, 4, 5]))
    twice = cursor.score(draft)
    once = target.open(as_tokens([3, 10, 31])).score(draft)
    for row in range(4):
        np.testing.assert_allclose(twice.logits(row), once.logits(row), atol=1e-4)


def test_a_cursor_goes_on_after_a_step_without_a_next_token():
    target = target_of("llama")
    cursor, draft = target.open(as_tokens([3, 10])), Draft.chain([31, 5])
    cursor.score(draft)
    cursor.commit(draft, Verdict(np.array([0, 1], dtype=np.int32), None))
    assert cursor.context.tolist() == [3, 10, 31, 5]
    again = cursor.score(Draft.empty()).logits(0)
    fresh = target.open(as_tokens([3, 10, 31, 5])).score(Draft.empty()).logits(0)
    np.testing.assert_allclose(again, fresh, atol=1e-4)


def test_only_the_draft_scored_last_can_be_committed():
    cursor = target_of("llama").open(as_tokens([1]))
    cursor.score(Draft.chain([2]))
    with pytest.raises(InvalidDraft, match="not the one scored last"):
        cursor.commit(Draft.chain([2]), Verdict(np.array([0], dtype=np.int32), 1))


def test_drafted_ids_beyond_the_vocabulary_are_never_accepted(caplog):
    target, prompt = target_of("llama"), PROMPTS["ordinary"]
    alien = DraftFrom(lambda context, budget: Draft.tree([999, 60, 999], [ROOT, ROOT, 1]))
    assert run(target, alien, prompt)[0] == generate(target, prompt)
    assert "token id 999" in caplog.text


def test_a_prompt_beyond_the_vocabulary_is_refused():
    with pytest.raises(InvalidTokens, match=r"token id 61 is outside \[0, 60\]"):
        target_of("llama").open(as_tokens([1, 61]))


def test_a_mask_ends_at_the_sliding_window():
    #  context 0 1 2 | 3 pending | node 0 at 4, node 1 below it at 5
    draft = Draft.chain([8, 9])
    mask = within_window(tree_mask(draft, past=3, pending=1), row_positions(draft, 3, 1), 3)
    assert mask.astype(int).tolist() == [
        [0, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
    ]


def tiny(kind, attention="eager", **options):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, vocab_size=VOCAB_SIZE, **options)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def test_a_model_that_counts_rows_instead_of_positions_takes_chains_only():
    model = tiny("bloom", hidden_size=32, n_layer=2, n_head=4, initializer_range=0.6)
    target, prompt = TransformersTarget(model), PROMPTS["ordinary"]
    assert not target.trees
    with pytest.raises(InvalidDraft, match="takes chains only"):
        target.open(as_tokens(prompt)).score(Draft.tree([1, 2], [ROOT, ROOT]))
    expected = generate(target, prompt, eos_token_id=None)
    for name, drafter in drafters(prompt, expected).items():
        assert run(target, drafter, prompt)[0] == expected, name


def test_a_model_that_ignores_the_mask_is_found_out_and_gets_chains(monkeypatch):
    model = tiny_model("llama")
    forward = model.forward

    def deaf(input_ids, attention_mask=None, position_ids=None, past_key_values=None, **options):
        return forward(input_ids, past_key_values=past_key_values, **options)

    monkeypatch.setattr(model, "forward", deaf)
    assert not TransformersTarget(model).trees


def test_a_model_whose_cache_is_wrong_is_refused(monkeypatch):
    model = tiny_model("llama")
    forward = model.forward

    def forgetful(input_ids, past_key_values=None, **options):
        return forward(input_ids, **{**options, "use_cache": False})

    monkeypatch.setattr(model, "forward", forgetful)
    with pytest.raises(UnsupportedModel, match="several tokens at once"):
        TransformersTarget(model)


@pytest.mark.parametrize(
    ("kind", "reason", "options"),
    [
        ("mamba", "recurrent state", {"hidden_size": 32, "num_hidden_layers": 2}),
        (
            "recurrent_gemma",
            "recurrent state",
            {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "lru_width": 32},
        ),
    ],
)
def test_a_model_with_recurrent_state_is_refused(kind, reason, options):
    with pytest.raises(UnsupportedModel, match=reason):
        TransformersTarget(tiny(kind, **options))


def test_a_model_with_an_encoder_is_refused():
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"vocab_size": VOCAB_SIZE, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_heads": 4}
    model = T5ForConditionalGeneration(T5Config(**sizes, num_layers=1)).eval()
    with pytest.raises(UnsupportedModel, match="has an encoder"):
        TransformersTarget(model)


def test_a_model_that_reads_several_codebooks_is_refused():
    from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

    sizes = {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "ffn_dim": 32, "num_attention_heads": 4}
    config = MusicgenDecoderConfig(**sizes, num_hidden_layers=2, pad_token_id=0, bos_token_id=0)
    with pytest.raises(UnsupportedModel, match="no table of embeddings"):
        TransformersTarget(MusicgenForCausalLM(config).eval())


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(UnsupportedModel, match=r"call model\.eval\(\)"):
        TransformersTarget(tiny_model("llama").train())


# --- A model that changes after it was loaded ---------------------------------------------------


class Adapter(torch.nn.Module):
    """What an adapter puts in the place of a linear layer; at first it adds nothing."""

    def __init__(self, linear):
        super().__init__()
        self.linear, self.weight = linear, linear.weight
        self.added = torch.nn.Linear(linear.in_features, linear.out_features, bias=False)
        torch.nn.init.zeros_(self.added.weight)

    def forward(self, x):
        return self.linear(x) + self.added(x)


def put_adapter(model):
    attention = model.model.layers[1].self_attn
    attention.q_proj = adapter = Adapter(attention.q_proj)
    return adapter


def test_an_adapter_that_is_put_on_and_trained_later_counts():
    target, prompt = TransformersTarget(tiny_model("llama")), PROMPTS["ordinary"]
    before = run(target, NoDraft(), prompt)[0]
    assert target.network.lean is not None
    adapter = put_adapter(target.model)
    assert run(target, NoDraft(), prompt)[0] == generate(target, prompt) == before
    for other in (target, TransformersTarget(target.model)):
        with torch.no_grad():
            torch.nn.init.normal_(adapter.added.weight, std=0.6)
        expected = generate(target, prompt)
        assert expected != before
        for name, drafter in drafters(prompt, expected).items():
            assert run(other, drafter, prompt)[0] == expected, name


def swap_layer(model):
    model.model.layers[1] = tiny_model("llama", seed=3).model.layers[1]


def swap_weight(model):
    weight = tiny_model("llama", seed=3).model.layers[0].mlp.up_proj.weight
    model.model.layers[0].mlp.up_proj.weight = weight


def hook(model):
    model.model.layers[1].mlp.register_forward_hook(lambda module, given, found: 2 * found)


@pytest.mark.parametrize("change", [swap_layer, swap_weight, hook])
def test_a_model_whose_parts_are_changed_writes_as_it_is_now(change):
    target, prompt = TransformersTarget(tiny_model("llama")), PROMPTS["ordinary"]
    before = run(target, NoDraft(), prompt)[0]
    change(target.model)
    expected = generate(target, prompt)
    assert expected != before
    for name, drafter in drafters(prompt, expected).items():
        assert run(target, drafter, prompt)[0] == expected, name
    assert (target.network.lean is None) == (change is hook)
    requests = [Request(np.array(prompt), Greedy(), Stop(COUNT)) for _ in range(2)]
    texts = {0: [], 1: []}
    for number, step in decode_batch(target, PromptLookup(), requests):
        texts[number] += step.tokens.tolist()
    assert list(texts.values()) == [expected, expected]
