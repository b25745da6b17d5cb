"""Many sequences in one pass of a Hugging Face model, each with a tree of its own shape.

    slot 0   context .................. | t n0 n1 n2 |
    slot 1   context ..... | t n0 . . |                    t: the last committed token
    slot 2   context ............. | t . . . |             n: draft nodes   .: padding rows

A sequence owns a slot of shared buffers and begins at its row 0, so a pass writes its rows at a
place of their own for each slot, and masks by slot say who sees whom. Padding repeats the slot's
first row and is seen by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from draftwood.draft import Draft, TokenIds
from draftwood.errors import InvalidDraft, InvalidOption
from draftwood.protocols import Rows, Top, Verdict
from draftwood.targets.committed import Committed
from draftwood.targets.transformers.cache import BatchCache, SequenceCache
from draftwood.targets.transformers.rows import likeliest, most_likely
from draftwood.targets.tree_rows import row_positions, tree_mask

if TYPE_CHECKING:
    from draftwood.targets.transformers.target import TransformersTarget


class TransformersBatch:
    """Sequences of a `TransformersTarget` that share passes. Used by one thread at a time.

    size: sequences at once, at most. A new sequence's prompt is computed by itself, in passes of
    `prefill_rows`; the shared pass then has one row for each sequence and one for each draft node.
    prompt_seconds: what of the last `score` went into prompts.

    Memory in bytes, of a model with L layers, H key-value heads of size D, numbers of b bytes and
    a vocabulary of V; with n the nodes of the largest draft and T the tokens of the longest
    sequence so far (prompt and text):

        caches     2 L H D b * size * R,  R <= max(256, 2 (T + n + 1))   held till the batch closes
        growing    2 H D b * size * R     one layer's, while its buffers double
        joining    2 L H D b * max(256, 2 * prompt)   the prompt's own cache, while it is computed
        a pass     b V * size * (n + 1)  of logits, and its activations
                   size * (n + 1) * (T + n + 1)  of masks, times b with eager attention
    """

    padded = True
    """A pass has as many rows for every sequence as for the one with the longest draft."""

    def __init__(self, target: TransformersTarget, size: int) -> None:
        if size < 1:
            raise InvalidOption(f"a batch of {size} sequences is none; use 1 or more")
        self.prompt_seconds: float | None = 0.0
        self._target = target
        self._size = size
        self._seats: list[TransformersSeat] = []  # by slot
        self._cache = BatchCache(target.layers.count, size)

    def open(self, prompt: TokenIds) -> TransformersSeat:
        """A seat behind `prompt`; the next `score` computes the prompt.

        Raises:
            ContextTooLong: for a prompt that leaves no room for a generated token.
            InvalidTokens: for an empty prompt, or ids beyond the model's vocabulary.
            InvalidOption: where all seats are taken.
        """
        if len(self._seats) == self._size:
            raise InvalidOption(f"all {self._size} seats of the batch are taken; close one first")
        prompt, limit = self._target.admit(prompt)
        seat = TransformersSeat(self, prompt, limit, slot=len(self._seats))
        self._seats.append(seat)
        return seat

    def score(self, seats: Sequence[TransformersSeat], drafts: Sequence[Draft]) -> list[Rows]:
        """One pass over a draft for every open seat; the rows come in the order of `seats`.

        Raises:
            InvalidDraft: where an open seat has no draft; the empty one is a plain step.
        """
        if {id(seat) for seat in seats} != {id(seat) for seat in self._seats} or not (
            len(seats) == len(drafts) == len(self._seats)
        ):
            raise InvalidDraft(
                f"{len(drafts)} drafts for {len(self._seats)} open sequences; give one for each, "
                "the empty draft where there is none"
            )
        for seat, draft in zip(seats, drafts, strict=True):
            seat.draft = draft
        with torch.inference_mode():
            self._settle()
            self.prompt_seconds = self._fill_all()
            scored = PassLogits(self._pass())
        return [BatchRows(scored, seat.slot, len(seat.scored), seat.context) for seat in seats]

    def close(self) -> None:
        """Give all caches back; the batch is not used again."""
        self._seats.clear()
        self._cache = BatchCache(0, 0)

    def leave(self, seat: TransformersSeat) -> None:
        """Give the seat's slot to the last sequence, so that slots in use stay together."""
        if self._seats[seat.slot : seat.slot + 1] != [seat]:
            return  # closed before, or with the batch
        last = self._seats[-1]
        if last is not seat:
            with torch.inference_mode():
                self._settle()
                if last.filled and last.context_length > 1:
                    self._cache.copy(last.slot, seat.slot, last.context_length - 1)
            self._seats[seat.slot], last.slot = last, seat.slot
        self._seats.pop()

    def nbytes(self) -> int:
        """Bytes of all buffers, free rows and slots included."""
        return self._cache.nbytes()

    def _settle(self) -> None:
        """Bring accepted rows to their places, those of all sequences at once."""
        moves = [(seat.slot, *move) for seat in self._seats for move in seat.moves]
        if moves:
            slots, sources, places = torch.tensor(moves, device=self._target.device).T
            self._cache.move(slots, sources, places)
            for seat in self._seats:
                seat.moves.clear()

    def _fill_all(self) -> float:
        """Compute the prompts of those that joined; the seconds that it took."""
        joined = [seat for seat in self._seats if not seat.filled]
        if not joined:
            return 0.0
        start = perf_counter()
        for seat in joined:
            self._fill(seat)
        if self._target.device.type == "cuda":
            torch.cuda.synchronize(self._target.device)
        return perf_counter() - start

    def _fill(self, seat: TransformersSeat) -> None:
        """Compute all of a prompt but its last token, which the shared pass takes."""
        prompt = seat.context[:-1]
        if len(prompt):
            cache = SequenceCache(self._target.layers.count)
            self._target.prefill(prompt, cache)
            self._target.forward(prompt[cache.length :], cache, keep=1)
            self._cache.adopt(seat.slot, cache)
        seat.filled = True

    def _pass(self) -> torch.Tensor:
        """The shared pass: logits [sequences, rows, V]."""
        target, windows = self._target, self._target.layers.windows
        width = 1 + max(len(seat.scored) for seat in self._seats)
        pasts = np.array([seat.context_length - 1 for seat in self._seats])
        shape = (len(self._seats), width)
        ids, positions = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        keys = int(pasts.max()) + width
        visible = {name: np.zeros((*shape, keys), dtype=np.bool_) for name in windows}
        for slot, (seat, past) in enumerate(zip(self._seats, pasts.tolist(), strict=True)):
            draft, rows = seat.scored, 1 + len(seat.scored)
            ids[slot] = seat.context[-1]
            ids[slot, 1:rows] = target.known(draft.tokens)
            positions[slot] = past
            positions[slot, :rows] = row_positions(draft, past, 1)
            for name, window in windows.items():
                sees = visible[name][slot]
                sees[:rows, : past + rows] = tree_mask(draft, past, 1, window=window)
                sees[rows:] = sees[0]
        places = pasts[:, None] + np.arange(width)
        self._cache.begin(torch.from_numpy(places).to(target.device), keys)
        logits: torch.Tensor = target.model(
            input_ids=torch.from_numpy(ids).to(target.device),
            position_ids=torch.from_numpy(positions).to(target.device),
            attention_mask=target.masks(visible),
            past_key_values=self._cache,
            use_cache=True,
        ).logits
        return logits


