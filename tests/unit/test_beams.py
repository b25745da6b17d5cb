"""Speculative beams: what a pass settles, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from draftwood.beams import BeamStep, sample_beams
from draftwood.errors import InvalidDraft, InvalidOption, InvalidTokens, UnsupportedModel
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling
from draftwood.testing import ToyDraftModel, ToyTarget, hash_model

MODEL, OTHER = hash_model(order=2), hash_model(order=1, seed=5)
PROMPT = [3, 4, 6]


def run(row: Any = MODEL, *, width: int = 3, seed: int = 0, **options: Any) -> list[BeamStep]:
    options = {"max_tokens": 24, "depth": 4} | options
    return list(
        sample_beams(
            ToyTarget(MODEL),
            ToyDraftModel(row),
            PROMPT,
            width=width,
            chance=SeededChance(seed),
            law=Sampling(0.3),
            **options,
        )
    )


def test_every_step_settles_a_layer_and_keeps_all_draws() -> None:
    steps = run(OTHER)
    at = 0
    for step in steps:
        at += step.layers
        assert step.layers >= 1
        assert sum(beam.count for beam in step.beams) == 3
        assert {len(beam.tokens) for beam in step.beams} == {at}
        assert max(beam.weight for beam in step.beams) == 1
    assert at == 24
    assert steps[-1].finish == "length"
    assert [step.finish for step in steps[:-1]] == [None] * (len(steps) - 1)


def test_a_model_that_is_the_target_takes_few_passes() -> None:
    drafted = np.mean([len(run(seed=seed)) for seed in range(10)])
    undrafted = len(run(depth=0))
    assert undrafted == 24
    assert drafted <= 24 / 3


def test_a_wrong_model_takes_no_more_passes_than_none() -> None:
    assert all(len(run(OTHER, seed=seed)) <= 24 for seed in range(5))


def test_beams_end_with_an_end_token() -> None:
    ended = 0
    for seed in range(8):
        last = run(seed=seed, end_tokens={8}, max_tokens=60)[-1]
        for beam in last.beams:
            inner = beam.tokens[:-1].tolist()
            assert 8 not in inner
        if last.finish == "stop":
            ended += 1
            assert all(beam.tokens[-1] == 8 for beam in last.beams)
    assert ended


def test_a_small_model_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(InvalidDraft, match="the small model has 9 tokens and the target 12"):
        run(hash_model(9, order=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"depth": -1}, "depth is -1"),
    ],
)
def test_limits(options: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        run(**options)


def test_an_empty_prompt_and_a_target_without_trees_are_refused() -> None:
    made = {"width": 1, "chance": SeededChance(0), "law": Sampling(1.0)}
    with pytest.raises(InvalidTokens, match="0 tokens"):
        sample_beams(ToyTarget(MODEL), ToyDraftModel(MODEL), [], **made)  # type: ignore[arg-type]
    target = ToyTarget(MODEL)
    target.trees = False
    with pytest.raises(UnsupportedModel, match="takes trees"):
        sample_beams(target, ToyDraftModel(MODEL), PROMPT, **made)  # type: ignore[arg-type]
