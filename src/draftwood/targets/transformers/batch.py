"""Many sequences in one pass of a Hugging Face model, each with a tree of its own shape.

    slot 0   context .................. | t n0 n1 n2 |
    slot 1   context ..... | t n0 . . |                    t: the last committed token
    slot 2   context ............. | t . . . |             n: draft nodes   .: padding rows

A sequence owns a slot of shared buffers and begins at its row 0, so a pass writes its rows at a
place of their own for each slot, and masks by slot say who sees whom. Padding repeats the slot's
first row and is seen by nobody. A bare pass has no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import torch

from draftwood.draft import Draft, TokenIds
from draftwood.errors import InvalidDraft, InvalidOption
from draftwood.protocols import Verdict
from draftwood.targets.committed import Committed
from draftwood.targets.transformers.cache import BatchCache, SequenceCache
from draftwood.targets.transformers.lean_layer import Span
from draftwood.targets.transformers.network import Network
from draftwood.targets.transformers.rows import PassLogits, TransformersRows
from draftwood.targets.transformers.static_rows import PassShape, StaticRows
from draftwood.targets.transformers.static_slots import StaticSlots
from draftwood.targets.tree_rows import row_positions, tree_mask, within_window


class TransformersBatch:
    """Sequences of a `TransformersTarget` that share passes. Used by one thread at a time.

    size: sequences at once, at most. A new sequence's prompt is computed by itself, in passes of
    `prefill_rows`; the shared pass then has one row for each sequence and one for each draft node.
    prompt_seconds: what of the last `score` went into prompts. padded: whether a pass has as many
    rows for every sequence as for the one with the longest draft; a bare pass (`LeanPass`) on a CPU
    has none but those of the drafts, one sequence after the other, which on a GPU would be as many
    calls a layer as there are sequences. There, static shapes (`StaticPass`) round up further.

    Memory in bytes, of a model with L layers, H key-value heads of size D, numbers of b bytes and
    a vocabulary of V; with n the nodes of the largest draft and T the tokens of the longest
    sequence so far (prompt and text):

        caches     2 L H D b * size * R,  R <= max(256, 2 (T + n + 1))   held till the batch closes
        growing    2 H D b * size * R     one layer's, while its buffers double
        joining    2 L H D b * max(256, 2 * prompt)   the prompt's own cache, while it is computed
        a pass     b V * size * (n + 1)  of logits, and its activations
                   size * (n + 1) * (T + n + 1)  of masks, times b with eager attention
    """

    def __init__(self, network: Network, size: int) -> None:
        if size < 1:
            raise InvalidOption(f"a batch of {size} sequences is none; use 1 or more")
        self._lean = network.lean  # the model may lose it while sequences are here
        self._static = network.static
        self.padded = self._lean is None or self._static is not None or network.device.type != "cpu"
        self.prompt_seconds: float | None = 0.0
        self._network = network
        self._size = size
        self._seats: list[TransformersSeat] = []  # by slot
        self._cache: BatchCache | StaticSlots = (
            BatchCache(network.layers.count, size)
            if self._static is None
            else self._static.slots(size)
        )

    def open(self, prompt: TokenIds) -> TransformersSeat:
        """A seat after `prompt`; the next `score` computes the prompt.

        Raises:
            ContextTooLong: for a prompt that leaves no room for a generated token.
            InvalidTokens: for an empty prompt, or ids beyond the model's vocabulary.
            InvalidOption: where all seats are taken.
        """
        if len(self._seats) == self._size:
            raise InvalidOption(f"all {self._size} seats of the batch are taken; close one first")
        seat = TransformersSeat(self, self._network.admit(prompt), slot=len(self._seats))
        self._seats.append(seat)
        return seat

    def score(
        self, seats: Sequence[TransformersSeat], drafts: Sequence[Draft]
    ) -> list[TransformersRows]:
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
            if isinstance(self._cache, StaticSlots):
                scored, firsts = self._static_pass(self._cache)
            else:
                passed = self._padded_pass if self.padded else self._lean_pass
                scored, firsts = passed(self._cache)
        return [
            TransformersRows(scored, firsts[seat.slot], len(seat.scored), seat.context)
            for seat in seats
        ]

    def close(self) -> None:
        """Give all caches back; the batch is not used again."""
        self._seats.clear()
        if isinstance(self._cache, StaticSlots) and self._static is not None:
            self._static.give_back(self._cache)
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
            slots, sources, places = torch.tensor(moves, device=self._network.device).T
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
        if self._network.device.type == "cuda":
            torch.cuda.synchronize(self._network.device)
        return perf_counter() - start

    def _fill(self, seat: TransformersSeat) -> None:
        """Compute all of a prompt but its last token, which the shared pass takes."""
        prompt = seat.context[:-1]
        if len(prompt):
            cache = SequenceCache(self._network.layers.count)
            self._network.prefill(prompt, cache)
            self._network.forward(prompt, cache, keep=1)
            self._cache.adopt(seat.slot, cache)
        seat.filled = True

    def _static_pass(self, slots: StaticSlots) -> tuple[PassLogits, list[int]]:
        """The shared pass in a static shape, and the first row of each slot."""
        static = self._static
        assert static is not None
        contexts = [seat.context for seat in self._seats]
        drafts = [seat.scored for seat in self._seats]
        longest, past = max(map(len, drafts)), max(map(len, contexts)) - 1
        needed = PassShape.holding(len(contexts), 1 + longest, past, size=self._size)
        shape = static.shape(needed, slots)
        rows = StaticRows.of(contexts, drafts, self._network.known, shape)
        return PassLogits(static(rows, slots)), rows.firsts

    def _lean_pass(self, cache: BatchCache) -> tuple[PassLogits, list[int]]:
        """The shared pass without padding, and the first row of each slot."""
        network, lean = self._network, self._lean
        assert lean is not None
        spans, ids, positions, places, firsts = [], [], [], [], [0]
        for seat in self._seats:
            draft, past = seat.scored, seat.context_length - 1
            rows = 1 + len(draft)
            at = row_positions(draft, past, 1)
            sees = network.chain(at, past + rows)
            if not draft.is_chain:
                tree = tree_mask(draft, past, 1)
                windows = network.layers.windows.items()
                sees = {name: within_window(tree, at, window) for name, window in windows}
            spans.append(Span(seat.slot, rows, past + rows, sees))
            ids += [seat.context[-1:], network.known(draft.tokens)]
            positions.append(at)
            places.append(np.arange(past, past + rows))
            firsts.append(firsts[-1] + rows)
        slots = np.repeat(np.arange(len(spans)), [span.rows for span in spans])
        cache.begin(
            torch.from_numpy(np.concatenate(places)).to(network.device),
            max(span.end for span in spans),
            torch.from_numpy(slots).to(network.device),
        )
        logits = lean(np.concatenate(ids), np.concatenate(positions), spans, cache)
        return PassLogits(logits), firsts

    def _padded_pass(self, cache: BatchCache) -> tuple[PassLogits, list[int]]:
        """The shared pass of as many rows for each sequence, and the first row of each slot."""
        network, windows = self._network, self._network.layers.windows
        width = 1 + max(len(seat.scored) for seat in self._seats)
        pasts = np.array([seat.context_length - 1 for seat in self._seats])
        shape = (len(self._seats), width)
        ids, positions = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        keys = int(pasts.max()) + width
        visible = {name: np.zeros((*shape, keys), dtype=np.bool_) for name in windows}
        for slot, (seat, past) in enumerate(zip(self._seats, pasts.tolist(), strict=True)):
            draft, rows = seat.scored, 1 + len(seat.scored)
            ids[slot] = seat.context[-1]
            ids[slot, 1:rows] = network.known(draft.tokens)
            positions[slot] = past
            positions[slot, :rows] = row_positions(draft, past, 1)
            tree = tree_mask(draft, past, 1)
            for name, window in windows.items():
                sees = visible[name][slot]
                sees[:rows, : past + rows] = within_window(tree, positions[slot, :rows], window)
                sees[rows:] = sees[0]
        places = pasts[:, None] + np.arange(width)
        cache.begin(torch.from_numpy(places).to(network.device), keys)
        logits = network.run(ids, positions, visible, cache)
        firsts = [slot * width for slot in range(len(self._seats))]
        return PassLogits(logits.flatten(0, 1)), firsts


class TransformersSeat:
    """One sequence of a `TransformersBatch`, which scores it."""

    def __init__(self, batch: TransformersBatch, committed: Committed, *, slot: int) -> None:
        self.slot = slot
        self.filled = False
        self.moves: list[tuple[int, int]] = []  # accepted rows: where they are, where they belong
        self.draft: Draft | None = None
        self._batch = batch
        self._committed = committed

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the committed ones; None: no limit."""
        return self._committed.room

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
