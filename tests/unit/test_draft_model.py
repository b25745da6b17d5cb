"""A small transformers model as a drafter: its rows are those of plain passes."""

from contextlib import closing

import numpy as np
import pytest

from draftwood.draft import NO_TOKENS, ROOT, as_tokens
from draftwood.errors import ContextTooLong, InvalidDraft, UnsupportedModel
from draftwood.testing import ToyDraftModel, tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers.draft_model import TransformersDraftModel  # noqa: E402

V = 61
PROMPT = as_tokens([3, 17, 8, 42, 5, 5, 23])


def plain_row(model, ids):
    """What the model says after some tokens, by one pass without a cache."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1]
    return logits.log_softmax(-1).numpy()


def close_to(row, expected):
    assert row.dtype == np.float32
    np.testing.assert_allclose(row, expected, atol=2e-4)


def grow(seat, model, context, random, *, levels=4, widest=5):
    """Hang random nodes below each other and compare each row; the paths of all nodes."""
    paths = []
    for _ in range(levels):
        count = int(random.integers(1, widest + 1))
        parents = random.integers(ROOT, max(len(paths), 0), count) if paths else [ROOT] * count
        parents = np.array(parents, dtype=np.int32)
        tokens = as_tokens(random.integers(0, V, count))
        rows = seat.expand(tokens, parents)
        assert rows.shape == (count, V)
        known = len(paths)
        for token, parent, row in zip(tokens.tolist(), parents.tolist(), rows, strict=True):
            above, nodes = ([], []) if parent == ROOT else paths[parent]
            paths.append(([*above, token], [*nodes, len(paths)]))
            close_to(row, plain_row(model, [*context, *above, token]))
        assert len(paths) == known + count
    return paths


@pytest.mark.parametrize(
    ("family", "attention"),
    [
        ("llama", "sdpa"),
        ("llama", "eager"),
        ("qwen3", "sdpa"),
        ("gpt2", "sdpa"),
        ("mistral", "sdpa"),  # slides over 24 tokens
        ("gemma3", "sdpa"),  # sliding and full layers: two masks
        ("gemma2", "eager"),
    ],
)
def test_rows_of_random_trees_are_those_of_plain_passes_before_and_after_keep(family, attention):
    model = tiny_model(family, attention=attention)
    random = np.random.default_rng(5)
    context = PROMPT.tolist()
    with closing(TransformersDraftModel(model).open(PROMPT)) as seat:
        for turn in range(5):
            close_to(seat.root(), plain_row(model, context))
            paths = grow(seat, model, context, random)
            tokens, nodes = paths[int(random.integers(len(paths)))] if turn else ([], [])
            committed = as_tokens([*tokens, *random.integers(0, V, turn + 3).tolist()])
            seat.keep(np.array(nodes, dtype=np.int32), committed)
            context += committed.tolist()


def test_nothing_that_was_accepted_is_computed_again():
    model = tiny_model("llama")
    with closing(TransformersDraftModel(model).open(PROMPT)) as seat:
        seat.root()
        assert (seat.passes, seat.rows) == (1, len(PROMPT))
        seat.root()
        assert (seat.passes, seat.rows) == (1, len(PROMPT))
        #   9    4        accepted: 9 2, then the target says 7
        #  / \
        # 2   6
        seat.expand(as_tokens([9, 4]), np.array([ROOT, ROOT], dtype=np.int32))
        seat.expand(as_tokens([6, 2]), np.array([0, 0], dtype=np.int32))
        assert (seat.passes, seat.rows) == (3, len(PROMPT) + 4)
        seat.keep(np.array([0, 3], dtype=np.int32), as_tokens([9, 2, 7]))
        close_to(seat.root(), plain_row(model, [*PROMPT.tolist(), 9, 2, 7]))
        assert (seat.passes, seat.rows) == (4, len(PROMPT) + 5)


def test_a_path_that_holds_all_tokens_needs_no_pass():
    model = tiny_model("llama")
    with closing(TransformersDraftModel(model).open(PROMPT)) as seat:
        seat.root()
        seat.expand(as_tokens([9]), np.array([ROOT], dtype=np.int32))
        seat.expand(as_tokens([6, 2]), np.array([0, 0], dtype=np.int32))
        seat.keep(np.array([0, 2], dtype=np.int32), as_tokens([9, 2]))
        passes = seat.passes
        close_to(seat.root(), plain_row(model, [*PROMPT.tolist(), 9, 2]))
        assert seat.passes == passes
        rows = seat.expand(as_tokens([30]), np.array([ROOT], dtype=np.int32))
        close_to(rows[0], plain_row(model, [*PROMPT.tolist(), 9, 2, 30]))


def test_tokens_may_be_kept_without_a_draft_and_nothing_may_be_kept():
    model = tiny_model("llama")
    none = np.empty(0, dtype=np.int32)
    with closing(TransformersDraftModel(model).open(PROMPT)) as seat:
        seat.keep(none, as_tokens([1, 2]))  # before any pass
        seat.keep(none, as_tokens([3]))
        close_to(seat.root(), plain_row(model, [*PROMPT.tolist(), 1, 2, 3]))
        seat.expand(as_tokens([9]), np.array([ROOT], dtype=np.int32))
        seat.keep(none, NO_TOKENS)  # forgets the node
        passes = seat.passes
        close_to(seat.root(), plain_row(model, [*PROMPT.tolist(), 1, 2, 3]))
        assert seat.passes == passes
        rows = seat.expand(as_tokens([8]), np.array([ROOT], dtype=np.int32))
        close_to(rows[0], plain_row(model, [*PROMPT.tolist(), 1, 2, 3, 8]))


def test_a_long_prompt_is_computed_in_chunks():
    model = tiny_model("llama")
    prompt = as_tokens(np.random.default_rng(0).integers(0, V, 150))
    with closing(TransformersDraftModel(model, prefill_rows=40).open(prompt)) as seat:
        close_to(seat.root(), plain_row(model, prompt.tolist()))
        assert (seat.passes, seat.rows) == (4, 150)
        close_to(
            seat.expand(as_tokens([1]), np.array([ROOT], dtype=np.int32))[0],
            plain_row(model, [*prompt.tolist(), 1]),
        )


def test_more_nodes_than_the_first_mask_holds():
    model = tiny_model("llama")
    random = np.random.default_rng(1)
    with closing(TransformersDraftModel(model).open(PROMPT)) as seat:
        seat.root()
        paths = grow(seat, model, PROMPT.tolist(), random, levels=12, widest=30)
        assert len(paths) > 128


def test_the_seat_agrees_with_the_toy():
    model = tiny_model("llama")
    toy = ToyDraftModel(lambda prefix: plain_row(model, prefix), V)
    seats = [TransformersDraftModel(model).open(PROMPT), toy.open(PROMPT)]
    moves = [
        lambda seat: seat.root(),
        lambda seat: seat.expand(as_tokens([4, 9]), np.array([ROOT, ROOT], dtype=np.int32)),
        lambda seat: seat.expand(as_tokens([4, 1]), np.array([1, ROOT], dtype=np.int32)),
        lambda seat: seat.keep(np.array([1, 2], dtype=np.int32), as_tokens([9, 4, 50])),
        lambda seat: seat.root(),
    ]
    for move in moves:
        ours, other = (move(seat) for seat in seats)
        if other is not None:
            close_to(ours, other)
    assert [seat.passes for seat in seats] == [4, 4]


def test_what_cannot_be_kept_or_expanded_is_refused():
    seat = TransformersDraftModel(tiny_model("llama")).open(PROMPT)
    root = np.array([ROOT], dtype=np.int32)
    with pytest.raises(InvalidDraft, match="expand before root"):
        seat.expand(as_tokens([1]), root)
    seat.root()
    seat.expand(as_tokens([1]), root)
    with pytest.raises(InvalidDraft, match="1 nodes"):
        seat.expand(as_tokens([1]), np.array([1], dtype=np.int32))
    with pytest.raises(InvalidDraft, match="holds token 2"):
        seat.keep(np.array([0], dtype=np.int32), as_tokens([2, 3]))


def test_room_ends_at_the_models_context_and_a_longer_prompt_leaves_none():
    model = tiny_model("llama", max_position_embeddings=12)
    seat = TransformersDraftModel(model).open(as_tokens(range(10)))
    seat.root()
    assert seat.room == 2
    seat.expand(as_tokens([1]), np.array([ROOT], dtype=np.int32))
    seat.expand(as_tokens([1]), np.array([0], dtype=np.int32))
    with pytest.raises(ContextTooLong, match="no deeper than `room`, 2"):
        seat.expand(as_tokens([1]), np.array([1], dtype=np.int32))
    seat.keep(np.array([0], dtype=np.int32), as_tokens([1, 2, 3, 4]))
    assert seat.room == 0
    with pytest.raises(ContextTooLong, match="14 tokens and the drafter's holds 12"):
        seat.root()


def test_tokens_beyond_its_vocabulary_cost_acceptance_only():
    model = tiny_model("llama")
    with closing(TransformersDraftModel(model).open(as_tokens([3, V + 7]))) as seat:
        close_to(seat.root(), plain_row(model, [3, V - 1]))
        rows = seat.expand(as_tokens([V + 1]), np.array([ROOT], dtype=np.int32))
        close_to(rows[0], plain_row(model, [3, V - 1, V - 1]))
        seat.keep(np.array([0], dtype=np.int32), as_tokens([V + 1, 4]))
        close_to(seat.root(), plain_row(model, [3, V - 1, V - 1, 4]))


def test_two_seats_of_one_model_do_not_disturb_each_other():
    model = tiny_model("llama")
    small = TransformersDraftModel(model)
    one, other = small.open(PROMPT), small.open(PROMPT[:3])
    one.root()
    other.root()
    one.expand(as_tokens([1]), np.array([ROOT], dtype=np.int32))
    close_to(
        other.expand(as_tokens([2]), np.array([ROOT], dtype=np.int32))[0],
        plain_row(model, [*PROMPT[:3].tolist(), 2]),
    )


def test_models_whose_cache_cannot_be_cropped_are_refused():
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "mamba", vocab_size=V, hidden_size=16, num_hidden_layers=2, state_size=4
    )
    with pytest.raises(UnsupportedModel, match="recurrent state"):
        TransformersDraftModel(AutoModelForCausalLM.from_config(config).eval())


@pytest.mark.parametrize(
    ("family", "options", "lean"),
    [
        ("llama", {}, True),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}, True),
        ("llama", {"num_key_value_heads": 4}, True),
        ("qwen2", {}, True),
        ("qwen3", {}, True),
        ("mistral", {"sliding_window": None}, True),
        ("mistral", {}, True),  # with its window
        ("gemma", {}, True),
        ("gemma3", {}, True),
        ("gpt2", {}, False),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            False,
        ),
    ],
)
def test_a_lean_pass_gives_the_models_own_rows_or_is_not_used(family, options, lean):
    model = tiny_model(family, **options)
    for parameter in model.parameters():  # norms and biases that are not their first values
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    small = TransformersDraftModel(model)
    assert small.lean == lean
    with closing(small.open(PROMPT)) as seat:
        close_to(seat.root(), plain_row(model, PROMPT.tolist()))
        paths = grow(seat, model, PROMPT.tolist(), np.random.default_rng(2))
        tokens, nodes = paths[-1]
        seat.keep(np.array(nodes, dtype=np.int32), as_tokens([*tokens, 9]))
        close_to(seat.root(), plain_row(model, [*PROMPT.tolist(), *tokens, 9]))
    assert not TransformersDraftModel(model, lean=False).lean


def test_a_lean_pass_of_a_model_that_computes_something_else_is_not_used():
    model = tiny_model("llama")
    model.model.norm.register_forward_hook(lambda module, inputs, output: 1.1 * output)
    assert not TransformersDraftModel(model).lean
