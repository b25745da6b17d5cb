"""`draftwood demo`: the runner on a tiny random model; the bundled model through the command."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from draftwood.budget.spending import Spending
from draftwood.cli import app as command_line
from draftwood.demo.run import PLAIN, run_demo
from draftwood.demo.workload import workload
from draftwood.load import LanguageModel


@pytest.fixture(scope="module")
def model():
    """A random model with a tokenizer of bytes: every answer is nonsense, and always the same."""
    from draftwood.drafters.none import NoDraft
    from draftwood.targets.transformers.target import TransformersTarget
    from draftwood.testing import tiny_model

    class Bytes:
        chat_template = None
        eos_token_id = None

        def __call__(self, text):
            return {"input_ids": list(text.encode())}

        def decode(self, ids, **options):
            return bytes(ids).decode("utf-8", "replace")

    network = tiny_model("llama", vocab_size=256, max_position_embeddings=4096)
    return LanguageModel(TransformersTarget(network), Bytes(), NoDraft())


def test_every_side_answers_every_call_alike(model):
    requests = list(workload(seed=1, requests=2))
    told: list[int] = []
    sides = run_demo(model, requests, ["lookup", "suffix"], max_tokens=12, progress=told.append)
    calls = sum(len(request.calls) for request in requests)
    assert [side.drafter for side in sides] == [PLAIN, "lookup", "suffix"]
    assert [side.calls for side in sides] == [calls] * 3
    assert [side.equal_outputs for side in sides] == [1.0] * 3
    assert {side.stats.tokens for side in sides} == {12 * calls}
    assert sides[0].speedup == 1.0
    assert told == [1, 2]


def test_sides_are_compared_by_time_and_steps(model):
    spec = "lookup:cost=none"
    plain, drafted = run_demo(model, workload(seed=1, requests=1), [spec], max_tokens=24)
    assert plain.stats.tokens_per_step == 1.0
    assert drafted.stats.steps < plain.stats.steps
    assert drafted.speedup == pytest.approx(plain.seconds / drafted.seconds)


def test_every_side_measures_the_cost_of_drafts_unless_told_otherwise(model, monkeypatch):
    budgets = {}
    original = LanguageModel.generate

    def watched(self, prompt, **options):
        budgets[self.drafters.name] = self.budget
        return original(self, prompt, **options)

    monkeypatch.setattr(LanguageModel, "generate", watched)
    run_demo(model, workload(seed=1, requests=1), ["lookup", "suffix:cost=none"], max_tokens=2)
    assert isinstance(budgets["'lookup'"], Spending)
    assert budgets["'suffix:cost=none'"] is None
    assert budgets["'none'"] is None


def test_a_side_whose_text_differs_is_counted(model, monkeypatch):
    original = LanguageModel.generate

    def wrong(self, prompt, **options):
        done = original(self, prompt, **options)
        if type(self.drafter).__name__ == "PromptLookup":
            return SimpleNamespace(tokens=done.tokens[::-1] + np.int32(1), text=done.text)
        return done

    monkeypatch.setattr(LanguageModel, "generate", wrong)
    spec = "lookup:cost=none"
    plain, lookup = run_demo(model, workload(seed=1, requests=1), [spec], max_tokens=4)
    assert (plain.equal_outputs, lookup.equal_outputs) == (1.0, 0.0)


def test_the_command_answers_with_the_bundled_model(monkeypatch, capsys, tmp_path):
    picture = tmp_path / "out.svg"
    arguments = ["demo", "--requests", "1", "--drafter", "suffix", "--json", "--plot", str(picture)]
    monkeypatch.setattr(sys, "argv", ["draftwood", *arguments])
    with pytest.raises(SystemExit) as left:
        command_line.main()
    assert not left.value.code
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["drafter"] for row in rows] == ["plain", "suffix"]
    assert [row["equal_outputs"] for row in rows] == [1.0, 1.0]
    assert {
        *("drafter", "tokens_per_second", "speedup", "tokens_per_step", "acceptance_rate"),
        "equal_outputs",
    } <= rows[0].keys()
    assert ">suffix<" in picture.read_text()
