"""Drafting for sequences that somebody else decodes: what an engine or a server holds.

sessions = Sessions(RecallDrafter(), vocab_size=32_000, context_limit=8_192, nodes=16)
sessions.open(request_id, prompt_ids)
drafts = sessions.step([request_id], [new_ids])      # after every pass of the engine
sessions.close(request_id)

docs/engines.md says how to plug it in, point by point.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from draftwood import _native
from draftwood.budget.spender import FixedBudget, Spender, Spent
from draftwood.budget.spending import Pass, Spending
from draftwood.draft import ROOT, Budget, Draft, TokenIds, as_tokens
from draftwood.draft_batch import DraftBatch
from draftwood.drafters.recall import RecallDrafter, RecallDraftStream
from draftwood.errors import InvalidDraft, InvalidOption
from draftwood.fork import fork_lock
from draftwood.guarded import Guarded, GuardedBatch, usable
from draftwood.protocols import Drafter, Feedback

log = logging.getLogger(__name__)

PATIENCE, LEAP = 256, 64
_FAULTS = (
    "",
    "unknown key",
    "key twice in a step",
    "tokens are no ids of the vocabulary",
    "row shorter than its sequence",
    "drafted ids outside the vocabulary",
)
"""What native faults are called; see StepFault in native/include/draftwood/sequences.h."""
_UNKNOWN, _TWICE, _DRAFTED = 1, 2, 5


@dataclass(frozen=True, slots=True, eq=False)
class TokenRows:
    """New tokens where the engine keeps them: rows of one matrix, read in place.

    tokens: int32 [rows, width]; row i belongs to key i. ends: integers [rows], how many tokens of a
    row are valid. starts: integers [rows], where the new ones begin; None: at the length that each
    sequence has, so that rows hold whole texts.
    """

    tokens: TokenIds
    ends: ArrayLike
    starts: ArrayLike | None = None


NewTokens: TypeAlias = Sequence[ArrayLike] | TokenRows


class _Session:
    """An open sequence. guard: its stream; None: it never had one. draft: handed out last."""

    __slots__ = ("draft", "guard", "key", "slot")

    def __init__(self, key: Hashable, slot: int, guard: Guarded | None) -> None:
        self.key = key
        self.slot = slot
        self.guard = guard
        self.draft = Draft.empty()

    @property
    def drafts(self) -> bool:
        return self.guard is not None and self.guard.stream is not None


@dataclass(frozen=True, slots=True)
class _LastStep:
    """What the last step handed out, until it is known what the pass brought."""

    keys: list[Hashable]
    nodes: int
    asked: bool
    context: int
    total: int
    draft_seconds: float
    ended: float
    drafts: Sequence[Draft] = ()


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
    switched off (`GuardedBatch`). Only the constructor raises.

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
        self._guards = GuardedBatch(drafter, vocab_size=vocab_size)
        self._vocab_size = vocab_size
        self._context_limit = context_limit
        self._trees = trees
        self._budget = Budget(nodes, depth)
        self._spender: Spender = spender or FixedBudget(self._budget)
        self._recall: RecallDrafter | None = None
        if type(drafter) is RecallDrafter and (spender is None or type(spender) is Spending):
            self._recall = drafter
        self._spending = spender if isinstance(spender, Spending) else None
        self._table = _native.Sequences(vocab_size, context_limit)
        self._sessions: dict[Hashable, _Session] = {}
        self._slots: dict[Hashable, int] = {}
        self._keys: dict[int, Hashable] = {}
        self._lock = fork_lock()
        self._process = os.getpid()
        self._last: _LastStep | None = None
        self._fresh = False  # whether a sequence joined since the last step
        self._left: set[Hashable] = set()  # keys of sequences that have ended since
        self._failures: Counter[str] = Counter()

    def open(
        self,
        key: Hashable,
        prompt: ArrayLike,
        *,
        generated: int = 0,
        namespace: str = "",
        prediction: ArrayLike | Sequence[ArrayLike] | None = None,
    ) -> None:
        """Begin a sequence that stands after `prompt`.

        generated: how many of the prompt's last tokens are output that was generated before, for a
        sequence that is recovered: they are learned as if they had been generated here. namespace:
        what is learned is drafted in it only. prediction: a likely answer, or several of them. A
        key that is open already is ended first, as by `abandon`.
        """
        if os.getpid() != self._process:
            return
        guard: Guarded | None = None
        ids: TokenIds = as_tokens([])
        try:
            ids = as_tokens(prompt, vocab_size=self._vocab_size)
            if not 0 <= generated <= len(ids):
                raise InvalidOption(f"{generated} of {len(ids)} tokens were generated")
            likely = _answers(prediction, self._vocab_size)
        except Exception:
            self._blame("open with a wrong prompt", traceback=True)
        else:
            prompted = len(ids) - generated
            guard = self._guards.open(ids[:prompted], namespace, likely)
            if generated:
                guard.observe(Feedback.of(Draft.empty(), ids[prompted:]))
        with self._lock:
            twice = self._take(key)
            request = None
            stream = None if guard is None or self._recall is None else guard.stream
            if isinstance(stream, RecallDraftStream):
                request = stream.stream.native
            slot = self._table.open(ids, request)
            self._sessions[key] = _Session(key, slot, guard)
            self._slots[key] = slot
            self._keys[slot] = key
            self._fresh = True
        if twice is not None:
            self._blame("key opened twice")
            self._end(twice, learn=False)

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
        context limit holds in any case. pass_seconds: what the engine's pass took; None: the time
        since the last step, left out where a sequence was opened in between.

        Never raises. A key that is not open, or whose row is wrong, gets an empty draft.
        """
        began = perf_counter()
        if os.getpid() != self._process:
            return DraftBatch.empty(_size(keys))
        with self._lock:
            try:
                return self._step(list(keys), new_tokens, whole, room, pass_seconds, began)
            except Exception:
                self._blame("step with wrong arguments", traceback=True)
                self._lose(keys)
                return DraftBatch.empty(_size(keys))

    def close(self, key: Hashable) -> None:
        """End a sequence; what it generated stays in the drafter's history."""
        self._close(key, learn=True)

    def abandon(self, key: Hashable) -> None:
        """End a sequence and learn nothing more from it.

        What it has shared before (Recall shares every 256 generated tokens) stays shared.
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
            return [None] * _size(rows)
        with self._lock:
            try:
                if isinstance(rows, TokenRows):
                    ends = np.ascontiguousarray(rows.ends, np.int64)
                    found, missed = self._table.recognize_matrix(rows.tokens, ends, leap, patience)
                else:
                    found, missed = self._table.recognize(list(rows), leap, patience)
                keys = [self._keys.get(slot) for slot in found]
                gone = [self._take(self._keys[slot]) for slot in missed]
            except Exception:
                self._blame("recognize", traceback=True)
                return [None] * _size(rows)
        for session in gone:
            if session is not None:
                self._end(session, learn=True)
        return keys

    def length(self, key: Hashable) -> int:
        """Tokens of a sequence so far, its prompt included; 0 for a key that is not open."""
        with self._lock:
            slot = self._slots.get(key)
            return 0 if slot is None else self._table.length(slot)

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._sessions

    @property
    def failures(self) -> Mapping[str, int]:
        """How often each kind of thing went wrong; "drafter": its calls, and drafts not fit."""
        failed = self._guards.failures
        return dict(self._failures) | ({"drafter": failed} if failed else {})

    @property
    def drafting(self) -> bool:
        """Whether the drafter is on; False after it has failed too often."""
        return not self._guards.off

    @property
    def drafted(self) -> int:
        """Tokens drafted so far."""
        return self._table.drafted

    @property
    def accepted(self) -> int:
        """Drafted tokens that came true so far; the target's own token of a step does not count."""
        return self._table.accepted

    # One step

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
        try:
            slots = [self._slots.get(key, -1) for key in keys]
        except TypeError:  # a key that cannot be one: unknown like others
            keys = [key if isinstance(key, Hashable) else object() for key in keys]
            slots = [self._slots.get(key, -1) for key in keys]
        rooms = [] if room is None else [room] * count if isinstance(room, int) else list(room)
        rows = (
            _Matrix(new_tokens, whole, count)
            if isinstance(new_tokens, TokenRows)
            else _Lists(list(new_tokens), whole)
        )
        last = self._last
        seconds = pass_seconds
        if seconds is None and last is not None and not self._fresh:
            seconds = began - last.ended
        self._fresh = False
        try:
            if self._recall is not None:
                return self._step_recall(self._recall, keys, slots, rows, rooms, seconds, began)
            return self._step_any(keys, slots, rows, rooms, seconds, began)
        finally:
            self._left.clear()

    def _step_recall(
        self,
        drafter: RecallDrafter,
        keys: list[Hashable],
        slots: list[int],
        rows: _Lists | _Matrix,
        rooms: list[int],
        seconds: float | None,
        began: float,
    ) -> DraftBatch:
        """Observe, propose and cut in one native call."""
        table, spending, budget = self._table, self._spending, self._budget
        rises = weights = None
        nodes, reach, floor = min(budget.nodes, drafter.nodes), budget.reach, 0.0
        if spending is not None:
            try:
                self._settle(spending, keys, slots, rows, seconds)
                plan = spending.plan(len(keys), table.longest)
                nodes, reach, floor = min(nodes, plan.nodes), min(reach, plan.reach), plan.floor
                if nodes:
                    price = spending.price(len(keys), table.longest, nodes)
                    rises, weights = price.rises, price.weights
            except Exception:  # of a cost that is not ours
                self._drop_spender()
        *flat, _, faults = rows.step(
            table,
            slots,
            rooms,
            nodes,
            reach,
            floor,
            not self._trees,
            drafter.threads,
            rises,
            weights,
        )
        drafts = DraftBatch(*flat)
        if faults is not None:
            self._settle_faults(keys, faults)
        self._guards.settle()
        if spending is not None:
            ended = perf_counter()
            self._last = _LastStep(
                keys,
                len(drafts.tokens),
                nodes > 0,
                table.longest,
                table.total,
                ended - began,
                ended,
            )
        return drafts

    def _settle(
        self,
        spending: Spending,
        keys: list[Hashable],
        slots: list[int],
        rows: _Lists | _Matrix,
        seconds: float | None,
    ) -> None:
        """Tell the spender what the pass since the last step brought."""
        last = self._last
        if last is None:
            return
        try:
            if keys == last.keys and not self._left:
                came, count = rows.came(last.total), len(keys)
            else:
                known = set(last.keys) - self._left
                each = [
                    rows.came_to(at, self._table.length(slot))
                    for at, (key, slot) in enumerate(zip(keys, slots, strict=True))
                    if key in known
                ]
                came, count = sum(each), len(each)
        except (TypeError, IndexError):  # rows that are none; the step itself finds them out
            return
        if came < count or not count:  # not one token for each: no pass that can be entered
            return
        spending.settle(
            Pass(
                batch=len(last.keys),
                drafted=last.nodes,
                tokens=came / count,
                context=last.context,
                asked=last.asked,
                draft_seconds=last.draft_seconds,
                seconds=seconds,
            )
        )

    def _step_any(
        self,
        keys: list[Hashable],
        slots: list[int],
        rows: _Lists | _Matrix,
        rooms: list[int],
        seconds: float | None,
        began: float,
    ) -> DraftBatch:
        """The same with any drafter: the texts move natively, drafts are objects."""
        table, budget = self._table, self._budget
        *_, last_tokens, came, faults = rows.step(
            table, slots, rooms, 0, 0, 0.0, False, 1, None, None
        )
        sessions: list[_Session | None] = [self._sessions.get(key) for key in keys]
        if faults is not None:
            self._settle_faults(keys, faults)
            sessions = [
                None if fault else session for fault, session in zip(faults, sessions, strict=True)
            ]
        told: list[tuple[_Session, Feedback]] = []
        accepted = {}
        for session, count in zip(sessions, came.tolist(), strict=True):
            if session is None or not count:
                continue
            feedback = Feedback.of(session.draft, table.end(session.slot, count))
            accepted[session.key] = min(len(feedback.verdict.path), count - 1)
            session.draft = Draft.empty()
            told.append((session, feedback))
        guarded = [(each.guard, feedback) for each, feedback in told if each.guard is not None]
        self._guards.observe([guard for guard, _ in guarded], [said for _, said in guarded])
        context = table.longest
        try:
            self._tell_spender(accepted, seconds)
            plan = self._spender.plan(len(keys), context)
        except Exception:
            self._drop_spender()
            plan = budget
        nodes, reach = min(budget.nodes, plan.nodes), min(budget.reach, plan.reach)
        asked: list[Guarded] = []
        budgets: list[Budget] = []
        places: list[int] = []
        for at, session in enumerate(sessions):
            if session is None or not session.drafts or not reach:
                continue
            room = self._context_limit - table.length(session.slot)
            room = min(room, rooms[at]) if rooms else room
            if room > 1 and session.guard is not None:
                asked.append(session.guard)
                budgets.append(Budget(nodes, min(reach, room - 1), plan.floor))
                places.append(at)
        drafts = [Draft.empty()] * len(keys)
        proposed = zip(places, asked, self._guards.propose(asked, budgets), strict=True)
        for at, guard, draft in proposed:
            try:
                _require_tree(draft)
            except InvalidDraft:
                guard.failed("propose")
            else:
                drafts[at] = draft if self._trees or draft.is_chain else draft.to_chain()
        try:
            spent = self._spender.spend(drafts, context)
            drafts = [usable(spent[at], Budget(len(draft))) for at, draft in enumerate(drafts)]
        except Exception:
            self._drop_spender()
        for session, draft in zip(sessions, drafts, strict=True):
            if session is not None:
                session.draft = draft
        table.hand_out(sum(map(len, drafts)), sum(accepted.values()))
        ended = perf_counter()
        self._last = _LastStep(
            keys, sum(map(len, drafts)), nodes > 0, context, 0, ended - began, ended, drafts
        )
        return DraftBatch.of(drafts, last_tokens)

    def _tell_spender(self, accepted: Mapping[Hashable, int], seconds: float | None) -> None:
        last = self._last
        known = [] if last is None else [key for key in last.keys if key in accepted]
        known = [key for key in known if key not in self._left]
        if last is None or not known:
            return
        # A sequence that has ended is taken to have done as the others did.
        mean = round(sum(accepted[key] for key in known) / len(known))
        self._spender.observe(
            Spent(
                asked=last.asked,
                drafts=last.drafts,
                accepted=[accepted[key] if key in known else mean for key in last.keys],
                context=last.context,
                padded=False,
                draft_seconds=last.draft_seconds,
                pass_seconds=seconds,
            )
        )

    def _drop_spender(self) -> None:
        """To be called where a spender's exception is handled: drafts are not cut from now on."""
        self._blame("spender", traceback=True)
        self._spender = FixedBudget(self._budget)
        self._spending = None

    # The drafter and its streams

    def _drop(self, session: _Session, *, failed: bool = False) -> None:
        """The sequence goes on without drafts; failed: as its drafter is to blame."""
        self._table.mute(session.slot)
        session.draft = Draft.empty()
        if failed and session.guard is not None:
            session.guard.failed("propose")
        else:
            self._end(session, learn=False)

    def _lose(self, keys: Any) -> None:
        """Of a step that could not be made: whatever its tokens were, these did not get them."""
        try:
            for key in keys:
                session = self._sessions.get(key)
                if session is not None:
                    self._drop(session)
        except TypeError:  # no keys at all
            return

    def _take(self, key: Hashable) -> _Session | None:
        """Remove a session from the tables."""
        session = self._sessions.pop(key, None)
        if session is not None:
            del self._slots[key]
            self._left.add(key)
            del self._keys[session.slot]
            self._table.close(session.slot)
        return session

    def _close(self, key: Hashable, *, learn: bool) -> None:
        if os.getpid() != self._process:
            return
        try:
            with self._lock:
                session = self._take(key)
        except TypeError:  # no key at all
            session = None
        if session is None:
            self._blame(_FAULTS[_UNKNOWN])
        else:
            self._end(session, learn=learn)

    def _end(self, session: _Session, *, learn: bool) -> None:
        guard = session.guard
        if guard is not None:
            guard.close() if learn else guard.abandon()

    # What goes wrong

    def _settle_faults(self, keys: Sequence[Hashable], faults: Sequence[int]) -> None:
        for key, fault in zip(keys, faults, strict=True):
            if not fault:
                continue
            if fault == _DRAFTED:
                self._drop(self._sessions[key], failed=True)
                continue
            self._blame(_FAULTS[fault])
            if fault not in (_UNKNOWN, _TWICE):
                self._drop(self._sessions[key])

    def _blame(self, kind: str, *, traceback: bool = False) -> None:
        """Count what went wrong, and log it the first time."""
        self._failures[kind] += 1
        if self._failures[kind] == 1:
            log.warning("%s: it costs drafts; logged once, then counted", kind, exc_info=traceback)


