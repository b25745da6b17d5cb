"""A batch gives every sequence the text of `model.generate`, whoever joins, leaves or drafts."""

from functools import cache

import numpy as np
import pytest

from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.none import NoDraft
from draftwood.errors import (
    ContextTooLong,
    InvalidDraft,
    InvalidOption,
    InvalidTokens,
    UnsupportedModel,
)
from draftwood.protocols import Verdict
from draftwood.sampling.law import Sampling
from draftwood.testing import DraftFrom, oracle, raising, random_trees, tiny_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers.target import TransformersTarget  # noqa: E402

torch.set_num_threads(1)
VOCAB_SIZE = 61
PROMPTS = [
    [3, 10, 31, 5, 12],
    [7],
    [(3 + 7 * i * i) % 61 for i in range(70)],
    [9, 9],
    [(5 + 11 * i) % 61 for i in range(23)],
]
COUNTS = [20, 6, 24, 13, 16]
CASES = [
    (family, attention)
    for family in ("llama", "qwen2", "gpt2", "gemma")
    for attention in ("sdpa", "eager")
] + [("gemma2", "eager"), ("gemma3", "sdpa"), ("mistral", "sdpa")]


@cache
def target_of(family, attention="sdpa", **options):
    return TransformersTarget(tiny_model(family, attention=attention, **options))


@cache
def expected_of(family, attention="sdpa"):
    """What transformers' own loop gives for each prompt by itself."""
    texts = []
    for prompt, count in zip(PROMPTS, COUNTS, strict=True):
        ids = torch.tensor([prompt])
        output = target_of(family, attention).model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=0,
        )
        texts.append(output[0, len(prompt) :].tolist())
    return texts


class EachItsOwn:
    """A drafter for each prompt, told apart by their first tokens."""

    def __init__(self, drafters):
        self.drafters = drafters

    def open(self, prompt, *, namespace=""):
        return self.drafters[PROMPTS.index(prompt.tolist())].open(prompt)


def oracles(texts, **options):
    return EachItsOwn(
        [
            oracle([*prompt, *text], vocab_size=VOCAB_SIZE, seed=at, **options)
            for at, (prompt, text) in enumerate(zip(PROMPTS, texts, strict=True))
        ]
    )


def drafters(texts):
    return {
        "empty": NoDraft(),
        "right chains": oracles(texts),
        "trees with decoys": oracles(texts, decoys=2, errors=0.1),
        "wrong trees": random_trees(VOCAB_SIZE),
        "chains, trees, nothing and failures": EachItsOwn(
            [
                *oracles(texts, errors=0.3).drafters[:1],
                NoDraft(),
                *oracles(texts, decoys=3).drafters[2:3],
                random_trees(VOCAB_SIZE),
                raising(after=2),
            ]
        ),
    }


def run(target, drafter, *, max_batch, budget=16, verifier=None, counts=COUNTS):
    asked = [
        Request(prompt, verifier or Greedy(), Stop(count))
        for prompt, count in zip(PROMPTS, counts, strict=True)
    ]
    texts = [[] for _ in PROMPTS]
    steps = 0
    for number, step in decode_batch(
        target, drafter, asked, max_batch=max_batch, budget=Budget(budget)
    ):
        texts[number] += step.tokens.tolist()
        steps += 1
    return texts, steps


