"""One seed, one text: with and without drafts, for every drafter, chains and trees."""

from functools import cache

import numpy as np
import pytest

from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.draft import Budget, Draft
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.none import NoDraft
from draftwood.drafters.seeded import NoiseLookahead
from draftwood.language_model import LanguageModel
from draftwood.sampling.law import Sampling
from draftwood.testing import ByteTokenizer, oracle, raising, random_trees, tiny_model
from draftwood.text.stop import Stop
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers.target import TransformersTarget  # noqa: E402

torch.set_num_threads(1)
VOCAB_SIZE, COUNT = 61, 32
PROMPT = [3, 10, 31, 5, 12, 3, 10, 31]
NO_DRAFT = Draft.empty()
LAWS = {
    "warm": Sampling(temperature=1.0),
    "cool, cut": Sampling(temperature=0.7, top_k=20, top_p=0.9),
    "hot, penalized": Sampling(temperature=1.8, min_p=0.01, repetition_penalty=1.3),
}


class Tokenizer(ByteTokenizer):
    """Bytes, with the arguments of the transformers library."""

    def decode(self, ids, **_):
        return super().decode(ids)


@cache
def target_of(family, attention="sdpa"):
    # smaller weights than for greedy text: laws that leave something to chance
    return TransformersTarget(tiny_model(family, attention=attention, initializer_range=0.2))


def run(target, drafter, law, seed, *, budget=None):
    verifier = SharedGumbel(GumbelNoise(seed), law)
    steps = list(decode(target, drafter, verifier, PROMPT, budget=budget, stop=Stop(COUNT)))
    return [token for step in steps for token in step.tokens.tolist()], steps


def drafters(text):
    return {
        "right chains": oracle(text, vocab_size=VOCAB_SIZE),
        "half-right chains": oracle(text, vocab_size=VOCAB_SIZE, errors=0.3),
        "trees with decoys": oracle(text, vocab_size=VOCAB_SIZE, decoys=2, errors=0.1),
        "wrong chains": random_trees(VOCAB_SIZE, chains=True),
        "wrong trees": random_trees(VOCAB_SIZE),
        "lookup": make_drafter("lookup:max_ngram=2"),
        "suffix trees": make_drafter("suffix:mode=tree,alpha=4"),
        "suffix chains": make_drafter("suffix:mode=linear,alpha=4"),
        "recall": make_drafter("recall"),
        "recycled logits": make_drafter("recycled"),
        "a blend": make_drafter("blend:first=recall,other=recycled,third=lookup"),
        "failing": raising(after=3),
    }


@pytest.mark.parametrize(
    ("family", "attention", "law"),
    [
        *(("llama", "sdpa", law) for law in LAWS),
        ("gpt2", "sdpa", "cool, cut"),
        ("gemma2", "eager", "hot, penalized"),
    ],
)
def test_one_seed_makes_one_text_whatever_is_drafted(family, attention, law):
    law = LAWS[law]
    target = target_of(family, attention)
    texts = []
    for seed in (1, 2):
        expected, plain = run(target, NoDraft(), law, seed)
        assert len(plain) == COUNT
        texts.append(tuple(expected))
        for name, drafter in drafters([*PROMPT, *expected]).items():
            tokens, steps = run(target, drafter, law, seed, budget=Budget(16))
            assert tokens == expected, name
            lookahead = NoiseLookahead(drafter).under(GumbelNoise(seed))
            assert run(target, lookahead, law, seed, budget=Budget(16))[0] == expected, name
            if name == "right chains":
                assert len(steps) <= 1 + COUNT // 16
    assert len(set(texts)) == 2


def test_a_target_without_trees_gives_the_same_text():
    target, law = target_of("qwen2"), LAWS["warm"]
    expected, _ = run(target, NoDraft(), law, 4)
    chains = TransformersTarget(target.model)
    chains.trees = False
    for name, drafter in drafters([*PROMPT, *expected]).items():
        assert run(chains, drafter, law, 4)[0] == expected, name
        lookahead = NoiseLookahead(drafter).under(GumbelNoise(4))
        assert run(chains, lookahead, law, 4)[0] == expected, name


