"""Small transformers models as drafters: the text is the target's, whatever they draft."""

from contextlib import closing
from functools import cache

import numpy as np
import pytest

from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.draft import Budget, as_tokens
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.mix.hybrid import Hybrid
from draftwood.drafters.none import NoDraft
from draftwood.drafters.small.grow import MergedDrafter, ModelDrafter
from draftwood.drafters.small.sampled import MultiCandidate
from draftwood.drafters.small.shapes import Shape
from draftwood.load import load
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling
from draftwood.testing import save_tiny_model, tiny_model
from draftwood.text.stop import Stop
from draftwood.verify.block import BlockVerification
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel
from draftwood.verify.multiround import MultiRound
from draftwood.verify.rejection import RecursiveRejection
from draftwood.verify.transport import KSeq, SpecHub
from draftwood.verify.traversal import TraversalVerification

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers.draft_model import TransformersDraftModel  # noqa: E402
from draftwood.targets.transformers.target import TransformersTarget  # noqa: E402

PROMPT = as_tokens([3, 10, 31, 5, 12])
COUNT = 40
DRAFTERS = {
    "chain": lambda *small: ModelDrafter(small[0], Shape.chain()),
    "fixed chain": lambda *small: ModelDrafter(small[0], Shape.chain(4), gain=0),
    "specinfer": lambda *small: ModelDrafter(small[0], Shape.expansion((3, 2, 1)), gain=0),
    "two models": lambda *small: MergedDrafter(
        [ModelDrafter(each, Shape.expansion((2, 2)), gain=0) for each in small]
    ),
    "best first": lambda *small: ModelDrafter(small[0], Shape.best_first(), gain=0),
    "sampled": lambda *small: MultiCandidate(small[0], widths=(2, 1, 1)),
    "hybrid": lambda *small: Hybrid(PromptLookup(), ModelDrafter(small[0], Shape.chain())),
}


@cache
def target_of(family="llama", seed=0):
    return TransformersTarget(tiny_model(family, seed=seed))


@cache
def near(seed=0, noise=0.02):
    """A small model that agrees with the target often: its weights, with some noise."""
    model = tiny_model("llama", seed=0)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * torch.randn_like(parameter)
    return TransformersDraftModel(model)


def run(drafter, verifier, *, target=None, count=COUNT, budget=None):
    steps = list(
        decode(
            target or target_of(),
            drafter,
            verifier,
            PROMPT,
            stop=Stop(max_tokens=count),
            budget=budget,
        )
    )
    return [token for step in steps for token in step.tokens.tolist()], steps


