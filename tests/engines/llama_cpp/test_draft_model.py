"""llama-cpp-python's draft model: conversations known by their tokens, and the real `Llama`."""

import numpy as np
import pytest

from draftwood.draft import Draft
from draftwood.errors import InvalidOption, InvalidSpec
from draftwood.llama_cpp import DraftModel
from draftwood.testing import DraftFrom

TEXT = [5, 6, 7, 8, 9, 10, 11, 12]


def ids(*tokens):
    return np.array(tokens, dtype=np.intc)


def test_a_text_that_repeats_is_drafted_within_the_limit():
    with DraftModel("recall:mode=chain", nodes=3) as draft_model:
        draft = draft_model(ids(*TEXT, *TEXT, 5, 6))
        assert draft.dtype == np.intc
        assert draft.tolist() == [7, 8, 9]
        assert draft_model(ids(*TEXT, *TEXT, 5, 6, 7)).tolist() == [8, 9, 10]
        assert draft_model(ids(*TEXT, *TEXT, 5, 6, 7, 8, 9, 10, 11)).tolist() == [12, 5, 6]
        assert len(draft_model.sessions) == 1
        assert draft_model.sessions.accepted >= 3


def test_conversations_take_turns_and_a_reset_begins_another():
    with DraftModel("recall:mode=chain,share=4", nodes=4) as draft_model:
        first, second = [1, 2, 3, 4] * 2, [21, 22, 23, 24] * 2
        for at in range(3):
            assert draft_model(ids(*first))[0] == 1 + at % 4
            assert draft_model(ids(*second))[0] == 21 + at % 4
            first.append(1 + at % 4)
            second.append(21 + at % 4)
        assert len(draft_model.sessions) == 2
        draft_model(ids(1, 2, 3))
        assert len(draft_model.sessions) == 3
        assert draft_model.sessions.failures == {}


def test_what_goes_wrong_costs_drafts_only():
    def broken(context, budget):
        raise ArithmeticError

    draft_model = DraftModel(DraftFrom(broken))
    assert draft_model(ids(*TEXT)).tolist() == []
    long = DraftModel(DraftFrom(lambda context, budget: Draft.chain([1] * 50)), nodes=5)
    assert len(long(ids(*TEXT))) <= 5
    assert draft_model(ids()).tolist() == []


def test_wrong_input_is_refused():
    with pytest.raises(InvalidSpec):
        DraftModel("recal")
    with pytest.raises(InvalidOption, match="nodes is 0"):
        DraftModel(nodes=0)


def test_llama_gives_the_same_text_in_fewer_passes(tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="pip install 'draftwood[llama-cpp]'")
    pytest.importorskip("gguf", reason="pip install 'draftwood[llama-cpp]'")
    from tests.engines.llama_cpp.gguf_model import write_gguf

    path = str(write_gguf(tmp_path / "tiny.gguf"))

    def text(llama, prompt):
        passes, eval_ = [], llama.eval
        llama.eval = lambda tokens: (passes.append(1), eval_(tokens))
        tokens = llama.generate(prompt, temp=0.0, repeat_penalty=1.0)
        found = [next(tokens) for _ in range(40)]
        tokens.close()
        llama.eval = eval_
        return found, len(passes)

    options = {"n_ctx": 256, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
    plain = llama_cpp.Llama(path, **options)
    with DraftModel("recall:mode=chain,share=8") as draft_model:
        drafted = llama_cpp.Llama(path, draft_model=draft_model, **options)
        prompts = [[3, 10, 31, 5, 12], [7, 8, 9]]
        for _ in range(2):
            for prompt in prompts:
                expected, _ = text(plain, prompt)
                found, passes = text(drafted, prompt)
                assert found == expected
        assert passes < 30
        drafted.close()
    plain.close()
