"""The workarounds for vLLM's CPU sampler do what its functions promise, and only where needed."""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from draftwood.vllm.cpu_sampler import (
    expanded_by_request,
    expands_right,
    mend_cpu_sampler,
    over_rows,
    takes_no_rows,
)


def test_values_are_repeated_for_each_drafted_token():
    x = torch.tensor([0.8, 0.0, 0.3])
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)
    assert torch.equal(expanded_by_request(x, ends, 5), torch.tensor([0.8, 0.8, 0.3, 0.3, 0.3]))
    ends = torch.tensor([1, 3, 3], dtype=torch.int32)
    assert torch.equal(expanded_by_request(x, ends, 3, 0, 1), torch.tensor([0.8, 1.0, 1.0]))
    k = torch.tensor([5, 0, 9], dtype=torch.int32)
    assert expanded_by_request(k, ends, 3).tolist() == [5, 0, 0]
    assert expanded_by_request(k, torch.zeros(3, dtype=torch.int32), 0).tolist() == []


def test_the_self_test_tells_right_from_wrong():
    def whole_numbers(x, *rest):
        return expanded_by_request(x.long(), *rest).to(x.dtype)

    def a_copy(x, ends, count, *_):
        return torch.full((count,), 0.25)

    for wrong in (whole_numbers, a_copy, None):
        assert not expands_right(SimpleNamespace(expand_batch_to_tokens=wrong))
    assert expands_right(SimpleNamespace(expand_batch_to_tokens=expanded_by_request))


def test_no_rows_stay_no_rows():
    def top_k(logits, k):
        return logits.masked_fill(logits < logits.topk(int(k.max())).values[:, -1:], -1.0)

    module = SimpleNamespace(apply_top_k_only=top_k)
    assert not takes_no_rows(module)
    module.apply_top_k_only = over_rows(top_k)
    assert takes_no_rows(module)
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    assert module.apply_top_k_only(logits, torch.tensor([2])).tolist() == [[-1.0, 3.0, 2.0]]


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_nothing_is_mended():
    assert mend_cpu_sampler() == []
