"""Steps with any drafter: texts move natively, drafts are Python objects."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from draftwood.budget.spender import FixedBudget, PassReport, Spender
from draftwood.draft import Budget, Draft
from draftwood.guarded import GuardedStream, GuardedStreams, checked_draft
from draftwood.protocols import Feedback
from draftwood.sessions.arrived import Arrived
from draftwood.sessions.draft_batch import DraftBatch
from draftwood.sessions.faults import Faults
from draftwood.sessions.open_sessions import OpenSessions, Session


@dataclass(frozen=True, slots=True)
class _LastStep:
    """What the last step handed out, until it is known what the pass brought.

    context: tokens of the longest text.
    """

    keys: list[Hashable]
    drafts: Sequence[Draft]
    asked: bool
    context: int
    draft_seconds: float


class DrafterSteps:
    """The drafter is asked through its guards, and any `Spender` cuts what it proposes."""

    def __init__(
        self,
        open_sessions: OpenSessions,
        guards: GuardedStreams,
        faults: Faults,
        *,
        budget: Budget,
        spender: Spender,
        trees: bool,
        context_limit: int,
    ) -> None:
        self._open = open_sessions
        self._guards = guards
        self._faults = faults
        self._budget = budget
        self._spender = spender
        self._trees = trees
        self._context_limit = context_limit
        self._last: _LastStep | None = None

    def step(self, arrived: Arrived) -> DraftBatch:
        """Move the sequences past what came, draft and cut."""
        keys, slots, rows, rooms = arrived.keys, arrived.slots, arrived.rows, arrived.rooms
        seconds, began = arrived.seconds, arrived.began
        table = self._open.table
        *_, last_tokens, came, faults = rows.step(
            table, slots, rooms, 0, 0, 0.0, False, 1, None, None
        )
        sessions: list[Session | None] = [self._open.sessions.get(key) for key in keys]
        if faults is not None:
            self._open.handle_faults(keys, faults)
            sessions = [
                None if fault else session for fault, session in zip(faults, sessions, strict=True)
            ]
        accepted = self._observe(sessions, came.tolist())
        context = table.longest
        plan = self._planned(accepted, len(keys), context, seconds)
        drafts = self._proposed(sessions, rooms, plan)
        try:
            spent = self._spender.spend(drafts, context)
            drafts = [
                checked_draft(spent[at], Budget(len(draft))) for at, draft in enumerate(drafts)
            ]
        except Exception:
            self._drop_spender()
        for session, draft in zip(sessions, drafts, strict=True):
            if session is not None:
                session.draft = draft
        table.hand_out(sum(map(len, drafts)), sum(accepted.values()))
        asked = min(self._budget.nodes, plan.nodes) > 0
        self._last = _LastStep(keys, drafts, asked, context, perf_counter() - began)
        return DraftBatch.of(drafts, last_tokens)

    def _observe(
        self, sessions: Sequence[Session | None], came: Sequence[int]
    ) -> dict[Hashable, int]:
        """Tell the streams of the tokens that came; how many of each were drafted, by key."""
        told: list[tuple[GuardedStream, Feedback]] = []
        accepted: dict[Hashable, int] = {}
        for session, count in zip(sessions, came, strict=True):
            if session is None or not count:
                continue
            feedback = Feedback.of(session.draft, self._open.table.end(session.slot, count))
            accepted[session.key] = min(len(feedback.verdict.path), count - 1)
            session.draft = Draft.empty()
            if session.guard is not None:
                told.append((session.guard, feedback))
        self._guards.observe([guard for guard, _ in told], [said for _, said in told])
        return accepted

    def _planned(
        self, accepted: Mapping[Hashable, int], count: int, context: int, seconds: float | None
    ) -> Budget:
        """What the spender lets each of `count` drafts hold, once it was told of the last pass."""
        try:
            self._tell_spender(accepted, seconds)
            return self._spender.plan(count, context)
        except Exception:
            self._drop_spender()
            return self._budget

    def _proposed(
        self, sessions: Sequence[Session | None], rooms: Sequence[int], plan: Budget
    ) -> list[Draft]:
        """A draft for each sequence, within the plan and its own room."""
        nodes, reach = min(self._budget.nodes, plan.nodes), min(self._budget.reach, plan.reach)
        asked: list[GuardedStream] = []
        budgets: list[Budget] = []
        places: list[int] = []
        for at, session in enumerate(sessions):
            if session is None or not session.drafts or not reach:
                continue
            room = self._context_limit - self._open.table.length(session.slot)
            room = min(room, rooms[at]) if rooms else room
            if room > 1 and session.guard is not None:
                asked.append(session.guard)
                budgets.append(Budget(nodes, min(reach, room - 1), plan.floor))
                places.append(at)
        drafts = [Draft.empty()] * len(sessions)
        for at, draft in zip(places, self._guards.propose(asked, budgets), strict=True):
            drafts[at] = draft if self._trees or draft.is_chain else draft.to_chain()
        return drafts

    def _tell_spender(self, accepted: Mapping[Hashable, int], seconds: float | None) -> None:
        last = self._last
        if last is None:
            return
        known = [key for key in last.keys if key in accepted and key not in self._open.left]
        if not known:
            return
        # A sequence that has ended is taken to have done as the others did.
        mean = round(sum(accepted[key] for key in known) / len(known))
        self._spender.observe(
            PassReport(
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
        self._faults.blame("spender", traceback=True)
        self._spender = FixedBudget(self._budget)
