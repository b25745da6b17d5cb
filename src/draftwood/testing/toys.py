"""Language models that are functions: targets, small models, a tokenizer of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, Draft, TokenIds, as_tokens
from draftwood.drafters.small.seat import DraftSeat
from draftwood.protocols import NOT_A_NUMBER, Verdict
from draftwood.sampling.chance import Weights

Row = Callable[[tuple[int, ...]], Weights]
"""A language model: from a prefix to the row after it (logits, or exact weights)."""

WORDS: Final = ("a", "b", "c", "the", "cat", "dog", "sees", "and", ".", "select", "from", "table")
"""A vocabulary of 12 words: readable toys."""


class ToyTarget:
    """A target whose model is a function; `calls` counts its passes.

    row: from a prefix (a tuple of ids) to logits, or to exact weights for a law that takes them
    as they are. context_limit: as a model's context length, or None.
    """

    def __init__(self, row: Row, *, context_limit: int | None = None, trees: bool = True) -> None:
        self.row = row
        self.context_limit = context_limit
        self.trees = trees
        self.calls = 0

    def open(self, prompt: TokenIds) -> ToyCursor:
        """A cursor after `prompt`."""
        return ToyCursor(self, prompt)

    def close(self) -> None:
        """Nothing to give back."""


class ToyCursor:
    """One sequence in a `ToyTarget`."""

    def __init__(self, target: ToyTarget, prompt: TokenIds) -> None:
        self.context = as_tokens(prompt)
        self._target = target

    @property
    def room(self) -> int | None:
        """Tokens that still fit."""
        limit = self._target.context_limit
        return None if limit is None else limit - len(self.context)

    def score(self, draft: Draft) -> ToyRows:
        """Rows that call the model when they are asked for."""
        self._target.calls += 1
        return ToyRows(self._target.row, self.context, draft)

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Append what was generated."""
        self.context = np.concatenate((self.context, verdict.tokens(draft)))

    def close(self) -> None:
        """Nothing to give back."""


class ToyRows:
    """The rows of a toy: row 0 follows the context, row i + 1 node i of the draft."""

    def __init__(self, row: Row, context: TokenIds, draft: Draft) -> None:
        self.context = context
        self._row = row
        self._draft = draft

    def logits(self, row: int) -> NDArray[Any]:
        """[V]: what the model says after `row`, numbers of whatever kind it uses."""
        path = self._draft.tokens[self._draft.path(row - 1)]
        return np.asarray(self._row((*self.context.tolist(), *path.tolist())))

    def argmax(self) -> TokenIds:
        """int32 [n + 1]: the likeliest token of every row, the lowest id of equals."""
        rows = [self.logits(row) for row in range(len(self._draft) + 1)]
        return np.array(
            [NOT_A_NUMBER if (r != r).any() else np.argmax(r) for r in rows], dtype=np.int32
        )


def hash_model(vocab_size: int = len(WORDS), *, order: int = 3, seed: int = 0) -> Row:
    """A random language model: logits [V] drawn anew for each of the last `order` tokens."""

    def row(prefix: tuple[int, ...]) -> NDArray[np.float64]:
        return np.random.default_rng([seed, *prefix[-order:]]).normal(0, 2, vocab_size)

    return row


class ToyDraftModel:
    """A `DraftModel` from a function: log-softmax of `row(context and path)`; caches nothing.

    It refuses what a real one could not do: parents that are not there, `expand` before `root`.
    """

    def __init__(self, row: Row, vocab_size: int = len(WORDS)) -> None:
        self.row, self.vocab_size = row, vocab_size
        self.end_tokens: frozenset[int] = frozenset()

    def open(self, prompt: TokenIds) -> ToyDraftSeat:
        """A seat after `prompt`."""
        return ToyDraftSeat(self.row, tuple(prompt.tolist()))


class ToyDraftSeat(DraftSeat):
    """One sequence of a ToyDraftModel. `rows` counts the nodes that were passed through it."""

    room: int | None = None
    passes: int = 0

    def __init__(self, row: Row, context: tuple[int, ...]) -> None:
        self.context, self.rows = context, 0
        self._row = row
        self._nodes: list[tuple[int, ...]] = []
        self._ready = False

    def root(self) -> NDArray[np.float32]:
        """The row after the context."""
        self.passes += not self._ready
        self._ready = True
        return self._log_row(self.context)

    def expand(self, tokens: TokenIds, parents: NDArray[np.int32]) -> NDArray[np.float32]:
        """A row after each new node."""
        if not self._ready:
            raise ValueError("expand before root: the cache does not reach the context yet")
        known = len(self._nodes)
        for token, parent in zip(tokens.tolist(), parents.tolist(), strict=True):
            if not ROOT <= parent < known:
                raise ValueError(f"parent {parent} is not one of {known} nodes of earlier calls")
            above = self.context if parent == ROOT else self._nodes[parent]
            self._nodes.append((*above, token))
        self.passes += 1
        self.rows += len(tokens)
        return np.stack([self._log_row(path) for path in self._nodes[known:]])

    def keep(self, path: NDArray[np.int32], tokens: TokenIds) -> None:
        """Move on."""
        grown = (*self.context, *tokens.tolist())
        if len(path) and self._nodes[int(path[-1])] != grown[: len(self.context) + len(path)]:
            raise ValueError("the path does not hold the first of the tokens")
        self.context, self._nodes, self._ready = grown, [], False

    def close(self) -> None:
        """Nothing to give back."""

    def _log_row(self, prefix: tuple[int, ...]) -> NDArray[np.float32]:
        row = np.asarray(self._row(prefix), dtype=np.float64)
        row -= row.max()
        return np.asarray(row - np.log(np.exp(row).sum()), dtype=np.float32)


def greedy_text(row: Row, prompt: Sequence[int], count: int) -> list[int]:
    """The `count` likeliest tokens after `prompt`, one after the other: what must come out."""
    prefix = list(prompt)
    for _ in range(count):
        prefix.append(int(np.argmax(np.asarray(row(tuple(prefix))))))
    return prefix[len(prompt) :]


class ByteTokenizer:
    """UTF-8 bytes as token ids, and one end token, which decodes to nothing."""

    vocab_size = 257
    end = 256

    def encode(self, text: str) -> list[int]:
        """The bytes of `text`."""
        return list(text.encode())

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some bytes; what is no UTF-8 becomes U+FFFD."""
        return bytes(i for i in ids if i < self.end).decode(errors="replace")
