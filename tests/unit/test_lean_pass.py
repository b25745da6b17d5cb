"""The bare pass of a small model gives the model's own rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from draftwood.targets.transformers.cache import SequenceCache
from draftwood.targets.transformers.lean import LeanPass, lean_pass
from draftwood.testing import tiny_model

COUNT = 9


def rows(lean: LeanPass, parts: list[slice], tokens: Any) -> torch.Tensor:
    cache = SequenceCache(len(lean._layers))
    blocked = np.triu(np.full((COUNT, COUNT), -np.inf, dtype=np.float32), 1)
    with torch.inference_mode():
        return torch.cat(
            [
                lean(tokens[part], np.arange(COUNT)[part], blocked[part, : part.stop], cache)
                for part in parts
            ]
        )


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_rows_are_the_model_s_own_whatever_the_passes(family: str) -> None:
    model = tiny_model(family)
    lean = lean_pass(model)
    assert lean is not None
    tokens = np.arange(3, 3 + COUNT, dtype=np.int32)
    with torch.inference_mode():
        expected = model(torch.arange(3, 3 + COUNT)[None]).logits[0]
    for parts in ([slice(0, 9)], [slice(0, 4), slice(4, 5), slice(5, 9)]):
        torch.testing.assert_close(rows(lean, parts, tokens), expected, atol=1e-4, rtol=1e-4)


def test_only_the_last_rows_where_asked() -> None:
    lean = lean_pass(tiny_model("llama"))
    assert lean is not None
    tokens = np.arange(3, 3 + COUNT, dtype=np.int32)
    mask = np.zeros((COUNT, COUNT), dtype=np.float32)
    with torch.inference_mode():
        both = [
            lean(tokens, np.arange(COUNT), mask, SequenceCache(len(lean._layers)), keep=keep)
            for keep in (0, 2)
        ]
    torch.testing.assert_close(both[0][-2:], both[1])


@pytest.mark.parametrize("family", ["gpt2", "mistral"])
def test_models_of_another_kind_keep_their_own_pass(family: str) -> None:
    """GPT-2 has another arithmetic, the tiny Mistral a sliding window."""
    assert lean_pass(tiny_model(family)) is None


def test_a_pass_that_differs_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("llama")
    model.model.layers[0].input_layernorm.variance_epsilon = 1.0
    model.model.layers[0].input_layernorm.forward = torch.nn.Identity().forward
    assert lean_pass(model) is None
    assert "it is not used" in caplog.text
