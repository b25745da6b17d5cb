"""Texts put together from the blocks of an engine's cache."""

from __future__ import annotations

import pytest

from draftwood.errors import BrokenRecord
from draftwood.share.block_texts import BlockTexts, StoredBlocks, stored_blocks


def stored(hashes, parent, first: int, extra: bool = False) -> StoredBlocks:
    return StoredBlocks(hashes, parent, list(range(first, first + 4 * len(hashes))), extra)


def test_blocks_that_follow_one_another_are_a_text():
    texts = BlockTexts(idle=1.0)
    texts.add(stored([1, 2, 3], None, 0), 0.0)  # a prompt
    texts.add(stored([4], 3, 12), 0.1)
    texts.add(stored([9], 8, 400), 0.1)  # the prompt of this one was there before
    texts.add(stored([5], 4, 16), 0.2)
    assert list(texts.finished(1.0)) == []
    late, one = texts.finished(1.3)
    assert one.tokens.tolist() == list(range(12, 20))
    assert one.context.tolist() == list(range(4, 12))
    assert late.tokens.tolist() == list(range(400, 404))
    assert list(texts.finished(9.0)) == []


def test_a_prompt_that_stands_in_the_cache_is_context():
    texts = BlockTexts(idle=1.0)
    texts.add(stored([1, 2, 3], None, 0), 0.0)
    assert list(texts.finished(2.0)) == []
    texts.add(stored([7], 3, 100), 3.0)
    (text,) = texts.finished(5.0)
    assert text.context.tolist() == list(range(4, 12))
    assert text.tokens.tolist() == list(range(100, 104))


def test_blocks_of_more_than_tokens_are_nobodys():
    texts = BlockTexts(idle=1.0)
    texts.add(stored([1], None, 0, extra=True), 0.0)
    texts.add(stored([2], 1, 0, extra=True), 0.0)
    assert list(texts.finished(9.0)) == []
    assert texts.private == 2


def test_events_of_all_forms_are_read():
    about = {"block_hashes": [b"a"], "parent_block_hash": None, "token_ids": [1, 2]}
    event = stored_blocks({"type": "BlockStored", **about, "block_size": 2, "lora_id": None})
    assert event == StoredBlocks([b"a"], None, [1, 2], False)
    assert stored_blocks(["BlockStored", [b"a"], None, [1, 2], 2, None]) == event
    salted = {"type": "BlockStored", **about, "extra_keys": [["salt"]]}
    assert stored_blocks(salted).extra
    assert not stored_blocks({"type": "BlockStored", **about, "extra_keys": [None]}).extra
    assert stored_blocks({"type": "BlockRemoved", "block_hashes": [b"a"]}) is None
    assert stored_blocks(["AllBlocksCleared"]) is None


@pytest.mark.parametrize(
    "event",
    [
        7,
        {},
        [],
        {"type": "BlockStored"},
        ["BlockStored", [], None, [], 2, None],
        ["BlockStored", [1], None, [-1], 2, None],
        ["BlockStored", [1], None, ["x"], 2, None],
    ],
)
def test_anything_else_is_broken(event):
    with pytest.raises(BrokenRecord):
        stored_blocks(event)
