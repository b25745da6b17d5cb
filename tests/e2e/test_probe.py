"""What probes see: windows that masks ignore, own position ids, models that raise."""

import pytest

from draftwood.decode import decode
from draftwood.draft import Budget
from draftwood.errors import UnsupportedModel
from draftwood.testing import oracle, random_trees, tiny_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers.probe import WINDOW, narrowed  # noqa: E402
from draftwood.targets.transformers.target import TransformersTarget  # noqa: E402

V, COUNT = 61, 24
PROMPT = [(3 + 7 * i * i) % V for i in range(40)]


def generate(model):
    ids = torch.tensor([PROMPT])
    mask = torch.ones_like(ids)
    output = model.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=COUNT, pad_token_id=0
    )
    return output[0, len(PROMPT) :].tolist()


def texts(target, expected):
    whole = [*PROMPT, *expected]
    for drafter in (oracle(whole, vocab_size=V, decoys=2, errors=0.1), random_trees(V)):
        steps = decode(target, drafter, Greedy(), PROMPT, budget=Budget(12), stop=Stop(COUNT))
        yield [token for step in steps for token in step.tokens.tolist()]


@pytest.mark.parametrize("window", [4, 24, 4096])
def test_a_window_that_the_masks_ignore_is_seen_however_wide_it_is(window):
    model = tiny_model("llama", sliding_window=window)  # its cache slides, its masks do not
    with pytest.raises(UnsupportedModel, match=r"logits off by .* standard deviations"):
        TransformersTarget(model)


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_a_window_that_the_masks_keep_is_no_reason_to_refuse(family):
    model = tiny_model(family, sliding_window=100)
    target = TransformersTarget(model)
    assert target.trees
    assert target.batches


def test_attention_that_keeps_only_the_best_of_a_long_text_is_exact_or_refused():
    sizes = {"hidden_act": "silu", "keep_window_size": 16}
    model = tiny_model("doge", attention="eager", **sizes)
    expected = generate(model)
    try:
        target = TransformersTarget(model)
    except UnsupportedModel:
        return
    assert list(texts(target, expected)) == [expected] * 2


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "camembert", "xglm", "opt", "biogpt"])
def test_position_ids_of_their_own_are_those_of_generate(family):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        vocab_size=V,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=128,
        is_decoder=True,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=1,
        tie_word_embeddings=False,
        **({"word_embed_proj_dim": 32, "ffn_dim": 48} if family == "opt" else {}),
        **({"ffn_dim": 48} if family == "xglm" else {}),
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    expected = []
    for seed in range(20):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0, 0.7)
        expected = generate(model)
        if len(set(expected)) > 3:
            break  # a text that wanders
    assert len(set(expected)) > 3
    assert list(texts(TransformersTarget(model), expected)) == [expected] * 2


@pytest.mark.parametrize("error", [IndexError, AssertionError, KeyError, NotImplementedError])
def test_whatever_a_model_raises_when_tried_is_a_reason_and_no_traceback(monkeypatch, error):
    model = tiny_model("llama")
    forward = model.forward

    def fragile(input_ids, past_key_values=None, **options):
        if (
            past_key_values is not None
            and past_key_values.get_seq_length()
            and input_ids.shape[1] > 1
        ):
            raise error("only one row at a time")
        return forward(input_ids, past_key_values=past_key_values, **options)

    monkeypatch.setattr(model, "forward", fragile)
    with pytest.raises(UnsupportedModel, match=rf"{error.__name__}: .*only one row at a time"):
        TransformersTarget(model)


def test_a_model_that_cannot_generate_is_refused(monkeypatch):
    model = tiny_model("llama")
    monkeypatch.setattr(type(model), "generate", None)
    with pytest.raises(UnsupportedModel, match="TypeError"):
        TransformersTarget(model)


def test_a_narrowed_copy_shares_the_weights_and_changes_nothing_else():
    model = tiny_model("gemma3", sliding_window=4096)
    copy = narrowed(model)
    assert copy.config.sliding_window == WINDOW
    assert model.config.sliding_window == 4096
    ours, theirs = dict(model.named_parameters()), dict(copy.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    assert copy.generation_config is not model.generation_config
    assert narrowed(tiny_model("llama")) is None
    assert narrowed(tiny_model("mistral", sliding_window=5)) is None  # a probe is beyond it


def test_settings_of_generation_do_not_reach_the_probe():
    model = tiny_model("llama")
    model.generation_config.num_beams = 3
    model.generation_config.eos_token_id = list(range(V))
    model.generation_config.suppress_tokens = [1, 2, 3]
    model.generation_config.stop_strings = ["x"]
    assert TransformersTarget(model).trees
    assert model.generation_config.num_beams == 3
