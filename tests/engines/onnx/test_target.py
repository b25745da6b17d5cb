"""ONNX Runtime GenAI as a target, with a model that its own builder made."""

import json
import subprocess
import sys

import numpy as np
import pytest

genai = pytest.importorskip("onnxruntime_genai", reason="pip install 'draftwood[onnx]'")
for name in ("onnx", "onnx_ir", "torch", "transformers"):
    pytest.importorskip(name, reason=f"onnxruntime-genai's model builder needs {name}")

from draftwood.draft import ROOT, Draft, as_tokens  # noqa: E402
from draftwood.errors import (  # noqa: E402
    BrokenModel,
    InvalidDraft,
    InvalidOption,
    ModelNotFound,
)
from draftwood.load import load  # noqa: E402
from draftwood.protocols import Verdict  # noqa: E402
from draftwood.targets.onnx.target import OnnxTarget  # noqa: E402
from tests.engines.byte_model import make_model  # noqa: E402

PROMPT = "select a from t where a = 1; select a "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("onnx")
    source, out = make_model(place / "source"), place / "model"
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source)]
    command += ["-o", str(out), "-p", "fp32", "-e", "cpu", "-c", str(place / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def llm(folder):
    with load(folder, "recall:share=8,cost=none", engine="onnx") as made:
        yield made


def plain(folder, prompt, count):
    """What the engine's own loop gives."""
    model = genai.Model(str(folder))
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=512)
    generator = genai.Generator(model, params)
    generator.append_tokens(prompt)
    tokens = []
    while len(tokens) < count and not generator.is_done():
        generator.generate_next_token()
        tokens.append(int(generator.get_next_tokens()[0]))
    return tokens


def test_greedy_text_is_that_of_the_engines_own_loop(folder, llm):
    expected = plain(folder, llm.encode(PROMPT), 80)
    for _ in range(2):
        done = llm.generate(PROMPT, max_tokens=80)
        assert done.tokens.tolist() == expected
    assert done.stats.steps < 40


def test_seeded_and_batched_texts_are_the_same_with_and_without_drafts(llm):
    prompts = [PROMPT, PROMPT + "b", "insert"]
    for options in ({}, {"temperature": 0.8, "seed": 4}):
        found = llm.generate(prompts, max_tokens=24, **options)
        single = [
            llm.generate(each, max_tokens=24, drafter="none", **options | extra)
            for each, extra in zip(
                prompts, ({"seed": 4 + at} if options else {} for at in range(3)), strict=True
            )
        ]
        assert [each.tokens.tolist() for each in found] == [each.tokens.tolist() for each in single]


def test_rows_of_a_chain_and_after_its_commit(folder):
    target = OnnxTarget(folder, context=64, threads=1)

    def alone(tokens):
        return target.open(as_tokens(tokens)).score(Draft.empty()).logits(0)

    prompt, chain = [9, 8, 7, 9, 8], Draft.chain([7, 300, 8])  # 300 is no id of the model
    cursor = target.open(as_tokens(prompt))
    cursor.score(chain)
    rows = cursor.score(chain)
    assert np.allclose(rows.logits(1), alone([*prompt, 7]), atol=1e-3)
    cursor.commit(chain, Verdict(chain.path(0), 5))
    assert cursor.room == 64 - 7
    after = cursor.score(Draft.empty())
    assert after.argmax().tolist() == [int(alone([*prompt, 7, 5]).argmax())]
    with pytest.raises(InvalidDraft, match="branches"):
        cursor.score(Draft.tree([1, 2], [ROOT, ROOT]))
    cursor.close()
    target.close()


def test_wrong_input_is_refused(folder, tmp_path):
    with pytest.raises(ModelNotFound, match="genai_config"):
        OnnxTarget(tmp_path)
    with pytest.raises(ModelNotFound, match="no folder"):
        load(tmp_path / "nothing", engine="onnx")
    with pytest.raises(InvalidOption, match="dtype is 'bfloat16'"):
        load(folder, engine="onnx", dtype="bfloat16")
    with pytest.raises(InvalidOption, match="context is 513"):
        OnnxTarget(folder, context=513)
    (tmp_path / "genai_config.json").write_text("{}")
    with pytest.raises(BrokenModel, match="cannot be read"):
        OnnxTarget(tmp_path)
    told = json.loads((folder / "genai_config.json").read_text())
    (tmp_path / "genai_config.json").write_text(json.dumps(told))
    with pytest.raises(BrokenModel, match=r"cannot load"):
        OnnxTarget(tmp_path)
