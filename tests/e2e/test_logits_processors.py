"""Bias and processors: asked for each path of a draft, so that drafts change no text."""

import json
from pathlib import Path

import numpy as np
import pytest

import draftwood as dw
from draftwood.errors import InvalidOption, UnusableLogits
from draftwood.testing import random_trees, save_tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

PROMPT = "SELECT name FROM trees;"
SAMPLED = {"temperature": 1.0, "seed": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def llm(folder):
    with dw.load(folder, random_trees(257), cost=None, device="cpu") as model:
        yield model


def never_twice(ids, logits):
    """Forbid the last 40 tokens."""
    logits[ids[-40:]] = -np.inf
    return logits


@pytest.mark.parametrize("options", [{}, SAMPLED])
@pytest.mark.parametrize("drafter", [random_trees(257), "lookup:max_ngram=1", "suffix:mode=tree"])
def test_a_processor_gives_one_text_with_every_drafter(llm, options, drafter):
    options = {"max_tokens": 40, "logits_processors": [never_twice], **options}
    expected = llm.generate(PROMPT, drafter="none", **options)
    done = llm.generate(PROMPT, drafter=drafter, cost=None, **options)
    tokens = done.tokens.tolist()
    assert tokens == expected.tokens.tolist()
    assert len(set(tokens)) == len(tokens)


def test_a_processor_sees_the_tokens_on_the_path_of_each_row(llm):
    seen = []

    def watch(ids, logits):
        seen.append(ids.tolist())
        return logits

    prompt = llm.encode(PROMPT).tolist()
    options = {"max_tokens": 30, "drafter": "recall:share=1", "logits_processors": [watch]}
    llm.generate(PROMPT, **options)
    seen.clear()
    done = llm.generate(PROMPT, **options)
    whole = prompt + done.tokens.tolist()
    assert done.stats.accepted > 0
    assert len(seen) >= len(done.tokens)
    assert all(ids == whole[: len(ids)] for ids in seen if len(ids) < len(whole))
    assert {len(ids) for ids in seen} >= set(range(len(prompt), len(whole)))


def test_a_bias_forbids_and_favors_tokens(llm):
    plain = llm.generate(PROMPT, max_tokens=20).tokens.tolist()
    without = llm.generate(PROMPT, max_tokens=20, logit_bias={plain[0]: float("-inf")})
    assert plain[0] not in without.tokens
    only = llm.generate(PROMPT, max_tokens=5, logit_bias={65: 1000})
    assert only.tokens.tolist() == [65] * 5
    sampled = llm.generate(PROMPT, max_tokens=5, logit_bias={65: 1000}, **SAMPLED)
    assert sampled.tokens.tolist() == [65] * 5


def test_a_processor_works_in_batches_and_with_a_sampling_object(llm):
    options = {"max_tokens": 15, "logits_processors": never_twice, "seed": 3}
    law = dw.Sampling(temperature=0.9, top_k=20)
    together = llm.generate([PROMPT, "abc"], sampling=law, **options)
    for number, prompt in enumerate([PROMPT, "abc"]):
        alone = llm.generate(prompt, sampling=law, **{**options, "seed": 3 + number})
        assert together[number].tokens.tolist() == alone.tokens.tolist()


def test_a_processor_that_fails_costs_its_own_text_only(llm):
    def picky(ids, logits):
        if len(ids) > len(PROMPT) + 4:
            raise RuntimeError("no rule for this")
        return logits

    with pytest.raises(RuntimeError, match="no rule for this"):
        llm.generate(PROMPT, max_tokens=9, logits_processors=[picky])
    done = llm.generate([PROMPT, "a"], max_tokens=9, logits_processors=[picky], errors="return")
    assert isinstance(done[0].error, RuntimeError)
    assert len(done[0].tokens) == 5
    assert done[1].finish == "length"


def test_what_a_processor_gets_wrong_is_said_in_a_sentence(llm):
    with pytest.raises(InvalidOption, match="returned shape"):
        llm.generate(PROMPT, logits_processors=[lambda ids, logits: logits[:3]])
    with pytest.raises(UnusableLogits, match="forbid every token"):
        llm.generate(PROMPT, logits_processors=[lambda ids, logits: logits - np.inf])


@pytest.fixture(scope="module")
def constrained():
    """The function of docs/constrained.md, as it stands there."""
    pytest.importorskip("xgrammar")
    page = (Path(__file__).parents[2] / "docs" / "constrained.md").read_text()
    block = next(
        each for each in page.split("```python needs xgrammar\n")[1:] if "def constrained" in each
    )
    names = {}
    exec(block.partition("```")[0], names)
    return names["constrained"]


@pytest.mark.parametrize("options", [{}, SAMPLED])
def test_xgrammar_constrains_text_inside_trees(llm, constrained, options):
    import xgrammar as xgr

    info = xgr.TokenizerInfo.from_huggingface(llm.tokenizer, vocab_size=llm.target.vocab_size)
    rule = r'\{"name": "[a-z]{3,8}", "size": [0-9]{2,4}\}'
    grammar = xgr.GrammarCompiler(info).compile_regex(rule)
    prompt = llm.encode(PROMPT)

    def text(drafter):
        rules = [constrained(grammar, len(prompt))]
        return llm.generate(
            prompt, max_tokens=60, drafter=drafter, cost=None, logits_processors=rules, **options
        )

    plain, first, again = text("none"), text("recall:share=1"), text("recall:share=1")
    assert 3 <= len(json.loads(plain.text)["name"]) <= 8
    assert plain.finish == "stop"
    assert first.tokens.tolist() == again.tokens.tolist() == plain.tokens.tolist()
    assert again.stats.accepted > 0
    assert again.stats.steps < plain.stats.steps