class _Lists:
    """New tokens of a step as a list of rows, as the native call takes them."""

    __slots__ = ("_rows", "_whole")

    def __init__(self, rows: list[Any], whole: bool) -> None:
        self._rows = rows
        self._whole = whole

    def step(
        self, table: _native.Sequences, slots: list[int], rooms: list[int], *limits: Any
    ) -> tuple[Any, ...]:
        return table.step(slots, self._rows, self._whole, rooms, *limits)

    def came(self, total: int) -> int:
        """New tokens of all rows, whose texts had `total` tokens together."""
        return sum(map(len, self._rows)) - (total if self._whole else 0)

    def came_to(self, row: int, length: int) -> int:
        """New tokens of a row whose text had `length` tokens."""
        return len(self._rows[row]) - (length if self._whole else 0)


class _Matrix:
    """The same as columns of a matrix."""

    __slots__ = ("_ends", "_starts", "_tokens")

    def __init__(self, rows: TokenRows, whole: bool, count: int) -> None:
        given = None if whole else rows.starts
        self._tokens = rows.tokens
        self._ends = np.ascontiguousarray(rows.ends, np.int64)[:count]
        self._starts = None if given is None else np.ascontiguousarray(given, np.int64)[:count]

    def step(
        self, table: _native.Sequences, slots: list[int], rooms: list[int], *limits: Any
    ) -> tuple[Any, ...]:
        return table.step_matrix(slots, self._tokens, self._starts, self._ends, rooms, *limits)

    def came(self, total: int) -> int:
        before = total if self._starts is None else int(self._starts.sum())
        return int(self._ends.sum()) - before

    def came_to(self, row: int, length: int) -> int:
        before = length if self._starts is None else int(self._starts[row])
        return int(self._ends[row]) - before


def _require_tree(draft: Draft) -> None:
    """What a draft's maker may have said without a look (`Draft.trusted`) is looked at here."""
    n, parents = len(draft.tokens), draft.parents
    if (
        not all(each.dtype == np.int32 and each.shape == (n,) for each in (draft.tokens, parents))
        or len(draft.confidence) != n
        or len(draft.source) != n
        or (draft.tokens < 0).any()
        or (parents < ROOT).any()
        or (parents >= np.arange(n)).any()
    ):
        raise InvalidDraft(f"a draft of {n} nodes is no tree of token ids in int32 arrays")


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


def _size(rows: Any) -> int:
    try:
        return len(np.asarray(rows.ends)) if isinstance(rows, TokenRows) else len(rows)
    except (TypeError, ValueError):
        return 0