@pytest.mark.parametrize("kind", DRAFTERS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
def test_greedy_text_is_that_of_plain_decoding(kind, family):
    target = target_of(family)
    plain, _ = run(NoDraft(), Greedy(), target=target)
    text, steps = run(DRAFTERS[kind](near(), near(1)), Greedy(), target=target)
    assert text == plain
    if family == "llama":
        assert len(steps) < COUNT  # the small model is near this one


@pytest.mark.parametrize("kind", DRAFTERS)
def test_seeded_text_does_not_depend_on_the_drafter(kind):
    sampling = Sampling(temperature=0.9)
    plain, _ = run(NoDraft(), SharedGumbel(GumbelNoise(11), sampling))
    text, _ = run(DRAFTERS[kind](near(), near(1)), SharedGumbel(GumbelNoise(11), sampling))
    assert text == plain


@pytest.mark.parametrize(
    ("rule", "draw", "widths"),
    [
        (BlockVerification, "distinct", (1, 1, 1)),
        (RecursiveRejection, "distinct", (3, 1)),
        (TraversalVerification, "distinct", (3, 2)),
        (MultiRound, "independent", (3, 1)),
        (KSeq, "independent", (3, 1)),
        (SpecHub, "hub", (2, 2)),
    ],
)
def test_sampled_drafts_are_taken_by_the_rule_they_are_drawn_for(rule, draw, widths):
    """One model drafts for itself: nearly all is accepted, so that q is really what was drawn."""
    law = Sampling(temperature=0.8)
    small = TransformersDraftModel(target_of().model)
    drafter = MultiCandidate(small, widths=widths, draw=draw, law=law, chance=3)
    text, steps = run(drafter, rule(SeededChance(5), law))
    again = MultiCandidate(small, widths=widths, draw=draw, law=law, chance=3)
    assert run(again, rule(SeededChance(5), law))[0] == text
    assert all(step.draft.proposal is not None for step in steps if len(step.draft))
    full = [step for step in steps[:-1] if step.draft.height == len(widths)]
    assert full
    assert all(len(step.verdict.path) == len(widths) for step in full)


def test_rows_of_another_width_are_fitted_to_the_targets(tmp_path):
    folder = save_tiny_model(tmp_path)
    with load(folder, "none", device="cpu") as llm:
        for size in (257 + 7, 257 - 7):
            small = TransformersDraftModel(tiny_model("llama", vocab_size=size), llm.tokenizer)
            drafter = MultiCandidate(small, widths=(2, 1))
            if size > 257:
                drafter.pair(partner_of(llm))
            else:
                drafter._size = 257  # `pair` refuses rows shorter than the tokenizer
            with closing(drafter.open(PROMPT)) as stream:
                draft = stream.propose(Budget(8))
            assert draft.proposal.shape == (len(draft), 257)
            assert int(draft.tokens.max()) < min(size, 257)
            assert (draft.proposal[np.arange(len(draft)), draft.tokens] > 0).all()


def partner_of(llm):
    from draftwood.protocols import TargetInfo

    return TargetInfo(llm.tokenizer.get_vocab(), llm.target.vocab_size, llm.target.context_limit)


@pytest.mark.parametrize("kind", DRAFTERS)
def test_text_goes_on_where_the_small_models_context_ends(kind):
    small = TransformersDraftModel(tiny_model("llama", max_position_embeddings=20))
    other = TransformersDraftModel(tiny_model("gpt2", max_position_embeddings=24))
    plain, _ = run(NoDraft(), Greedy())
    drafter = DRAFTERS[kind](small, other)
    text, steps = run(drafter, Greedy())
    assert text == plain
    assert steps[0].draft.height > 0
    if kind not in ("two models", "hybrid"):
        reached, late = len(PROMPT), []
        for step in steps:
            late += [len(step.draft)] if reached >= 20 else []
            reached += len(step.tokens)
        assert late
        assert not any(late)


@pytest.mark.parametrize("kind", DRAFTERS)
def test_many_sequences_give_the_texts_of_one(kind):
    prompts = [PROMPT, as_tokens([7]), as_tokens([9, 8, 7, 6])]
    drafter = DRAFTERS[kind](near(), near(1))
    requests = [Request(prompt, Greedy(), Stop(max_tokens=20)) for prompt in prompts]
    texts = {number: [] for number in range(3)}
    for number, step in decode_batch(target_of(), drafter, requests, max_batch=2):
        texts[number] += step.tokens.tolist()
    for number, prompt in enumerate(prompts):
        steps = decode(target_of(), NoDraft(), Greedy(), prompt, stop=Stop(max_tokens=20))
        assert texts[number] == [token for step in steps for token in step.tokens.tolist()]


def test_accepted_text_is_not_computed_again():
    """Rows through the small model: the prompt, drafted nodes, and each step's one new token."""
    seats = []
    small = near()

    class Watched:
        vocab_size, end_tokens = small.vocab_size, small.end_tokens

        def open(self, prompt):
            seats.append(small.open(prompt))
            return seats[-1]

    drafter = ModelDrafter(Watched(), Shape.chain(4), gain=0)
    _, steps = run(drafter, Greedy())
    # a chain of g tokens passes g - 1 of them; the last, where accepted, is passed with the next
    passed = sum(max(0, len(step.draft) - 1) for step in steps)
    last = sum(
        len(step.verdict.path) == len(step.draft) and len(step.draft) > 0 for step in steps[:-1]
    )
    assert seats[0].rows == len(PROMPT) + passed + last + (len(steps) - 1)


@pytest.mark.parametrize(
    "spec",
    [
        "chain:model={}",
        "specinfer:model={},widths=2x2x1",
        "specinfer:model={}+{},widths=2x1",
        "bestfirst:model={},nodes=8",
        "sampled:model={},widths=2x1,temperature=0.8",
        "hybrid:first=lookup,other=chain:model={};gamma=3",
    ],
)
def test_a_spec_names_a_drafter_with_its_model(spec, tmp_path):
    folder = save_tiny_model(tmp_path)
    with load(folder, "none", device="cpu") as plain:
        expected = plain.generate("select", max_tokens=24).tokens.tolist()
    with load(folder, spec.replace("{}", str(folder)), device="cpu", cost=None) as llm:
        got = llm.generate("select", max_tokens=24)
    assert got.tokens.tolist() == expected
    assert got.stats.tokens_per_step > 1.5  # the model drafts for itself
