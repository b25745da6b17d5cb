"""Graph drafts of a real (tiny) model: its cache holds the accepted text's own rows, always."""

import numpy as np
import pytest
import torch

from draftwood.draft import ROOT, Budget, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.mix.ouroboros import Ouroboros
from draftwood.drafters.small.grow import ModelDrafter
from draftwood.drafters.small.shapes import Shape
from draftwood.load import load
from draftwood.protocols import Feedback, Verdict
from draftwood.targets.transformers.draft_model import TransformersDraftModel
from draftwood.testing import save_tiny_model, tiny_model

VOCAB = 61


def drafted(draft):
    """Each path's tokens and its confidence."""
    return {
        tuple(draft.tokens[draft.path(node)].tolist()): float(draft.confidence[node])
        for node in range(len(draft))
    }


@pytest.mark.parametrize("overlap", [0, 1, None])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_drafts_are_those_of_a_model_that_never_drafted_before(family, overlap):
    model = TransformersDraftModel(tiny_model(family, vocab_size=VOCAB))
    options = {"overlap": overlap, "top_k": 6, "siblings": 0.0, "probability": 0.0}
    drafter = ModelDrafter(model, Shape.gsd(levels=5, **options), gain=0)
    random = np.random.default_rng(3)
    text = random.integers(0, VOCAB, 20)
    stream, over_merges = drafter.open(as_tokens(text)), 0
    for _ in range(25):
        draft = stream.propose(Budget(24))
        fresh = ModelDrafter(model, drafter.shape, gain=0).open(as_tokens(text))
        expected = drafted(fresh.propose(Budget(24)))
        assert drafted(draft).keys() == expected.keys()
        assert list(drafted(draft).values()) == pytest.approx(list(expected.values()), abs=1e-4)
        # accept any path: merged edges are on some of them
        path = draft.path(int(random.integers(ROOT, len(draft))))
        verdict = Verdict(path, int(random.integers(0, VOCAB)))
        tokens = verdict.tokens(draft)
        over_merges += len(stream._graph.own_path(tokens.tolist())) < len(path)
        stream.observe(Feedback(draft, verdict, tokens))
        text = np.concatenate((text, tokens))
    if overlap == 0:
        assert drafter.counts.merged > 100
        assert over_merges > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def test_specs_name_the_model_and_the_options(folder):
    gsd = make_drafter(f"gsd:model={folder},overlap=none,probability=0.2,gain=0.5")
    assert isinstance(gsd, ModelDrafter)
    assert gsd.shape == Shape.gsd(overlap=None, probability=0.2)
    assert gsd.gain.gain == 0.5
    cape = make_drafter(f"cape:model={folder},levels=5")
    assert cape.shape == Shape.cape(levels=5)
    ouroboros = make_drafter(f"ouroboros:model={folder},length=6,tips=2")
    assert isinstance(ouroboros, Ouroboros)
    assert (ouroboros.phrases.length, ouroboros.tips) == (6, 2)


@pytest.mark.parametrize(
    "spec", ["gsd:model={},overlap=0,gain=0", "cape:model={},gain=0", "ouroboros:model={},gain=0"]
)
def test_the_text_is_what_the_target_generates_alone(folder, spec):
    with load(folder, spec.format(folder), device="cpu", cost=None) as model:
        prompt = model.encode("select a from b where", chat=False)
        given = [model.generate(prompt, max_tokens=40).tokens.tolist() for _ in range(2)]
        steps = model.stats.steps
        network = model.target.model
    with torch.inference_mode():
        alone = network.generate(
            torch.tensor(prompt[None].astype(np.int64)), max_new_tokens=40, do_sample=False
        )
    assert given == [alone[0, len(prompt) :].tolist()] * 2
    assert steps < 40  # the small model is the target itself
