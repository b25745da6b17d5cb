"""Caches of keys and values: exactly the kept rows stay, in order, whatever was scored."""

from itertools import combinations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from draftwood.targets.transformers.cache import (  # noqa: E402
    FIRST_ROWS,
    BatchCache,
    SequenceCache,
)

LAYERS, HEADS, SIZE = 2, 3, 4


def states(rows, *, sign=1):
    """Keys or values that tell which row they are: [1, heads, rows, size]."""
    numbers = torch.tensor(rows, dtype=torch.float32) * sign
    return numbers[None, None, :, None].expand(1, HEADS, len(rows), SIZE)


def append(cache, rows):
    for layer in cache.layers:
        layer.update(states(rows), states(rows, sign=-1))


def held(layer):
    assert layer.keys.shape == layer.values.shape == (1, HEADS, layer.length, SIZE)
    assert torch.equal(layer.keys, -layer.values)
    assert torch.equal(layer.keys, layer.keys[:, :1, :, :1].expand_as(layer.keys))
    return layer.keys[0, 0, :, 0].tolist()


@pytest.mark.parametrize("context", [0, 1, 3])
def test_keep_leaves_the_context_and_exactly_the_accepted_rows(context):
    nodes = 6
    for count in range(nodes + 1):
        for path in combinations(range(nodes), count):
            cache = SequenceCache(LAYERS)
            append(cache, list(range(context + nodes)))
            cache.keep(context, [context + node for node in path])
            expected = [*range(context), *(context + node for node in path)]
            assert [held(layer) for layer in cache.layers] == [expected] * LAYERS, path
            append(cache, [99])
            assert held(cache.layers[1]) == [*expected, 99], path
            assert cache.length == context + count + 1


def test_rows_stay_where_buffers_grow():
    cache = SequenceCache(LAYERS)
    rows = list(range(FIRST_ROWS - 2))
    append(cache, rows)
    append(cache, [7, 8, 9])
    assert held(cache.layers[0]) == [*rows, 7, 8, 9]
    assert cache.nbytes() == LAYERS * 2 * HEADS * SIZE * 4 * 2 * FIRST_ROWS


def test_a_batch_moves_rows_within_their_slots_only():
    cache = BatchCache(LAYERS, 3)
    for slot in range(3):
        own = SequenceCache(LAYERS)
        append(own, [10 * slot + row for row in range(8)])
        cache.adopt(slot, own)
    #  slot 0 keeps rows 0 1 | 2 4 5, slot 2 keeps 0 | 3
    slots, sources, places = torch.tensor([(0, 4, 3), (0, 5, 4), (2, 3, 1)]).T
    cache.move(slots, sources, places)
    for layer in cache.layers:
        found = layer.keys[:, 0, :8, 0].tolist()
        assert found[0][:5] == [0, 1, 2, 4, 5]
        assert found[1] == [10, 11, 12, 13, 14, 15, 16, 17]
        assert found[2][:2] == [20, 23]
        assert torch.equal(layer.keys, -layer.values)
    cache.copy(2, 1, 2)
    for layer in cache.layers:
        assert layer.keys[1, 0, :4, 0].tolist() == [20, 23, 12, 13]
        assert torch.equal(layer.keys, -layer.values)
