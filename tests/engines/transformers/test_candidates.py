"""Candidates for loops of assisted generation: transformers' own loop takes them."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.errors import InvalidOption  # noqa: E402
from draftwood.testing import tiny_model  # noqa: E402
from draftwood.transformers import DraftCandidates  # noqa: E402

torch.set_num_threads(1)
PROMPT = [3, 10, 31, 5, 12] * 4
SPEC = "recall:mode=chain,share=8"


def test_transformers_own_loop_takes_them(monkeypatch):
    model = tiny_model("llama")
    ids = torch.tensor([PROMPT])
    options = {"attention_mask": torch.ones_like(ids), "pad_token_id": 0, "max_new_tokens": 40}
    expected = model.generate(ids, **options, do_sample=False)
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    with DraftCandidates(SPEC, vocab_size=61, max_length=60) as candidates:
        monkeypatch.setattr(model, "_get_candidate_generator", lambda **_: candidates)
        counts = []
        for _ in range(3):
            passes.clear()
            found = model.generate(ids, **options, do_sample=False, prompt_lookup_num_tokens=3)
            assert found.tolist() == expected.tolist()
            counts.append(len(passes))
    assert counts[-1] < counts[0] // 2


def test_candidates_continue_the_text_and_stay_within_its_length():
    with DraftCandidates(SPEC, vocab_size=61, max_length=30) as candidates:
        found, logits = candidates.get_candidates(torch.tensor([PROMPT]))
        assert logits is None
        assert found.dtype == torch.int64
        assert found[0].tolist() == (PROMPT * 2)[: len(found[0])]
        assert len(PROMPT) < len(found[0]) < 30
        candidates.update_candidate_strategy(found, None, 3)
        longer = torch.tensor([(PROMPT * 2)[:29]])
        assert candidates.get_candidates(longer)[0].tolist() == longer.tolist()
        other = torch.tensor([[7, 8, 9, 7, 8, 9, 7, 8]])
        again = candidates.get_candidates(other)[0]
        assert again[0, :9].tolist() == [7, 8, 9, 7, 8, 9, 7, 8, 9]


def test_sizes_out_of_range_are_refused():
    with pytest.raises(InvalidOption):
        DraftCandidates(SPEC, vocab_size=0, max_length=30)
