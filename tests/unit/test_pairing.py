"""Which small models suit a target: one clear error for each way to be wrong, before any text."""

import shutil

import pytest

from draftwood.budget.calibration import Calibrated
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.none import NoDraft
from draftwood.drafters.small.grow import MergedDrafter, ModelDrafter
from draftwood.drafters.small.sampled import MultiCandidate
from draftwood.drafters.small.shapes import Shape
from draftwood.errors import InvalidSpec, ModelNotFound, PairMismatch, UnsupportedModel
from draftwood.protocols import TargetInfo
from draftwood.targets.pairing import require_pair, vocabulary_mismatch
from draftwood.testing import ToyDraftModel, hash_model, save_tiny_model

WORDS = {word: index for index, word in enumerate(["a", "b", "c", "the", "cat", "dog", "sees"])}


class Tokenizer:
    def __init__(self, vocab):
        self.vocab = vocab

    def get_vocab(self):
        return self.vocab


def test_one_vocabulary_suits_padded_rows_too():
    require_pair("small", Tokenizer(WORDS), 8, TargetInfo(dict(WORDS), 64))
    require_pair("small", Tokenizer(WORDS), 64, TargetInfo(dict(WORDS), 7))


def test_a_few_added_tokens_are_no_other_tokenizer():
    more = WORDS | {"<pad>": len(WORDS)}
    require_pair("small", Tokenizer(more), 8, TargetInfo(WORDS, 7))
    require_pair("small", Tokenizer(WORDS), 7, TargetInfo(more, 8))


def test_another_meaning_of_an_id_is_named():
    other = WORDS | {"cat": 5, "dog": 4}
    with pytest.raises(
        PairMismatch,
        match=r"drafter 'small'.*token 4 is 'dog' in the drafter, 'cat' in the target",
    ):
        require_pair("small", Tokenizer(other), 7, TargetInfo(WORDS, 7))


def test_vocabularies_of_other_sizes_are_named():
    large = WORDS | {f"word{at}": at for at in range(7, 1000)}
    with pytest.raises(PairMismatch, match="1000 tokens in the drafter, 7 in the target"):
        require_pair("small", Tokenizer(large), 1000, TargetInfo(WORDS, 7))
    assert vocabulary_mismatch(WORDS, large) == "7 tokens in the drafter, 1000 in the target"


def test_rows_shorter_than_the_tokenizer_are_named():
    with pytest.raises(PairMismatch, match=r"rows of 5 tokens, the target of 7.* tokenizer has 7"):
        require_pair("small", Tokenizer(WORDS), 5, TargetInfo(WORDS, 7))


@pytest.mark.parametrize("tokenizer", [None, object()])
def test_a_missing_tokenizer_is_named(tokenizer):
    with pytest.raises(PairMismatch, match="drafter 'small' has no tokenizer"):
        require_pair("small", tokenizer, 7, TargetInfo(WORDS, 7))
    with pytest.raises(PairMismatch, match="the target has no tokenizer"):
        require_pair("small", Tokenizer(WORDS), 7, TargetInfo(None, 7))


class Refusing(ToyDraftModel):
    """A toy that suits nobody."""

    def pair(self, target_info):
        raise PairMismatch("this one suits nobody")


def test_drafters_and_what_wraps_them_ask_their_models():
    model = Refusing(hash_model())
    chain = ModelDrafter(model, Shape.chain())
    for drafter in (
        chain,
        MergedDrafter(
            [
                ModelDrafter(ToyDraftModel(hash_model()), Shape.expansion()),
                ModelDrafter(model, Shape.expansion()),
            ]
        ),
        MultiCandidate(model),
        Hybrid(NoDraft(), chain),
        Calibrated(chain),
    ):
        with pytest.raises(PairMismatch, match="suits nobody"):
            drafter.pair(TargetInfo(WORDS, 12))
    for drafter in (
        ModelDrafter(ToyDraftModel(hash_model()), Shape.chain()),
        Hybrid(NoDraft(), NoDraft()),
    ):
        drafter.pair(TargetInfo(WORDS, 12))  # cannot tell, or has none


# ------------------------------------------------------------------------------- real small models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("transformers")
    return save_tiny_model(tmp_path_factory.mktemp("small"))


def without_tokenizer(folder, to):
    shutil.copytree(folder, to)
    for file in to.glob("tokenizer*"):
        file.unlink()
    return to


def with_two_tokens_exchanged(folder, to):
    shutil.copytree(folder, to)
    text = (to / "tokenizer.json").read_text()
    for before, after in (('"a":', '"swap":'), ('"b":', '"a":'), ('"swap":', '"b":')):
        assert before in text
        text = text.replace(before, after)
    (to / "tokenizer.json").write_text(text)
    return to


SPECS = [
    "chain:model={}",
    "specinfer:model={},widths=2x1",
    "bestfirst:model={}",
    "sampled:model={}",
]


@pytest.mark.parametrize("spec", SPECS)
def test_load_refuses_a_drafter_without_a_tokenizer_or_with_another(spec, folder, tmp_path):
    from draftwood.load import load

    missing = without_tokenizer(folder, tmp_path / "missing")
    other = with_two_tokens_exchanged(folder, tmp_path / "other")
    with pytest.raises(PairMismatch, match=r"missing.*has no tokenizer"):
        load(folder, spec.format(missing), device="cpu")
    with pytest.raises(PairMismatch, match="different tokenizers"):
        load(folder, spec.format(other), device="cpu")
    nested = spec.format(other).replace(",", ";")
    with pytest.raises(PairMismatch, match="different tokenizers"):
        load(folder, f"hybrid:first=lookup,other={nested}", device="cpu")


def test_load_refuses_a_path_without_a_model(folder, tmp_path):
    from draftwood.load import load

    with pytest.raises(ModelNotFound, match="is no folder"):
        load(folder, f"chain:model={tmp_path}/none", device="cpu")


def test_load_refuses_a_drafter_whose_cache_cannot_forget(folder, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    from draftwood.load import load

    config = AutoConfig.for_model(
        "mamba", vocab_size=257, hidden_size=16, num_hidden_layers=1, state_size=4
    )
    shutil.copytree(folder, tmp_path / "mamba")
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "mamba")
    with pytest.raises(UnsupportedModel, match="recurrent state"):
        load(folder, f"chain:model={tmp_path / 'mamba'}", device="cpu")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            "specinfer:model=M,widths=4-2",
            "widths=4-2 cannot be read; write the candidates of each level",
        ),
        ("chain:model=M,gain=often", "gain=often is not a number or auto"),
        ("sampled:model=M,draw=best", "draw=best is not"),
    ],
)
def test_specs_that_do_not_parse_are_refused(spec, says, folder):
    with pytest.raises(InvalidSpec, match=says):
        make_drafter(spec.replace("M", str(folder)))
