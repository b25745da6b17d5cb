"""Texts rebuilt from the blocks that an engine says it has stored.

An engine's cache tells which blocks of tokens it keeps, each by a hash and the hash of the block
before it. Blocks that follow one another are a text. What that cannot tell: where a text ends
(after `idle` seconds without a block, here; the tokens behind its last full block are never seen),
and what of it is prompt (the blocks that come first, several at a time, are taken for it).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from draftwood.drafters.history_listener import CONTEXT, FinishedText
from draftwood.errors import BrokenRecord

PROMPT_BLOCKS: Final = 3
"""So many blocks at once, or more, are computed from a prompt and not generated."""
_TAILS: Final = 200_000
"""Blocks whose last tokens are remembered, as context of what follows them."""


@dataclass(frozen=True, slots=True)
class StoredBlocks:
    """One event. parent: the hash of the block before; None: they begin a text.

    extra: whether the blocks depend on more than their tokens (a salt, an adapter, an image).
    """

    hashes: Sequence[Any]
    parent: Any
    tokens: Sequence[int]
    extra: bool


@dataclass(slots=True)
class _Growing:
    """A text whose last block is known. context: before it."""

    context: list[int]
    seen: float
    tokens: list[int] = field(default_factory=list)


class BlockTexts:
    """Puts blocks together. idle: seconds after which a text that did not grow has ended.

    Blocks that depend on more than their tokens are left out, and counted in `private`: whose they
    are is not told.
    """

    def __init__(self, *, idle: float = 1.0) -> None:
        self.private = 0
        self.blocks = 0
        self._idle = idle
        self._growing: OrderedDict[Any, _Growing] = OrderedDict()  # by the hash of the last block
        self._tails: OrderedDict[Any, list[int]] = OrderedDict()

    def add(self, event: StoredBlocks, now: float) -> None:
        """Blocks were stored."""
        self.blocks += len(event.hashes)
        if event.extra:
            self.private += len(event.hashes)
            return
        last, tokens = event.hashes[-1], list(event.tokens)
        self._remember(last, tokens)
        text = self._growing.pop(event.parent, None) if event.parent is not None else None
        if text is None:
            tail = self._tails.get(event.parent, []) if event.parent is not None else []
            begins_late = event.parent is not None and len(event.hashes) < PROMPT_BLOCKS
            text = _Growing(list(tail), now)
            if begins_late:  # a cached prompt, or one whose blocks came before
                text.tokens = tokens
            else:
                text.context = tokens[-CONTEXT:]
        elif len(event.hashes) >= PROMPT_BLOCKS and not text.tokens:
            text.context = tokens[-CONTEXT:]
        else:
            text.tokens += tokens
        text.seen = now
        self._growing[last] = text

    def finished(self, now: float) -> Iterator[FinishedText]:
        """The texts that have ended by now."""
        while self._growing:
            first = next(iter(self._growing))
            text = self._growing[first]
            if now - text.seen < self._idle:
                return
            del self._growing[first]
            if text.tokens:
                yield FinishedText(
                    np.array(text.context[-CONTEXT:], np.int32),
                    np.array(text.tokens, np.int32),
                    "",
                    0,
                )

    def _remember(self, last: Any, tokens: list[int]) -> None:
        self._tails[last] = tokens[-CONTEXT:]
        if len(self._tails) > _TAILS:
            self._tails.popitem(last=False)


def stored_blocks(event: Any) -> StoredBlocks | None:
    """The event of a decoded message; None: of another kind.

    vLLM sends maps with a `type`, and sent arrays that begin with it before.

    Raises:
        BrokenRecord: an event that cannot be read.
    """
    try:
        if isinstance(event, dict):
            if event["type"] != "BlockStored":
                return None
            hashes, parent = event["block_hashes"], event.get("parent_block_hash")
            tokens, lora = event["token_ids"], event.get("lora_id")
            extra = event.get("extra_keys")
        else:
            if event[0] != "BlockStored":
                return None
            hashes, parent, tokens, lora = event[1], event[2], event[3], event[5]
            extra = event[8] if len(event) > 8 else None
        if not hashes or not all(type(token) is int and 0 <= token < 2**31 for token in tokens):
            raise ValueError("no blocks, or tokens that are none")
        return StoredBlocks(
            hashes, parent, tokens, lora is not None or any(each for each in extra or ())
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BrokenRecord(f"an event of the cache cannot be read ({error!r})") from None
