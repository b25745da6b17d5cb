"""The sequences of one engine: opened, stepped together, and closed."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike

from draftwood.budget.spender import FixedBudget, Spender
from draftwood.budget.spending import Spending
from draftwood.draft import Budget, Draft, TokenIds, as_tokens
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.guarded import GuardedStream, GuardedStreams
from draftwood.index.recall_stream import RecallStream
from draftwood.protocols import Drafter, Feedback
from draftwood.sessions.arrived import Arrived
from draftwood.sessions.draft_batch import DraftBatch
from draftwood.sessions.drafter_steps import DrafterSteps
from draftwood.sessions.faults import NAMES, UNKNOWN, Faults
from draftwood.sessions.native_steps import NativeSteps
from draftwood.sessions.open_sessions import OpenSessions
from draftwood.sessions.rows import NewTokens, TokenRows, row_count, rows_of

PATIENCE, LEAP = 256, 64


class Sessions:
    """Drafts for many sequences, each under a key of the engine's (any hashable).

    drafter: any `Drafter`. vocab_size: ids are below it. context_limit: tokens of a sequence, its
    prompt included. nodes, depth: the most drafted tokens of one draft, and on one path of it
    (None: as `nodes`). spender: cuts drafts to what pays (`Spending`); None: they are not cut.
    trees: False for an engine that verifies chains only.

    `step` is called after every pass of the engine with the tokens that came. It works out from
    them how the drafts went, moves all sequences, and drafts for all. With a `RecallDrafter` (and
    no spender or a `Spending`) that is one native call, in which the GIL is released.

    Whatever a drafter or a caller does wrong costs drafts and nothing else: it is counted in
    `failures`, logged once for each kind, and never raised. A sequence that got wrong tokens, or
    whose drafter failed, goes on without drafts. A drafter that fails in three steps in a row is
    switched off (`GuardedStreams`). Only the constructor raises.

    Thread-safe: calls from several threads are served one after the other; `open` and `close` do
    their work with the drafter beside a step of another thread. Deterministic: the same calls in
    the same order give the same drafts on every platform, where the drafter is so (Recall and
    suffix trees are) and the spender does not look at the clock (`MeasuredCost` does). A child of
    fork() gets empty drafts; it makes sessions of its own.

    Raises:
        InvalidOption: a size below its limit.
    """

    def __init__(
        self,
        drafter: Drafter,
        *,
        vocab_size: int,
        context_limit: int,
        nodes: int = 16,
        depth: int | None = None,
        spender: Spender | None = None,
        trees: bool = True,
    ) -> None:
        if not 1 <= vocab_size < 2**31:
            raise InvalidOption(f"vocab_size is {vocab_size}; use the model's, 1 to 2**31 - 1")
        if not 1 <= context_limit < 2**31:
            raise InvalidOption(f"context_limit is {context_limit}; use 1 to 2**31 - 1 tokens")
        if not 0 <= nodes < 2**16:
            raise InvalidOption(f"nodes is {nodes}; use 0 to 65535, such as 16")
        if depth is not None and depth < 0:
            raise InvalidOption(f"depth is {depth}; use 0 or more, or None for as many as nodes")
        self._guards = GuardedStreams(drafter, vocab_size=vocab_size)
        self._vocab_size = vocab_size
        self._faults = Faults()
        self._open = OpenSessions(vocab_size, context_limit, self._faults)
        self._steps: NativeSteps | DrafterSteps
        budget = Budget(nodes, depth)
        self._native = type(drafter) is RecallDrafter and (
            spender is None or type(spender) is Spending
        )
        if isinstance(drafter, RecallDrafter) and self._native:
            self._steps = NativeSteps(
                drafter,
                self._open,
                self._guards,
                self._faults,
                budget=budget,
                spending=spender if isinstance(spender, Spending) else None,
                trees=trees,
            )
        else:
            self._steps = DrafterSteps(
                self._open,
                self._guards,
                self._faults,
                budget=budget,
                spender=spender or FixedBudget(budget),
                trees=trees,
                context_limit=context_limit,
            )
        self._lock = fork_lock()
        self._process = os.getpid()
        self._ended: float | None = None  # when the last step did
        self._fresh = False  # whether a sequence joined since the last step

    def __repr__(self) -> str:
        drafting = "" if self.drafting else ", switched off"
        return f"Sessions({self._guards.drafter!r}, {len(self._open.sessions)} open{drafting})"

    def open(
        self,
        key: Hashable,
        prompt: ArrayLike,
        *,
        generated: int = 0,
        namespace: str = "",
        prediction: ArrayLike | Sequence[ArrayLike] | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        """Begin a sequence that stands after `prompt`.

        generated: how many of the prompt's last tokens are output that was generated before, for a
        sequence that is recovered: they are learned as if they had been generated here. namespace:
        what is learned is drafted in it only. prediction: a likely answer, or several of them.
        drafter: for this sequence, another one than the others'; with a `RecallDrafter`, one on the
        same history. A key that is open already is ended first, as by `abandon`.
        """
        if os.getpid() != self._process:
            return
        guard: GuardedStream | None = None
        ids: TokenIds = as_tokens([])
        try:
            ids = as_tokens(prompt, vocab_size=self._vocab_size)
            if not 0 <= generated <= len(ids):
                raise InvalidOption(f"{generated} of {len(ids)} tokens were generated")
            likely = _answers(prediction, self._vocab_size)
            self._check_suits(drafter)
        except Exception:
            self._faults.blame("open with wrong arguments", traceback=True)
        else:
            prompted = len(ids) - generated
            guard = self._guards.open(ids[:prompted], namespace, likely, drafter=drafter)
            if generated:
                guard.observe(Feedback.of(Draft.empty(), ids[prompted:]))
        with self._lock:
            twice = self._open.take(key)
            stream = None if guard is None or not self._native else guard.stream
            request = stream.native if isinstance(stream, RecallStream) else None
            self._open.add(key, ids, guard, request)
            self._fresh = True
        if twice is not None:
            self._faults.blame("key opened twice")
            twice.end(learn=False)

    def step(
        self,
        keys: Sequence[Hashable],
        new_tokens: NewTokens,
        *,
        whole: bool = False,
        room: int | Sequence[int] | None = None,
        pass_seconds: float | None = None,
    ) -> DraftBatch:
        """Move the sequences past the tokens that came, and draft for them.

        keys: the sequences of the engine's next pass, each once. new_tokens: for each key what the
        target has generated since the last step that named it: lists of ints or int32 arrays, or
        `TokenRows` of a matrix, which like int32 arrays are read in place. The last token of a row
        is the target's own, the ones before it were drafted. whole: rows hold the sequences from
        their beginning instead. room: tokens that every sequence, or each, may still generate; no
        path of a draft is longer than that less one, since the target adds a token of its own. The
        context limit holds in any case. pass_seconds: what the engine's pass took; 0: not known, or
        of no use, as a prompt was computed in it, too; None: the time since the last step, left out
        where a sequence was opened in between.

        Never raises. A key that is not open, or whose row is wrong, gets an empty draft.
        """
        began = perf_counter()
        if os.getpid() != self._process:
            return DraftBatch.empty(row_count(keys))
        with self._lock:
            try:
                return self._step(list(keys), new_tokens, whole, room, pass_seconds, began)
            except Exception:
                self._faults.blame("step with wrong arguments", traceback=True)
                self._open.lose(keys)
                return DraftBatch.empty(row_count(keys))

    def close(self, key: Hashable) -> None:
        """End a sequence; what it generated stays in the drafter's history."""
        self._close(key, learn=True)

    def abandon(self, key: Hashable) -> None:
        """End a sequence and learn nothing more from it.

        A suffix tree, which learns every token at once, forgets all that the sequence generated.
        Recall shares 256 generated tokens at a time (`share`); what it has shared by then stays
        until it is overwritten or removed (`Recall.remove`, `remove_namespace`). A drafter whose
        streams have no `abandon` closes them.
        """
        self._close(key, learn=False)

    def recognize(
        self, rows: NewTokens, *, patience: int = PATIENCE, leap: int = LEAP
    ) -> list[Hashable | None]:
        """The key of the sequence that each row continues; None where there is none.

        For engines that give no keys. rows: whole texts, as lists, int32 arrays or `TokenRows`
        without starts. A row continues a sequence whose text it begins with, token for token, and
        to which it adds at most `leap` tokens; more are taken for the next turn of a conversation.
        Rows may move, stay away for some steps and come back. No sequence is found for two rows:
        of several that fit, a row keeps the one it had, unless another is longer. A sequence that
        was not found for more than `patience` calls is closed.

        A row at the place where its sequence was found the last time costs a comparison of its
        memory; of texts above 6144 tokens the first and last 2048 tokens are compared and as many
        in between, further on with every call. A row that moved is compared as a whole.
        """
        if os.getpid() != self._process:
            return [None] * row_count(rows)
        with self._lock:
            try:
                table = self._open.table
                if isinstance(rows, TokenRows):
                    ends = np.ascontiguousarray(rows.ends, np.int64)
                    found, missed = table.recognize_matrix(rows.tokens, ends, leap, patience)
                else:
                    found, missed = table.recognize(list(rows), leap, patience)
                keys = [self._open.key_of(slot) for slot in found]
                gone = [self._open.take(self._open.key_of(slot)) for slot in missed]
            except Exception:
                self._faults.blame("recognize", traceback=True)
                return [None] * row_count(rows)
        for session in gone:
            if session is not None:
                session.end(learn=True)
        return keys

    def length(self, key: Hashable) -> int:
        """Tokens of a sequence so far, its prompt included; 0 for a key that is not open."""
        with self._lock:
            slot = self._open.slots.get(key)
            return 0 if slot is None else self._open.table.length(slot)

    def __len__(self) -> int:
        return len(self._open.sessions)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._open.sessions

    @property
    def failures(self) -> Mapping[str, int]:
        """How often each kind of thing went wrong.

        "drafter": its calls that raised, and drafts that were not fit to be verified. "draft too
        long": drafts with more nodes or longer paths than were asked for, which were cut.
        """
        guards = self._guards
        found = {"drafter": guards.failures, "draft too long": guards.cuts}
        return dict(self._faults.counts) | {kind: times for kind, times in found.items() if times}

    @property
    def drafting(self) -> bool:
        """Whether the drafter is on; False after it has failed too often."""
        return not self._guards.off

    @property
    def drafted(self) -> int:
        """Tokens drafted so far."""
        return self._open.table.drafted

    @property
    def accepted(self) -> int:
        """Drafted tokens that came true so far; the target's own token of a step does not count."""
        return self._open.table.accepted

    def _step(
        self,
        keys: list[Hashable],
        new_tokens: NewTokens,
        whole: bool,
        room: int | Sequence[int] | None,
        pass_seconds: float | None,
        began: float,
    ) -> DraftBatch:
        count = len(keys)
        if self._guards.off or not count:
            return DraftBatch.empty(count)
        known = self._open.slots
        try:
            slots = [known.get(key, -1) for key in keys]
        except TypeError:  # a key that cannot be one: unknown like others
            keys = [key if isinstance(key, Hashable) else object() for key in keys]
            slots = [known.get(key, -1) for key in keys]
        rooms = [] if room is None else [room] * count if isinstance(room, int) else list(room)
        rows = rows_of(new_tokens, whole, count)
        seconds = pass_seconds
        if seconds is None and self._ended is not None and not self._fresh:
            seconds = began - self._ended
        if seconds is not None and not seconds > 0.0:
            seconds = None
        self._fresh = False
        try:
            drafts = self._steps.step(Arrived(keys, slots, rows, rooms, seconds, began))
        finally:
            self._open.left.clear()
        self._ended = perf_counter()
        return drafts

    def _check_suits(self, drafter: Drafter | None) -> None:
        """Raise unless a sequence's own drafter can be asked together with the others'."""
        own = self._guards.drafter
        if drafter is None or not self._native or not isinstance(own, RecallDrafter):
            return
        if type(drafter) is not RecallDrafter or drafter.recall is not own.recall:
            raise InvalidOption(f"{drafter!r} is not on the history of {own!r}; use one that is")

    def _close(self, key: Hashable, *, learn: bool) -> None:
        if os.getpid() != self._process:
            return
        try:
            with self._lock:
                session = self._open.take(key)
        except TypeError:  # no key at all
            session = None
        if session is None:
            self._faults.blame(NAMES[UNKNOWN])
        else:
            session.end(learn=learn)


def _answers(prediction: ArrayLike | Sequence[ArrayLike] | None, vocab_size: int) -> list[TokenIds]:
    """One answer or several as token arrays."""
    if prediction is None:
        return []
    several = isinstance(prediction, (list, tuple)) and len(prediction) > 0
    if several and not isinstance(prediction[0], (int, np.integer)):  # type: ignore[index]
        answers = [as_tokens(each, vocab_size=vocab_size) for each in prediction]  # type: ignore[union-attr]
    else:
        answers = [as_tokens(prediction, vocab_size=vocab_size)]  # type: ignore[arg-type]
    return [answer for answer in answers if len(answer)]
