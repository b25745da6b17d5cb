"""Steps with Recall: observe, propose and cut are one native call."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from time import perf_counter

from draftwood.budget.spending import Pass, Spending
from draftwood.draft import Budget
from draftwood.drafters.recall import RecallDrafter
from draftwood.guarded import GuardedStreams
from draftwood.sessions.arrived import Arrived
from draftwood.sessions.draft_batch import DraftBatch
from draftwood.sessions.faults import Faults
from draftwood.sessions.open_sessions import OpenSessions
from draftwood.sessions.rows import ListRows, MatrixRows


@dataclass(frozen=True, slots=True)
class _LastStep:
    """What the last step handed out, until it is known what the pass brought.

    total: tokens of all its texts. context: of the longest.
    """

    keys: list[Hashable]
    nodes: int
    asked: bool
    context: int
    total: int
    draft_seconds: float


class NativeSteps:
    """One native call a step; a `Spending` is asked for its price, and told of every pass."""

    def __init__(
        self,
        drafter: RecallDrafter,
        open_sessions: OpenSessions,
        guards: GuardedStreams,
        faults: Faults,
        *,
        budget: Budget,
        spending: Spending | None,
        trees: bool,
    ) -> None:
        self._open = open_sessions
        self._guards = guards
        self._faults = faults
        self._spending = spending
        self._chain = not trees
        self._nodes = min(budget.nodes, drafter.nodes)
        self._reach = budget.reach
        self._threads = drafter.threads
        self._last: _LastStep | None = None

    def step(self, arrived: Arrived) -> DraftBatch:
        """Move the sequences past what came, draft and cut."""
        keys, slots, rows, rooms = arrived.keys, arrived.slots, arrived.rows, arrived.rooms
        seconds, began = arrived.seconds, arrived.began
        table, spending = self._open.table, self._spending
        nodes, reach, floor = self._nodes, self._reach, 0.0
        pass_costs = weights = None
        if spending is not None:
            try:
                self._report(spending, keys, slots, rows, seconds)
                plan = spending.plan(len(keys), table.longest)
                nodes, reach, floor = min(nodes, plan.nodes), min(reach, plan.reach), plan.floor
                if nodes:
                    price = spending.price(len(keys), table.longest, nodes)
                    pass_costs, weights = price.pass_costs, price.weights
            except Exception:  # of a cost that is not ours
                self._faults.blame("spender", traceback=True)
                self._spending = None
        *flat, _, faults = rows.step(
            table,
            slots,
            rooms,
            nodes,
            reach,
            floor,
            self._chain,
            self._threads,
            pass_costs,
            weights,
        )
        drafts = DraftBatch(*flat)
        if faults is not None:
            self._open.handle_faults(keys, faults)
        self._guards.end_step()
        if spending is not None:
            self._last = _LastStep(
                keys,
                len(drafts.tokens),
                nodes > 0,
                table.longest,
                table.total,
                perf_counter() - began,
            )
        return drafts

    def _report(
        self,
        spending: Spending,
        keys: list[Hashable],
        slots: list[int],
        rows: ListRows | MatrixRows,
        seconds: float | None,
    ) -> None:
        """Tell the spender what the pass since the last step brought."""
        last, open_sessions = self._last, self._open
        if last is None:
            return
        try:
            if keys == last.keys and not open_sessions.left:
                came, count = rows.came(last.total), len(keys)
            else:
                known = set(last.keys) - open_sessions.left
                each = [
                    rows.came_to(at, open_sessions.table.length(slot))
                    for at, (key, slot) in enumerate(zip(keys, slots, strict=True))
                    if key in known
                ]
                came, count = sum(each), len(each)
        except (TypeError, IndexError):  # rows that are none; the step itself finds them out
            return
        if came < count or not count:  # not one token for each: no pass that can be entered
            return
        spending.record(
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
