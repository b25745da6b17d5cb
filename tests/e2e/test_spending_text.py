"""Cutting drafts to what pays, and drafting not at all, changes no text of a real model."""

from importlib import import_module

import pytest

from draftwood.budget.measured import MeasuredCost
from draftwood.budget.spending import Spending
from draftwood.load import load
from draftwood.testing import save_tiny_model

PROMPTS = ["a b a b a b a", "SELECT name FROM t; SELECT", "x", "to be or not to be or"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def plain(folder):
    return [one.tokens.tolist() for one in load(folder, "none").generate(PROMPTS, max_tokens=24)]


@pytest.mark.parametrize("spec", ["recall:cost=auto", "lookup:cost=auto", "suffix:cost=0.02"])
def test_texts_equal_those_of_plain_decoding_alone_and_in_a_batch(folder, plain, spec):
    model = load(folder, spec, dtype="float32")
    assert isinstance(model.budget, Spending)
    together = model.generate(PROMPTS, max_tokens=24, max_batch=3)
    assert [one.tokens.tolist() for one in together] == plain
    for prompt, expected in zip(PROMPTS, plain, strict=True):
        assert model.generate(prompt, max_tokens=24).tokens.tolist() == expected


def test_loading_with_a_cost_to_measure_times_some_passes(folder, monkeypatch):
    for limit in ("_SWEEP_SECONDS", "_QUICK"):  # a busy machine would time nothing in so short
        monkeypatch.setattr(import_module("draftwood.load"), limit, float("inf"))
    model = load(folder, "recall:cost=auto")
    cost = model.budget.cost
    assert isinstance(cost, MeasuredCost)
    for batch in (1, 8):
        unknown = MeasuredCost().seconds(0, batch=batch, context=32)
        assert cost.seconds(0, batch=batch, context=32) != unknown
