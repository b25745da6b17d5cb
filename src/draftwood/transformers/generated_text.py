"""One row of a call while it is generated: the verifier that applies what `generate` prepared."""

from __future__ import annotations

import numpy as np
import torch

from draftwood.draft import ROOT, Draft, TokenIds
from draftwood.errors import UnusableLogits
from draftwood.protocols import NOT_A_NUMBER, Rows, Verdict
from draftwood.targets.transformers.rows import TransformersRows
from draftwood.transformers.prepared import Prepared


class GeneratedText:
    """Chooses the tokens of one row by transformers' processors, and asks its stopping criteria.

    It visits the rows of exactly those tokens that are generated, in their order, as plain
    `generate` does: processors with a state of their own and torch's random numbers go as there.

    prepared: what the call's rows share. row: which of them. ids: its token ids [L], padding
    included, which processors and criteria see. tokens: generated so far. stopped: how many tokens
    there were when a criterion first held; None: it has not. done: whether generation has ended.
    scores, logits: [1, V] for each token, where the call returns them.
    """

    lossless = True

    def __init__(self, prepared: Prepared, row: int, ids: torch.Tensor) -> None:
        self.tokens: list[int] = []
        self.stopped: int | None = None
        self.done = False
        self.scores: list[torch.Tensor] = []
        self.logits: list[torch.Tensor] = []
        self._prepared = prepared
        self._row = row
        self._ids = ids[None]
        keeps = prepared.keep_scores or prepared.keep_logits
        self._by_argmax = not (prepared.sample or len(prepared.processors) or keeps)

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The path of tokens that `generate` would have chosen, and the one after it.

        Raises:
            UnusableLogits: for a row of NaN.
        """
        children: dict[tuple[int, int], int] = {}
        edges = zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)
        for node, edge in enumerate(edges):
            children.setdefault(edge, node)
        path: list[int] = []
        at = ROOT
        while not self.done:
            token = self._choose(rows, at + 1)
            self._append(token)
            child = children.get((at, token))
            if child is None:
                return Verdict(np.array(path, dtype=np.int32), token)
            path.append(child)
            at = child
        return Verdict(np.array(path, dtype=np.int32), None)

    def ends(self, tokens: TokenIds) -> int | None:
        """A rule of `Stop`: generation ends once it is done, with all of a step's tokens."""
        return len(tokens) if self.done else None

    def _choose(self, rows: Rows, row: int) -> int:
        if self._by_argmax:
            token = int(rows.argmax()[row])
            if token == NOT_A_NUMBER:
                raise UnusableLogits.after(self._ids.shape[1])
            return token
        prepared = self._prepared
        if not isinstance(rows, TransformersRows):
            raise TypeError(f"rows of a transformers model are due, not {type(rows).__name__}")
        logits = rows.tensor(row).to(self._ids.device)[None]
        scores = prepared.processors(self._batched(self._ids), self._batched(logits))
        scores = scores[self._row : self._row + 1] if prepared.batch > 1 else scores
        if prepared.keep_scores:
            self.scores.append(scores)
        if prepared.keep_logits:
            self.logits.append(logits)
        if prepared.sample:
            return prepared.draws.pick(len(self.tokens), self._row, scores)
        return int(scores.argmax(dim=-1))

    def _append(self, token: int) -> None:
        """One token more; whether generation ends with it."""
        prepared = self._prepared
        self.tokens.append(token)
        self._ids = torch.cat([self._ids, self._ids.new_full((1, 1), token)], dim=-1)
        if self.stopped is None:
            scores = tuple(self.scores) if prepared.keep_scores else None
            held = prepared.criteria(self._batched(self._ids), scores)
            if bool(held[self._row if prepared.batch > 1 else 0]):
                self.stopped = len(self.tokens)
        # without an end token `generate` pads nothing: a row goes on until all have stopped
        ended = self.stopped is not None and prepared.pads
        self.done = ended or len(self.tokens) >= prepared.most

    def _batched(self, tensor: torch.Tensor) -> torch.Tensor:
        """[B, n]: the row as a batch of the call's size, for which processors were made."""
        count = self._prepared.batch
        return tensor.repeat(count, 1) if count > 1 else tensor
