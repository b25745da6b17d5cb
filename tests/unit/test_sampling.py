import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftwood.draft import as_tokens
from draftwood.errors import InvalidOption, UnusableLogits
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling
from draftwood.sampling.processors import LogitBias

NOTHING = as_tokens([])


def logits_of(seed, size=40):
    return np.random.default_rng(seed).normal(0, 3, size).astype(np.float32)


def hugging_face_law(sampling, logits, seen):
    """Probabilities by transformers' own processors, in the order in which `generate` has them."""
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    scores, ids = torch.from_numpy(logits)[None], torch.tensor([seen], dtype=torch.long)
    processors = []
    if sampling.repetition_penalty != 1:
        processors.append(process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    processors.append(process.TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(process.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(process.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        processors.append(process.MinPLogitsWarper(sampling.min_p))
    for processor in processors:
        scores = processor(ids, scores)
    return scores.softmax(-1)[0].double().numpy()


laws = st.builds(
    Sampling,
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 5, 39, 40, 90]),
    top_p=st.sampled_from([1.0, 0.95, 0.6, 0.05]),
    min_p=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
)


@given(laws, st.integers(0, 10_000), st.lists(st.integers(0, 39), max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_law_is_that_of_hugging_face(sampling, seed, seen):
    logits = logits_of(seed)
    weights = sampling(logits, as_tokens(seen))
    expected = hugging_face_law(sampling, logits, seen)
    assert ((weights > 0) == (expected > 0)).all()
    np.testing.assert_allclose(weights / weights.sum(), expected, rtol=2e-4, atol=1e-9)


def test_equal_logits_at_the_edge_of_top_k_are_all_kept():
    assert Sampling(top_k=2)(np.array([0, 3, 1, 1, 0]), NOTHING).astype(bool).tolist() == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_temperature_zero_is_the_likeliest_token_of_lowest_id():
    sampling = Sampling(temperature=0, top_p=0.5)
    assert sampling(np.array([1.0, 5.0, 5.0]), NOTHING).tolist() == [0, 1, 0]


@pytest.mark.parametrize("temperature", [1e-30, 1e-38, 1e-45, 5e-324])
def test_a_temperature_next_to_zero_is_all_but_greedy(temperature):
    logits = np.array([1.0, -300.0, 2.0, 1.5], dtype=np.float32)
    for shift in (0, 1e6, -1e6):
        logits = logits + np.float32(shift)
        best = logits == logits.max()
        assert (Sampling(temperature=temperature)(logits, NOTHING) == best).all()


def test_a_share_of_exactly_what_is_left_out_is_left_out():
    assert Sampling(top_p=0.5)(np.zeros(2), NOTHING).tolist() == [0, 1]
    assert hugging_face_law(Sampling(top_p=0.5), np.zeros(2, dtype=np.float32), []).tolist() == [
        0,
        1,
    ]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("temperature", [0, 0.7])
@pytest.mark.parametrize("logits", [[NAN] * 3, [1.0, NAN, 2.0], [-INF] * 3])
def test_logits_that_choose_nothing_are_one_clear_error(temperature, logits):
    law = Sampling(temperature=temperature)
    kind = "forbid every token" if logits[0] == -INF else "not finite"
    with pytest.raises(UnusableLogits, match=f"after 2 tokens .*{kind}"):
        law(np.array(logits), as_tokens([4, 5]))


def test_processors_come_after_the_penalty_and_before_the_temperature():
    calls = []

    def add(ids, logits):
        calls.append((ids.tolist(), logits.tolist(), ids.dtype, logits.dtype))
        return np.add(logits, [0, 10, 0])

    law = Sampling(temperature=2.0, repetition_penalty=2.0, processors=(add,))
    weights = law(np.array([4.0, -2.0, 1.0]), as_tokens([0, 1]))
    assert calls == [([0, 1], [2.0, -4.0, 1.0], np.int32, np.float32)]
    np.testing.assert_allclose(weights, np.exp([(2 - 6) / 2, 0, (1 - 6) / 2]), rtol=1e-6)


def test_warpers_see_what_was_kept_and_come_last():
    calls = []

    def flatten(ids, logits):
        calls.append(logits.tolist())
        logits[np.isfinite(logits)] = 0

    weights = Sampling(temperature=0.5, top_k=2, warpers=(flatten,))(np.arange(3.0), NOTHING)
    assert calls == [[-INF, 2.0, 4.0]]
    assert weights.tolist() == [0, 1, 1]
    for law in (Sampling(min_p=0.3, warpers=(flatten,)), Sampling(top_p=0.8, warpers=(flatten,))):
        assert law(np.arange(3.0), NOTHING).tolist() == [0, 1, 1]
    greedy = Sampling(temperature=0, warpers=(flatten,))
    assert greedy(np.arange(3.0), NOTHING).tolist() == [0, 0, 1]
    assert len(calls) == 3


def test_a_processor_may_change_in_place_or_return_and_never_touches_the_rows():
    logits = np.array([1.0, 2.0, 3.0], dtype=np.float32)

    def forbid(ids, scores):
        scores[2] = -INF

    law = Sampling(temperature=0, processors=(forbid, lambda ids, scores: list(scores)))
    assert law.likeliest(logits, NOTHING) == 1
    assert logits.tolist() == [1, 2, 3]
    with pytest.raises(InvalidOption, match=r"returned shape \[2\] for logits of shape \[3\]"):
        Sampling(processors=(lambda ids, scores: scores[:2],))(logits, NOTHING)


def test_a_bias_is_added_to_its_tokens():
    bias = LogitBias({0: 2.5, 2: -INF, 7: 1.0})
    assert bias(NOTHING, np.zeros(3, dtype=np.float32)).tolist() == [2.5, 0, -INF]


@pytest.mark.parametrize(
    "bias", [[1], "a", {"a": 1.0}, {-1: 1.0}, {1: "much"}, {1: NAN}, {1: INF}, {True: 1.0}]
)
def test_a_bias_that_is_none_is_refused(bias):
    with pytest.raises(InvalidOption, match="logit_bias"):
        LogitBias(bias)


def test_the_penalty_leaves_the_logits_themselves_alone():
    logits = np.array([2.0, -2.0, 1.0], dtype=np.float32)
    scores = Sampling(repetition_penalty=2.0).scores(logits, as_tokens([0, 1, 1, 3, 7]))
    assert scores.tolist() == [1.0, -4.0, 1.0]
    assert logits.tolist() == [2.0, -2.0, 1.0]


def test_the_same_seed_gives_the_same_choices():
    def choices(seed):
        chance = SeededChance(seed)
        return [(chance.pick([1, 2, 3]), chance.accept(0.5)) for _ in range(50)]

    assert choices(7) == choices(7) != choices(8)


def test_choices_follow_the_weights():
    chance, weights = SeededChance(1), [0, 1, 0, 3, 0]
    counts = np.bincount([chance.pick(weights) for _ in range(20_000)], minlength=5)
    assert counts[[0, 2, 4]].tolist() == [0, 0, 0]
    assert abs(counts[1] / 20_000 - 0.25) < 0.02
    accepted = sum(chance.accept(0.1) for _ in range(20_000))
    assert abs(accepted / 20_000 - 0.1) < 0.01
    assert not any(chance.accept(0.0) for _ in range(100))
    assert all(chance.accept(1.0) for _ in range(100))


class HighestNumber:
    """A generator stuck at the largest number below 1."""

    def random(self):
        return np.nextafter(1.0, 0.0)


def test_a_token_of_weight_zero_is_never_picked_however_the_sum_rounds():
    chance = SeededChance(0)
    chance._random = HighestNumber()
    for seed in range(200):
        weights = np.random.default_rng(seed).random(1000)
        weights[-5:] = 0
        assert chance.pick(weights) < 995


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", 5e-324),  # 0 in float32
        ("repetition_penalty", 1e39),  # infinite in float32
        ("temperature", "hot"),
        ("temperature", None),
        ("temperature", True),
        ("top_k", 2.5),
        ("top_p", "most"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name(option, value):
    with pytest.raises(InvalidOption, match=f"{option} is"):
        Sampling(**{option: value})


def test_a_negative_seed_is_refused():
    with pytest.raises(InvalidOption, match="seed -1 is negative"):
        SeededChance(-1)