@pytest.mark.parametrize(("family", "attention"), CASES)
def test_texts_of_a_batch_equal_generate(family, attention):
    target, expected = target_of(family, attention), expected_of(family, attention)
    assert target.batches
    for name, drafter in drafters(expected).items():
        texts, steps = run(target, drafter, max_batch=3)
        assert texts == expected, name
        if name == "right chains":
            assert steps <= sum(1 + count // 16 for count in COUNTS)
        if name == "trees with decoys":
            assert steps < sum(COUNTS) / 2


@pytest.mark.parametrize("max_batch", [1, 2, 4, 9])
def test_any_number_of_sequences_at_once_gives_the_same_texts(max_batch):
    expected = expected_of("llama")
    drafter = drafters(expected)["chains, trees, nothing and failures"]
    assert run(target_of("llama"), drafter, max_batch=max_batch)[0] == expected


@pytest.mark.parametrize("family", ["llama", "gpt2"])  # with a bare pass and without one
def test_sequences_share_passes(family, monkeypatch):
    target, widths = TransformersTarget(tiny_model(family)), []
    assert target.batches  # tried by now: a probe's passes are not counted
    lean = target.network.lean
    assert (lean is not None) == (family == "llama")
    if lean is None:
        target.model.register_forward_hook(lambda *pass_: widths.append(len(pass_[2].logits)))
    else:  # a hooked model would have no bare pass
        made = type(lean).__call__

        def counted(self, tokens, positions, spans, cache, **options):
            widths.append(len(spans))
            return made(self, tokens, positions, spans, cache, **options)

        monkeypatch.setattr(type(lean), "__call__", counted)
    run(target, NoDraft(), max_batch=3)
    longest = 64 if family == "llama" else max(map(len, PROMPTS))  # of a prompt in a bare pass
    prompts = len([prompt for prompt in PROMPTS if 1 < len(prompt) <= longest])
    assert widths.count(1) <= prompts + max(COUNTS)
    assert sum(widths) == prompts + sum(COUNTS)
    assert max(widths) == 3


def test_a_repetition_penalty_counts_a_sequences_own_tokens():
    target = target_of("llama")
    verifier = Greedy(Sampling(temperature=0, repetition_penalty=1.4))
    alone = [
        [
            token
            for step in decode(target, NoDraft(), verifier, prompt, stop=Stop(count))
            for token in step.tokens.tolist()
        ]
        for prompt, count in zip(PROMPTS, COUNTS, strict=True)
    ]
    assert alone != expected_of("llama")
    drafter = oracles(alone, decoys=1)
    assert run(target, drafter, max_batch=3, verifier=verifier)[0] == alone


def test_one_seed_makes_one_text_alone_and_among_others():
    target = TransformersTarget(tiny_model("llama", initializer_range=0.2))
    verifier = SharedGumbel(GumbelNoise(8), Sampling(temperature=1.0, top_p=0.95))
    alone = [
        [
            token
            for step in decode(target, NoDraft(), verifier, prompt, stop=Stop(count))
            for token in step.tokens.tolist()
        ]
        for prompt, count in zip(PROMPTS, COUNTS, strict=True)
    ]
    for name, drafter in drafters(alone).items():
        assert run(target, drafter, max_batch=3, verifier=verifier)[0] == alone, name


def test_a_suffix_drafter_learns_across_the_sequences_of_a_batch():
    target, expected = target_of("qwen2"), expected_of("qwen2")
    suffix = make_drafter("suffix:mode=tree")
    first, plain = run(target, suffix, max_batch=2)
    again, steps = run(target, suffix, max_batch=4)
    assert first == again == expected
    assert steps < plain / 2


def test_texts_end_where_the_context_is_full():
    target = target_of("gpt2", max_position_embeddings=80)
    drafter = DraftFrom(lambda context, budget: Draft.chain([1] * budget.reach))
    asked = [Request(prompt, Greedy()) for prompt in PROMPTS]
    texts, finishes = {}, set()
    for number, step in decode_batch(target, drafter, asked, max_batch=3):
        texts.setdefault(number, []).extend(step.tokens.tolist())
        finishes.add(step.finish)
    assert finishes == {None, "context"}
    assert [len(texts[n]) + len(PROMPTS[n]) for n in range(5)] == [80] * 5
    for number, prompt in enumerate(PROMPTS):
        steps = decode(target, NoDraft(), Greedy(), prompt)
        assert [token for step in steps for token in step.tokens.tolist()] == texts[number]


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_rows_of_a_shared_pass_are_those_of_a_pass_of_ones_own(family):
    target = target_of(family)
    draft = Draft.tree([4, 5, 6, 7, 8], [ROOT, ROOT, 1, 0, 2])
    batch = target.open_batch(3)
    seats = [batch.open(as_tokens(prompt)) for prompt in PROMPTS[:3]]
    drafts = [draft, Draft.empty(), Draft.chain([1, 2, 3])]
    accepted = [np.array(path, dtype=np.int32) for path in ([1, 2, 4], [], [0])]
    cursors = [target.open(as_tokens(prompt)) for prompt in PROMPTS[:3]]
    for order in ([0, 1, 2], [2, 0, 1]):  # the second time behind what was committed
        shared = batch.score([seats[i] for i in order], [drafts[i] for i in order])
        for i, rows in zip(order, shared, strict=True):
            own = cursors[i].score(drafts[i])
            assert rows.context.tolist() == own.context.tolist()
            assert rows.argmax().tolist() == own.argmax().tolist()
            for row in range(len(drafts[i]) + 1):
                np.testing.assert_allclose(rows.logits(row), own.logits(row), atol=2e-4)
            verdict = Verdict(accepted[i], 9)
            seats[i].commit(drafts[i], verdict)
            cursors[i].commit(drafts[i], verdict)


def test_a_seat_that_is_given_up_is_taken_by_another_sequence():
    target = target_of("llama")
    batch = target.open_batch(2)
    first, second = batch.open(as_tokens(PROMPTS[2])), batch.open(as_tokens(PROMPTS[0]))
    with pytest.raises(InvalidOption, match="all 2 seats of the batch are taken"):
        batch.open(as_tokens([1]))
    draft = Draft.tree([4, 5, 6], [ROOT, ROOT, 1])
    batch.score([first, second], [draft, draft])
    second.commit(draft, Verdict(np.array([1, 2], dtype=np.int32), 3))
    first.close()
    first.close()  # twice is once
    third = batch.open(as_tokens(PROMPTS[3]))
    found = batch.score([second, third], [Draft.empty()] * 2)
    for rows, tokens in zip(found, [[*PROMPTS[0], 5, 6, 3], PROMPTS[3]], strict=True):
        own = target.open(as_tokens(tokens)).score(Draft.empty())
        np.testing.assert_allclose(rows.logits(0), own.logits(0), atol=2e-4)
    with pytest.raises(IndexError):
        found[0].logits(1)


def test_every_open_sequence_needs_a_draft_and_only_that_is_committed():
    batch = target_of("llama").open_batch(2)
    one, two = batch.open(as_tokens([1])), batch.open(as_tokens([2]))
    with pytest.raises(InvalidDraft, match="1 drafts for 2 open sequences"):
        batch.score([one], [Draft.empty()])
    batch.score([one, two], [Draft.chain([1]), Draft.empty()])
    with pytest.raises(InvalidDraft, match="not the one scored last"):
        one.commit(Draft.chain([1]), Verdict(np.array([0], dtype=np.int32), 1))


def test_a_prompt_in_several_passes_gives_the_same_texts():
    expected = expected_of("llama")
    for rows in (1, 22, 69):
        target = TransformersTarget(target_of("llama").model, prefill_rows=rows)
        assert run(target, oracles(expected, decoys=1), max_batch=3)[0] == expected


def test_memory_is_what_the_manual_says():
    model = tiny_model("llama", max_position_embeddings=2048)
    batch = TransformersTarget(model).open_batch(3)
    per_token = 2 * 3 * 2 * 8 * 4  # keys and values, layers, heads, head size, bytes
    assert batch.nbytes() == 0
    seats = [batch.open(as_tokens([1] * count)) for count in (5, 300)]
    batch.score(seats, [Draft.chain([1] * 4), Draft.empty()])
    assert 0 < batch.nbytes() <= per_token * 3 * 2 * (300 + 4 + 1)
    held = batch.nbytes()
    seats[1].close()
    batch.score(seats[:1], [Draft.empty()])
    assert batch.nbytes() == held
    batch.close()
    assert batch.nbytes() == 0


def test_a_model_without_trees_is_passed_one_by_one_with_chains():
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "bloom", vocab_size=VOCAB_SIZE, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.6
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    target = TransformersTarget(model)
    assert not target.batches
    with pytest.raises(UnsupportedModel, match="or decode the sequences one by one"):
        target.open_batch(2)
    alone, _ = run(target, NoDraft(), max_batch=1)
    assert run(target, oracles(alone, decoys=1), max_batch=3)[0] == alone


def test_a_rotary_embedding_that_turns_with_the_longest_sequence_keeps_them_apart():
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
    }
    target = TransformersTarget(
        tiny_model("llama", rope_parameters=rope, max_position_embeddings=128)
    )
    assert not target.batches
    counts = [8, 8, 8, 8, 8]
    alone, _ = run(target, NoDraft(), max_batch=1, counts=counts)
    assert run(target, oracles(alone, decoys=1), max_batch=3, counts=counts)[0] == alone


def test_a_model_that_mixes_sequences_up_is_found_out(monkeypatch):
    model = tiny_model("llama")
    forward = model.forward

    def first_mask_for_all(
        input_ids, attention_mask=None, position_ids=None, past_key_values=None, **options
    ):
        if attention_mask is not None:
            attention_mask = attention_mask[:1].expand_as(attention_mask)
        own = {"position_ids": position_ids, "past_key_values": past_key_values}
        return forward(input_ids, attention_mask=attention_mask, **own, **options)

    monkeypatch.setattr(model, "forward", first_mask_for_all)
    target = TransformersTarget(model)
    assert target.trees
    assert not target.batches


def test_prompts_are_refused_as_they_are_alone():
    batch = target_of("gpt2", max_position_embeddings=96).open_batch(1)
    with pytest.raises(ContextTooLong, match="96 tokens and the model's context holds 96"):
        batch.open(as_tokens([1] * 96))
    with pytest.raises(InvalidTokens, match=r"token id 61 is outside \[0, 60\]"):
        batch.open(as_tokens([61]))
    with pytest.raises(InvalidOption, match="a batch of 0 sequences"):
        target_of("llama").open_batch(0)