class TransformersSeat:
    """One sequence of a `TransformersBatch`, which scores it."""

    def __init__(
        self, batch: TransformersBatch, prompt: TokenIds, limit: int | None, *, slot: int
    ) -> None:
        self.slot = slot
        self.filled = False
        self.moves: list[tuple[int, int]] = []  # accepted rows: where they are, where they belong
        self.draft: Draft | None = None
        self._batch = batch
        self._limit = limit
        self._committed = Committed(prompt)

    @property
    def room(self) -> int | None:
        """Tokens that still fit behind the committed ones; None: no limit."""
        return None if self._limit is None else self._limit - self._committed.count

    @property
    def context(self) -> TokenIds:
        """The committed tokens; a view that is valid until the next commit."""
        return self._committed.tokens

    @property
    def context_length(self) -> int:
        """How many tokens are committed; all but the last are in the cache."""
        return self._committed.count

    @property
    def scored(self) -> Draft:
        """The draft scored last."""
        return Draft.empty() if self.draft is None else self.draft

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path and the next token; forget the rest of the scored draft.

        Raises:
            InvalidDraft: for another draft than the one scored last.
        """
        if draft is not self.draft:
            raise InvalidDraft("the draft to commit is not the one scored last; score it first")
        self.draft = None
        first = self._committed.count
        self.moves = [
            (first + node, first + at) for at, node in enumerate(verdict.path.tolist()) if node > at
        ]
        self._committed.append(verdict.tokens(draft))

    def close(self) -> None:
        """Leave the batch; the seat is not used again."""
        self._batch.leave(self)


class PassLogits:
    """The logits of a shared pass, on the model's device until they are asked for."""

    __slots__ = ("_best", "logits")

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self._best: TokenIds | None = None

    def argmax(self) -> TokenIds:
        """int32 [sequences, rows]: the most likely tokens, in one call on the device."""
        if self._best is None:
            self._best = most_likely(self.logits)
        return self._best


