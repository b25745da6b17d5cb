"""LongRoPE and dynamic NTK: greedy text is that of `generate` before, at and beyond the switch."""

from functools import cache

import pytest

from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.draft import Budget, as_tokens
from draftwood.drafters.none import NoDraft
from draftwood.errors import ContextTooLong
from draftwood.testing import oracle, random_trees, tiny_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers.draft_model import TransformersDraftModel  # noqa: E402
from draftwood.targets.transformers.rope import length_rope  # noqa: E402
from draftwood.targets.transformers.target import TransformersTarget  # noqa: E402

V, SWITCH, COUNT = 61, 32, 24
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": SWITCH,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
}
KINDS = {
    "longrope that is computed anew": (
        "phi3",
        {
            "rope_parameters": LONG_ROPE,
            "original_max_position_embeddings": SWITCH,
            "max_position_embeddings": 128,
        },
    ),
    "longrope with keys of both sides": (
        "llama",
        {"rope_parameters": LONG_ROPE, "max_position_embeddings": 128},
    ),
    "dynamic NTK": (
        "llama",
        {
            "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
            "max_position_embeddings": SWITCH,
        },
    ),
}
PROMPTS = [5, 20, SWITCH - 2, SWITCH - 1, SWITCH, SWITCH + 1, 60]


@cache
def target_of(kind, **options):
    family, config = KINDS[kind]
    return TransformersTarget(tiny_model(family, **config), **options)


def prompt_of(count):
    return [(3 + 7 * i * i) % V for i in range(count)]


@cache
def generate(kind, length):
    """What transformers' own loop gives where the model has seen no longer text before."""
    model = target_of(kind).model
    model(input_ids=torch.tensor([[1]]), use_cache=False)  # dynamic NTK remembers the longest
    ids = torch.tensor([prompt_of(length)])
    mask = torch.ones_like(ids)
    output = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=COUNT)
    return output[0, length:].tolist()


def run(target, drafter, length, budget=12):
    steps = decode(
        target, drafter, Greedy(), prompt_of(length), budget=Budget(budget), stop=Stop(COUNT)
    )
    return [token for step in steps for token in step.tokens.tolist()]


@pytest.mark.parametrize("length", PROMPTS)
@pytest.mark.parametrize("kind", KINDS)
def test_text_equals_generate_on_both_sides_of_the_switch(kind, length):
    expected = generate(kind, length)
    text = [*prompt_of(length), *expected]
    for name, drafter in {
        "nothing": NoDraft(),
        "right chains": oracle(text, vocab_size=V),
        "half-right chains": oracle(text, vocab_size=V, errors=0.3),
        "trees with decoys": oracle(text, vocab_size=V, decoys=2, errors=0.1),
        "wrong trees": random_trees(V),
    }.items():
        assert run(target_of(kind), drafter, length) == expected, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_in_several_passes_gives_the_same_text(kind):
    for length in (20, 60):
        expected = generate(kind, length)
        drafter = oracle([*prompt_of(length), *expected], vocab_size=V, decoys=1)
        assert run(target_of(kind, prefill_rows=7), drafter, length) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_on_both_sides_do_not_mix(kind):
    drafters = {n: oracle([*prompt_of(n), *generate(kind, n)], vocab_size=V) for n in PROMPTS}
    requests = [Request(prompt_of(n), Greedy(), Stop(COUNT), drafter=drafters[n]) for n in PROMPTS]
    texts = [[] for _ in PROMPTS]
    assert not target_of(kind).batches
    for number, step in decode_batch(
        target_of(kind), NoDraft(), requests, max_batch=4, budget=Budget(6)
    ):
        texts[number] += step.tokens.tolist()
    assert texts == [generate(kind, n) for n in PROMPTS]


def test_what_generate_does_at_the_switch_is_found_out():
    anew = {kind: length_rope(target_of(kind).model).anew for kind in KINDS}
    assert anew == dict(zip(KINDS, (True, False, False), strict=True))
    assert length_rope(tiny_model("llama")) is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_context_ends_where_the_model_does_and_not_at_the_switch(kind):
    target = target_of(kind)
    assert target.open(as_tokens([1] * SWITCH)).room == 128 - SWITCH
    with pytest.raises(ContextTooLong, match="the model's context holds 128"):
        target.open(as_tokens([1] * 128))


def test_a_small_model_drafts_on_one_side_of_its_switch():
    model = TransformersDraftModel(target_of("longrope with keys of both sides").model)
    assert model.open(as_tokens([1] * 20)).room == SWITCH - 20
    assert model.open(as_tokens([1] * (SWITCH + 1))).room == 128 - SWITCH - 1
