"""The contracts of engines' targets, on fakes of their libraries; the real ones: tests/engines."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from draftwood.decode import decode
from draftwood.draft import as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.errors import InvalidOption, MissingExtra, ModelNotFound, UnsupportedEngine
from draftwood.load import load
from draftwood.targets.llama_cpp.seat import groups
from draftwood.targets.onnx.target import OnnxTarget
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

VOCAB = 23


def logits_after(tokens):
    """float32 [V]: a law of the last three tokens."""
    seed = int(np.dot(tokens[-3:], [1, 7, 31][-len(tokens[-3:]) :]))
    return np.random.default_rng(seed).standard_normal(VOCAB).astype(np.float32)


class Generator:
    """As onnxruntime-genai's: it appends, tells logits of what was appended last, and rewinds."""

    def __init__(self, model, params):
        self.tokens, self.new, self.runs = [], 0, 0

    def append_tokens(self, tokens):
        assert tokens.dtype == np.int32
        assert len(tokens)
        self.tokens += tokens.tolist()
        self.new = len(tokens)
        self.runs += 1

    def get_output(self, name):
        assert name == "logits"
        ends = range(len(self.tokens) - self.new + 1, len(self.tokens) + 1)
        return np.stack([logits_after(self.tokens[:end]) for end in ends])[None]

    def rewind_to(self, length):
        assert 0 <= length < len(self.tokens)
        del self.tokens[length:]


@pytest.fixture
def library(monkeypatch):
    made = SimpleNamespace(
        __version__="0.18.0",
        Config=lambda folder: folder,
        Model=lambda config: config,
        GeneratorParams=lambda model: SimpleNamespace(set_search_options=lambda **_: None),
        Generator=Generator,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", made)
    return made


@pytest.fixture
def folder(tmp_path):
    told = {"model": {"context_length": 200, "vocab_size": VOCAB, "eos_token_id": [3, 4]}}
    (tmp_path / "genai_config.json").write_text(json.dumps(told))
    return tmp_path


def test_chains_are_verified_by_appending_and_rewinding(library, folder):
    target = OnnxTarget(folder)
    assert (target.vocab_size, target.context_limit, target.trees) == (VOCAB, 200, False)
    assert target.model.generation_config.eos_token_id == [3, 4]

    def text(spec):
        steps = list(
            decode(
                target, make_drafter(spec), Greedy(), as_tokens([5, 6, 7]), stop=Stop(max_tokens=60)
            )
        )
        return [token for step in steps for token in step.tokens.tolist()], len(steps)

    tokens = [5, 6, 7]
    for _ in range(60):
        tokens.append(int(logits_after(tokens).argmax()))
    plain, passes = text("none")
    assert (plain, passes) == (tokens[3:], 60)
    drafted, passes = text("recall:share=4,floor=0.0")
    assert drafted == plain


def test_texts_are_generated_with_an_engine_that_has_no_generation_config(library, folder):
    words = SimpleNamespace(
        get_vocab=lambda: {chr(97 + at): at for at in range(VOCAB)},
        decode=lambda ids, **_: "".join(chr(97 + at) for at in ids),
        encode=lambda text, **_: [ord(each) - 97 for each in text],
        chat_template=None,
        all_special_ids=[],
        eos_token_id=None,
    )
    with load(folder, "recall:cost=none", engine="onnx", tokenizer=words) as llm:
        done = llm.generate([5, 6, 7], max_tokens=12)
        assert list(llm.end_tokens) in ([3, 4], [4, 3])
    tokens = [5, 6, 7]
    while len(tokens) < 15 and tokens[-1] not in (3, 4):
        tokens.append(int(logits_after(tokens).argmax()))
    assert done.tokens.tolist() == tokens[3:]


def test_an_engine_that_lacks_what_is_needed_is_named(library, folder, monkeypatch):
    library.Generator = type("Generator", (), {"append_tokens": None, "get_output": None})
    with pytest.raises(UnsupportedEngine, match=r"0\.18\.0 has no Generator.rewind_to"):
        OnnxTarget(folder)
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    with pytest.raises(MissingExtra, match=r"draftwood\[onnx\]"):
        OnnxTarget(folder)


def test_a_llama_cpp_that_lacks_what_is_needed_is_named(tmp_path, monkeypatch):
    from draftwood.targets.llama_cpp.target import LlamaCppTarget

    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(__version__="0.2.1"))
    with pytest.raises(UnsupportedEngine, match=r"0\.2\.1 has no llama_"):
        LlamaCppTarget(tmp_path / "x.gguf")
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingExtra, match=r"draftwood\[llama-cpp\]"):
        LlamaCppTarget(tmp_path / "x.gguf")


def test_engines_and_their_options_are_checked_by_name(tmp_path):
    with pytest.raises(InvalidOption, match="no engine is named 'llama'; choose from transformers"):
        load("demo", engine="llama")
    with pytest.raises(ModelNotFound, match="is no file"):
        load("demo", engine="llama.cpp")
    with pytest.raises(InvalidOption, match="device is 'cpu'"):
        load(tmp_path, engine="llama.cpp", device="cpu")


def test_groups_keep_within_rows_and_ids():
    assert groups([], 10, 10) == []
    assert groups([(4, 1), (4, 1), (4, 1)], 10, 10) == [[0, 1], [2]]
    assert groups([(1, 6), (1, 6), (1, 4)], 10, 10) == [[0], [1, 2]]
    assert groups([(12, 1), (1, 1)], 10, 10) == [[0], [1]]
