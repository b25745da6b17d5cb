"""The bytes that token ids stand for, by the names that vocabularies give them."""

import os
from pathlib import Path

import numpy as np
import pytest

from draftwood.draft import Budget
from draftwood.drafters.recall import RecallDrafter
from draftwood.index.token_texts import TokenTexts, token_texts
from draftwood.protocols import TargetInfo

NAMES = (
    "\u2581the",
    "the",
    "<0x0A>",
    "</s>",
    "\u2581\u2581",
    "\u00e9",
    "th",
    "e",
    "\u2581end",
    "\u2581of",
)
VOCAB = {name: token for token, name in enumerate((*NAMES, "\u2581all"))}


def test_names_with_visible_spaces():
    texts = token_texts(VOCAB)
    assert [texts.of(token) for token in range(7)] == [
        *(b" the", b"the", b"\n", b"", b"  ", "\u00e9".encode(), b"th")
    ]
    assert [texts.token(text) for text in (b" the", b"\n", b"nowhere", b"")] == [0, 2, -1, -1]
    assert texts.of(-1) == texts.of(99) == b""


def test_byte_level_names_and_special_tokens():
    texts = token_texts({"\u0120the": 0, "\u010a": 1, "\u00c3\u00a9": 2, "<|end|>": 3, "a<b": 7})
    assert [texts.of(token) for token in range(8)] == [
        *(b" the", b"\n", "\u00e9".encode(), b"", b"", b"", b"", b"a<b")
    ]


def test_a_vocabulary_that_is_none_is_refused():
    with pytest.raises(ValueError, match="a name and an id"):
        TokenTexts(b"a\0", np.array([1, 2], np.int32))
    with pytest.raises(ValueError, match="0 or greater"):
        TokenTexts(b"a\0", np.array([-1], np.int32))


@pytest.mark.parametrize("name", ["qwen2.5", "gpt2"])
def test_real_vocabularies(name):
    folder = os.environ.get("DRAFTWOOD_TOKENIZERS")
    if folder is None:
        pytest.skip("DRAFTWOOD_TOKENIZERS names no folder with real tokenizers")
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(Path(folder) / name / "tokenizer.json"))
    texts = token_texts(tokenizer.get_vocab())
    for text in ("def f(x):\n    return x  # \u00e9\u4e16\u754c\n", "It's 12 of 345\t\tin all."):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(texts.of(token) for token in ids) == text.encode()


def paired():
    drafter = RecallDrafter(max_tokens=4096)
    drafter.pair(TargetInfo(VOCAB, 11))
    return drafter


ANSWER = np.array([1, 8, 9, 10, 8, 9, 10, 8], np.int32)


def test_an_answer_may_begin_with_a_space_that_its_prediction_lacks():
    stream = paired().open(np.array([5], np.int32), prediction=(ANSWER,))
    assert set(stream.propose(Budget(2, 1)).tokens.tolist()) == {0, 1}
    stream.observe(np.array([0], np.int32))
    assert stream.propose(Budget(7)).to_chain().tokens.tolist() == ANSWER[1:].tolist()


def test_the_same_text_in_other_tokens_is_followed():
    stream = paired().open(np.array([5], np.int32), prediction=(ANSWER,))
    stream.observe(np.array([6], np.int32))  # "th", where the prediction has "the"
    assert stream.propose(Budget(7)).to_chain().tokens[:4].tolist() == [7, 8, 9, 10]
    stream.observe(np.array([7], np.int32))
    assert stream.propose(Budget(7)).to_chain().tokens.tolist() == ANSWER[1:].tolist()


def test_space_at_the_beginning_of_a_prediction_is_not_compared():
    spaced = np.array([0, *ANSWER[1:]], np.int32)  # " the", where the answer says "the"
    stream = paired().open(np.array([5], np.int32), prediction=(spaced,))
    stream.observe(np.array([6], np.int32))
    assert stream.propose(Budget(7)).to_chain().tokens[:4].tolist() == [7, 8, 9, 10]
