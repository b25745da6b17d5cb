"""The released SuffixDecoding of `arctic-inference`, or for --smoke a stand-in with its calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from draftwood.draft import TokenIds
from draftwood.index.suffix_tree import Mode, SuffixPolicy, SuffixTree

__all__ = ["INSTALLED", "ReleasedTree", "SuffixDecodingCache"]

try:
    from arctic_inference.suffix_decoding import SuffixDecodingCache
    from arctic_inference.suffix_decoding.cache import SuffixTree as ReleasedTree

    INSTALLED = True
except ImportError:
    INSTALLED = False

    class Drawn:
        """A draft as the released code gives it."""

        def __init__(self, guess: Any) -> None:
            self.token_ids = guess.tokens.tolist()
            self.parents = guess.parents.tolist()
            self.probs = guess.probability.tolist()
            self.score, self.match_len = guess.score, guess.match

    class ReleasedTree:  # type: ignore[no-redef]
        """Our tree by the released tree's verbs: sequences have numbers that the caller gives."""

        def __init__(self, depth: int) -> None:
            self._tree = SuffixTree(depth)
            self._numbers: dict[int, int] = {}

        def extend_ndarray(self, number: int, tokens: TokenIds) -> None:
            """The sequence goes on; it begins where the number is new."""
            if number not in self._numbers:
                self._numbers[number] = self._tree.begin()
            self._tree.extend(self._numbers[number], tokens)

        def remove(self, number: int) -> None:
            """The sequence leaves the tree."""
            sequence = self._numbers.pop(number)
            self._tree.finish(sequence)
            self._tree.remove(sequence)

        def speculate_ndarray(
            self,
            context: TokenIds,
            nodes: int,
            alpha: float,
            offset: float,
            floor: float,
            tree: bool,
        ) -> Drawn:
            """A draft."""
            mode: Mode = "tree" if tree else "linear"
            policy = SuffixPolicy(alpha, offset, floor, mode)
            return Drawn(self._tree.speculate(context, policy, nodes=nodes))

    class SuffixDecodingCache:  # type: ignore[no-redef]
        """A tree of all responses, and one of each running request."""

        def __init__(self, max_tree_depth: int) -> None:
            self._depth = max_tree_depth
            self._global_tree = ReleasedTree(max_tree_depth)
            self._local: dict[Any, ReleasedTree] = {}

        def start_request(self, name: Any, prompt: TokenIds) -> None:
            """A request with a tree of its own."""
            self._local[name] = ReleasedTree(self._depth)
            self._local[name].extend_ndarray(0, prompt)

        def add_active_response(self, name: Any, tokens: TokenIds) -> None:
            """Into both trees."""
            self._local[name].extend_ndarray(0, tokens)
            self._global_tree.extend_ndarray(hash(name), tokens)

        def speculate(
            self,
            name: Any,
            context: TokenIds,
            *,
            max_spec_tokens: int,
            max_spec_factor: float,
            max_spec_offset: float,
            min_token_prob: float,
            use_tree_spec: bool,
        ) -> Drawn:
            """The better draft of both trees."""
            policy = (max_spec_factor, max_spec_offset, min_token_prob, use_tree_spec)
            ask = np.ascontiguousarray(context), max_spec_tokens, *policy
            drawn: list[Drawn] = [
                tree.speculate_ndarray(*ask) for tree in (self._local[name], self._global_tree)
            ]
            return max(drawn, key=lambda each: float(each.score))

        def stop_request(self, name: Any) -> None:
            """Drop the tree of a request."""
            del self._local[name]

        def evict_cached_response(self, name: Any) -> None:
            """Nothing is kept by name."""
            del name
