"""The guarded streams of a run: each drafter is asked once for all of its streams."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakValueDictionary

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.errors import InvalidDraft
from draftwood.fork import fork_lock
from draftwood.guarded.health import DrafterHealth
from draftwood.guarded.rules import DraftRules
from draftwood.guarded.stream import GuardedStream
from draftwood.protocols import Drafter, Feedback


class GuardedStreams:
    """The streams of a run, of one drafter or of several; each drafter is asked once for all its.

    Drafters that are equal (`==`) are taken for one. Where a drafter's call for all drafts raises,
    each of its streams is asked by itself, so that only those that fail by themselves lose their
    drafts; where its call to move all streams raises, none of them knows its place any more, and
    all that were running lose them. `DrafterHealth` says when a drafter is switched off.

    drafter: whose streams are opened unless another one is named. vocab_size, sampled: see
    `DraftRules`. Streams may be opened from several threads; the rest is used by one at a time.
    """

    def __init__(
        self, drafter: Drafter, *, vocab_size: int | None = None, sampled: bool = True
    ) -> None:
        self._rules = DraftRules(vocab_size, sampled)
        self._own = DrafterHealth(drafter)
        self._others: WeakValueDictionary[object, DrafterHealth] = WeakValueDictionary()
        self._lock = fork_lock()

    @property
    def drafter(self) -> Drafter:
        """The run's own drafter."""
        return self._own.drafter

    @property
    def failures(self) -> int:
        """Calls of the run's own drafter that failed, and drafts of it that were not fit."""
        return self._own.failures

    @property
    def cuts(self) -> int:
        """Drafts of the run's own drafter that were larger than they were to be, and were cut."""
        return self._own.cuts

    @property
    def off(self) -> bool:
        """Whether the run's own drafter was switched off."""
        return self._own.off

    def end_step(self) -> None:
        """A step ends in which the run's own streams were asked without this object's help."""
        self._own.asked()
        self._own.end_step()

    def open(
        self,
        prompt: TokenIds,
        namespace: str = "",
        prediction: Sequence[TokenIds] = (),
        *,
        drafter: Drafter | None = None,
    ) -> GuardedStream:
        """A guarded stream of the run's drafter, or of another one."""
        health = self._own if drafter is None else self._health(drafter)
        return GuardedStream(
            health.drafter if drafter is None else drafter,
            prompt,
            namespace,
            prediction,
            rules=self._rules,
            health=health,
        )

    def propose(self, guards: Sequence[GuardedStream], budgets: Sequence[Budget]) -> list[Draft]:
        """A draft of each stream, within its budget."""
        asked: dict[DrafterHealth, list[int]] = {}
        for at, (guard, budget) in enumerate(zip(guards, budgets, strict=True)):
            if guard.stream is not None and budget.reach:
                asked.setdefault(guard.health, []).append(at)
        drafts = [Draft.empty()] * len(guards)
        for health, places in asked.items():
            some, limits = [guards[at] for at in places], [budgets[at] for at in places]
            given = self._given(health, some, limits)
            for at, draft in zip(places, given, strict=True):
                drafts[at] = draft
        return drafts

    def observe(self, guards: Sequence[GuardedStream], feedback: Sequence[Feedback]) -> None:
        """Pass the feedback on, to each its own; with it a step ends."""
        told: dict[DrafterHealth, list[tuple[GuardedStream, Feedback]]] = {}
        for guard, each in zip(guards, feedback, strict=True):
            alive = told.setdefault(guard.health, [])
            if guard.stream is not None:
                alive.append((guard, each))
        for health, alive in told.items():
            self._tell(health, alive)
            health.end_step()
            if health.off:
                for guard, _ in alive:
                    guard.drop()

    def _given(
        self, health: DrafterHealth, guards: list[GuardedStream], budgets: list[Budget]
    ) -> list[Draft]:
        """Drafts of some streams of one drafter."""
        health.asked()
        if health.together is not None:
            try:
                streams = [guard.stream for guard in guards]
                given = list(health.together.propose_all(streams, budgets))
                if len(given) != len(guards):
                    raise InvalidDraft(f"{len(given)} drafts for {len(guards)} streams")
            except Exception:
                health.failed("propose_all", "its streams are served one by one")
            else:
                return [
                    guard.take(draft, budget)
                    for guard, draft, budget in zip(guards, given, budgets, strict=True)
                ]
        return [guard.propose(budget) for guard, budget in zip(guards, budgets, strict=True)]

    def _tell(self, health: DrafterHealth, alive: list[tuple[GuardedStream, Feedback]]) -> None:
        if not alive or health.together is None:
            for guard, each in alive:
                guard.observe(each)
            return
        try:
            health.together.observe_all(
                [guard.stream for guard, _ in alive], [each for _, each in alive]
            )
        except Exception:
            health.failed("observe_all", f"{len(alive)} sequences go on without drafts")
            for guard, _ in alive:
                guard.failures += 1
                guard.drop()

    def _health(self, drafter: Drafter) -> DrafterHealth:
        if drafter is self._own.drafter:
            return self._own
        try:
            hash(drafter)
        except TypeError:  # equality without a hash: each is one of its own
            key: object = id(drafter)
        else:
            key = drafter
        with self._lock:
            health = self._others.get(key)
            if health is None:
                health = self._others[key] = DrafterHealth(drafter)
        return health
