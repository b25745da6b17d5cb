"""A logits processor that keeps one text within a compiled grammar."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, Draft
from draftwood.tokens import TokenIds


class GrammarRule:
    """Allows the tokens that the grammar allows next, and says which drafted tokens it does not.

    For one text, by one thread at a time. The matcher is moved to where the ids stand: back to the
    last token in common, then forward; so rows of a tree may be asked for in any order.

    compiled: of XGrammar. prompt_tokens: where the text begins.
    """

    def __init__(self, compiled: Any, prompt_tokens: int) -> None:
        import xgrammar

        self._matcher = xgrammar.GrammarMatcher(compiled)
        self._allowed = xgrammar.allocate_token_bitmask(1, compiled.tokenizer_info.vocab_size)
        self._apply = xgrammar.apply_token_bitmask_inplace
        self._prompt = prompt_tokens
        self._before: list[int] = []

    def __call__(self, ids: TokenIds, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits [V], -inf where the grammar allows no token."""
        import torch

        self._move(ids)
        if self._matcher.fill_next_token_bitmask(self._allowed):
            self._apply(torch.from_numpy(logits)[None], self._allowed)
        return logits

    def keeps(self, ids: TokenIds, draft: Draft) -> list[int]:
        """The nodes that the grammar allows after `ids`, rising; nothing follows a refused one."""
        self._move(ids)
        matcher = self._matcher
        kept: list[int] = []
        below: dict[int, list[int]] = {}
        for node, parent in enumerate(draft.parents.tolist()):
            below.setdefault(parent, []).append(node)
        tokens = draft.tokens.tolist()
        waiting = [(node, False) for node in reversed(below.get(ROOT, ()))]
        while waiting:
            node, leaves = waiting.pop()
            if leaves:
                matcher.rollback(1)
                continue
            if matcher.is_terminated() or not matcher.accept_token(tokens[node]):
                continue
            kept.append(node)
            waiting.append((node, True))
            waiting += [(child, False) for child in reversed(below.get(node, ()))]
        return sorted(kept)

    def _move(self, ids: TokenIds) -> None:
        text: list[int] = ids[self._prompt :].tolist()
        before = self._before
        same = len(before)
        if text[:same] != before:
            pairs = zip(text, before, strict=False)
            same = next((at for at, (one, two) in enumerate(pairs) if one != two), len(text))
            same = min(same, len(text))
        if same < len(before):
            self._matcher.rollback(len(before) - same)
        accepted = text[:same]
        for token in text[same:]:
            if self._matcher.is_terminated():  # what follows the end is cut off
                break
            self._matcher.accept_token(token)
            accepted.append(token)
        self._before = accepted