@pytest.mark.parametrize("spec", ["none", "recall", "suffix", "lookup", "recycled", "blend"])
def test_a_model_gives_one_text_alone_in_a_batch_and_with_or_without_lookahead(spec):
    target = target_of("llama")
    prompts = [np.array([*PROMPT, token], dtype=np.int32) for token in (5, 6, 7, 8)]
    options = {"temperature": 1.0, "seed": 11, "max_tokens": COUNT, "chat": False}
    given = {}
    for lookahead in (True, False):
        model = LanguageModel(
            target, Tokenizer(), make_drafter(spec), end_tokens=(), noise_lookahead=lookahead
        )
        alone = [
            model.generate(prompt, **{**options, "seed": 11 + number}).tokens.tolist()
            for number, prompt in enumerate(prompts)
        ]
        for max_batch in (1, 3):
            batch = model.generate(prompts, max_batch=max_batch, **options)
            assert [each.tokens.tolist() for each in batch] == alone, max_batch
        given[lookahead] = alone
    assert given[True] == given[False]


@pytest.mark.parametrize("cost", [None, 0.01, "auto"])
@pytest.mark.parametrize(
    ("spec", "looks"),
    [
        ("lookup", True),
        ("blend:first=lookup,other=recycled,third=lookup", True),
        ("recall", False),
        ("blend", False),
    ],
)
def test_in_a_batch_the_noise_is_looked_up_unless_one_call_serves_many_streams(
    monkeypatch, spec, looks, cost
):
    asked = []
    under = NoiseLookahead.under
    monkeypatch.setattr(
        NoiseLookahead, "under", lambda self, noise: asked.append(1) or under(self, noise)
    )
    model = LanguageModel(target_of("llama"), Tokenizer(), spec, cost=cost, end_tokens=())
    model.generate([PROMPT] * 3, temperature=1.0, max_tokens=2, chat=False)
    assert len(asked) == (3 if looks else 0)
    model.generate(PROMPT, temperature=1.0, max_tokens=2, chat=False)
    assert len(asked) == (4 if looks else 1)


def test_a_request_may_bring_its_own_drafter_into_a_batch():
    target, law, recall = target_of("llama"), LAWS["warm"], make_drafter("recall")
    lookahead = NoiseLookahead(recall)
    requests = [
        Request(
            PROMPT,
            SharedGumbel(GumbelNoise(seed), law),
            Stop(COUNT),
            drafter=lookahead.under(GumbelNoise(seed)) if seed % 2 else None,
        )
        for seed in range(4)
    ]
    texts = [[] for _ in requests]
    for number, step in decode_batch(target, recall, requests, max_batch=4):
        texts[number] += step.tokens.tolist()
    assert texts == [run(target, NoDraft(), law, seed)[0] for seed in range(4)]


def test_a_drafter_that_learned_one_seed_is_right_about_it_again():
    target, law, suffix = target_of("llama"), LAWS["warm"], make_drafter("suffix:mode=tree")
    first, plain = run(target, suffix, law, 9)
    again, steps = run(target, suffix, law, 9)
    assert again == first
    assert len(steps) < len(plain) / 2


def test_the_text_over_seeds_follows_the_law_of_the_model():
    """The first token's law by chi-square, over tokens that are expected often enough."""
    target, law, count = target_of("llama"), Sampling(temperature=1.0, top_k=5), 2_000
    rows = target.open(np.array(PROMPT, dtype=np.int32)).score(NO_DRAFT)
    weights = law(rows.logits(0), rows.context)
    expected = count * weights / weights.sum()
    drawn = [
        SharedGumbel(GumbelNoise(seed), law).verify(NO_DRAFT, rows).next_token
        for seed in range(count)
    ]
    found = np.bincount(drawn, minlength=VOCAB_SIZE)
    often = expected > 5
    assert found[expected == 0].sum() == 0
    assert ((found - expected) ** 2 / np.maximum(expected, 1))[often].sum() < 24  # 4 degrees