class BatchRows:
    """One sequence's rows of a shared pass."""

    __slots__ = ("_context", "_nodes", "_scored", "_slot")

    def __init__(self, scored: PassLogits, slot: int, nodes: int, context: TokenIds) -> None:
        self._scored = scored
        self._slot = slot
        self._nodes = nodes
        self._context = context

    @property
    def context(self) -> TokenIds:
        """The committed tokens, which row 0 follows. Borrowed: valid until the next commit."""
        return self._context

    def argmax(self) -> TokenIds:
        """int32 [n + 1]: the most likely next token of every row; ties go to the lowest id."""
        return self._scored.argmax()[self._slot, : self._nodes + 1]

    def logits(self, row: int) -> NDArray[np.float32]:
        """float32 [V]: the logits after `row`; read-only in effect (it may share memory)."""
        if not 0 <= row <= self._nodes:
            raise IndexError(f"row {row} of a draft of {self._nodes} nodes")
        logits = self._scored.logits[self._slot, row]
        numbers: NDArray[np.float32] = logits.to("cpu", torch.float32).numpy()
        return numbers

    def top(self, k: int) -> Top:
        """The k likeliest tokens of every row, in one call on the device."""
        return likeliest(self._scored.logits[self._slot, : self._nodes + 1], k)


class Accompanied:
    """For probes: a target whose every sequence shares its passes with a longer and a shorter."""

    trees = True

    def __init__(self, target: TransformersTarget) -> None:
        self._target = target

    def open(self, prompt: TokenIds) -> AccompaniedCursor:
        """A cursor behind `prompt`, and two others."""
        return AccompaniedCursor(TransformersBatch(self._target, 3), prompt)

    def close(self) -> None:
        """Nothing to give back: each cursor has a batch of its own."""


class AccompaniedCursor:
    """A seat of a small batch as a cursor; the longer neighbor leaves when this one commits."""

    def __init__(self, batch: TransformersBatch, prompt: TokenIds) -> None:
        self._batch = batch
        self._longer = batch.open(np.concatenate((prompt, prompt)))
        self._shorter = batch.open(prompt[:1])
        self._own = batch.open(prompt)
        self._seats: list[Any] = [self._longer, self._shorter, self._own]

    @property
    def room(self) -> int | None:
        """Tokens that still fit."""
        return self._own.room

    def score(self, draft: Draft) -> Rows:
        """A pass over the draft and two others."""
        others = [Draft.chain(self._own.context[:2]), Draft.empty()][-len(self._seats) + 1 :]
        return self._batch.score(self._seats, [*others, draft])[-1]

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path."""
        self._own.commit(draft, verdict)
        if len(self._seats) == 3 and len(draft):
            self._seats.pop(0).close()

    def close(self) -> None:
        """Give the caches back."""
        self._batch.close()
