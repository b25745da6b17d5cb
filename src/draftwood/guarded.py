"""One way to serve many streams, whose failures cost their drafts and not the requests."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast
from weakref import WeakValueDictionary

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.errors import InvalidDraft
from draftwood.fork import fork_lock
from draftwood.protocols import Abandoning, BatchDrafter, Composed, Drafter, Feedback, Stream

log = logging.getLogger(__name__)

FAILING_STEPS = 3
"""Steps in a row in which a drafter fails, after which a run goes on without it."""


def open_stream(
    drafter: Drafter, prompt: TokenIds, namespace: str = "", prediction: Sequence[TokenIds] = ()
) -> Stream:
    """A stream of the drafter's; `prediction` is passed on as a keyword only where there is one."""
    if len(prediction):
        return drafter.open(prompt, namespace=namespace, prediction=prediction)
    return drafter.open(prompt, namespace=namespace)


def batch_drafter(drafter: Drafter) -> BatchDrafter | None:
    """The drafter, where it takes a call for all of its streams."""
    return cast(BatchDrafter, drafter) if _takes_calls_for_all(type(drafter)) else None


@cache
def _takes_calls_for_all(kind: type) -> bool:
    return issubclass(kind, BatchDrafter)  # many microseconds, so once for a class


def shares_calls(drafter: Drafter) -> bool:
    """Whether one call for many streams is more than a call for each of them.

    A drafter made of others (`Composed`) always takes the call; it shares one where a part does.
    """
    if batch_drafter(drafter) is None:
        return False
    return not isinstance(drafter, Composed) or any(map(shares_calls, drafter.parts))


def ask_all(
    drafter: Drafter, streams: Sequence[Stream], budgets: Sequence[Budget]
) -> Sequence[Draft]:
    """A draft of each stream of a drafter: in one call where it takes that, else one by one.

    No stream may be given twice. Raises what the drafter raises; `GuardedBatch` handles that.
    """
    together = batch_drafter(drafter)
    if together is not None:
        return together.propose_all(streams, budgets) if streams else []
    return [stream.propose(budget) for stream, budget in zip(streams, budgets, strict=True)]


def tell_all(drafter: Drafter, streams: Sequence[Stream], feedback: Sequence[Feedback]) -> None:
    """Move each stream of a drafter, in one call where it takes that, else one by one."""
    together = batch_drafter(drafter)
    if together is not None:
        if streams:
            together.observe_all(streams, feedback)
        return
    for stream, each in zip(streams, feedback, strict=True):
        stream.observe(each)


@dataclass(frozen=True, slots=True)
class Terms:
    """What drafts have to keep to, beside their budget.

    vocab_size: entries of the target's rows; None: not known. sampled: whether tokens may have been
    sampled, which nobody may choose among.
    """

    vocab_size: int | None = None
    sampled: bool = True


def usable(draft: Draft, budget: Budget, terms: Terms = Terms()) -> Draft:
    """The part of a draft that a budget allows, found fit to be verified (`Draft.check`).

    Raises:
        InvalidDraft: for a draft that is not fit, or is no `Draft`.
    """
    # the usual case, made short: nothing to cut, and one look in native code
    if type(draft) is Draft and len(draft) <= budget.reach and draft.is_sound(terms.vocab_size):
        return draft
    if not isinstance(draft, Draft):
        raise InvalidDraft(f"a drafter proposed {type(draft).__name__}; propose a Draft")
    if draft.proposal is not None and not terms.sampled:
        raise InvalidDraft(
            f"a draft of {len(draft)} sampled tokens cannot be ranked by what they are, which "
            "would change the law of the text; use a drafter that chooses its tokens"
        )
    if len(draft) > budget.nodes:
        draft = draft.cut(nodes=budget.nodes)
    draft.check(terms.vocab_size)
    # no path has more tokens than the draft has nodes
    if len(draft) > budget.reach and draft.height > budget.reach:
        return draft.shallow(budget.reach)
    return draft


class Standing:
    """How a drafter does in a run.

    together: the drafter, where it takes a call for all of its streams. failures: calls that
    raised, and drafts that were not fit to be verified. off: it failed in `FAILING_STEPS` steps in
    a row, with no step between in which all went well, and is not asked any more. Each kind of call
    is logged when it fails for the first time, and being switched off is, too.
    """

    def __init__(self, drafter: Drafter) -> None:
        self.drafter = drafter
        self.together = batch_drafter(drafter)
        self.failures = 0
        self.cuts = 0
        self.off = False
        self._logged: set[str] = set()
        self._asked = self._failed = False
        self._in_a_row = 0

    def asked(self) -> None:
        """It is asked for drafts in this step."""
        self._asked = True

    def failed(self, verb: str, consequence: str) -> None:
        """To be called where the exception is handled."""
        self.failures += 1
        self._failed |= verb != "close"  # which costs no drafts
        level = logging.DEBUG if verb in self._logged else logging.ERROR
        self._logged.add(verb)
        log.log(level, "drafter failed in %s; %s", verb, consequence, exc_info=True)

    def cut(self, draft: Draft, budget: Budget) -> None:
        """A draft was larger than the budget that the drafter was asked for."""
        self.cuts += 1
        if self.cuts == 1:
            log.warning(
                "drafter %s proposed %d tokens and was asked for at most %d, %d on a path; "
                "the rest is cut off; logged once, then counted",
                type(self.drafter).__name__,
                len(draft),
                budget.nodes,
                budget.reach,
            )

    def settle(self) -> None:
        """A step ends: whether it was one more that went wrong."""
        if self._failed:
            self._in_a_row += 1
        elif self._asked:
            self._in_a_row = 0
        self._asked = self._failed = False
        if self._in_a_row == FAILING_STEPS and not self.off:
            self.off = True
            log.error(
                "drafter %s failed in %d steps in a row; this run goes on without it",
                type(self.drafter).__name__,
                FAILING_STEPS,
            )


class Guarded:
    """A stream whose failure costs its drafts, not the request.

    failures: how many times the drafter raised, or gave a draft that is not fit to be verified.
    After a failure the stream proposes nothing for the rest of the sequence, since it may have lost
    its place. stream: what is guarded; None once it has failed or was closed. standing: shared by
    the drafter's streams in a run; None: of this stream only.
    """

    def __init__(
        self,
        drafter: Drafter,
        prompt: TokenIds,
        namespace: str = "",
        prediction: Sequence[TokenIds] = (),
        *,
        terms: Terms = Terms(),
        standing: Standing | None = None,
    ) -> None:
        self.failures = 0
        self.stream: Stream | None = None
        self.standing = Standing(drafter) if standing is None else standing
        self._terms = terms
        if self.standing.off:
            return
        try:
            self.stream = open_stream(drafter, prompt, namespace, prediction)
        except Exception:
            self.failed("open")

    def propose(self, budget: Budget) -> Draft:
        """The stream's draft, cut to the budget; empty once the stream has failed."""
        if self.stream is None or not budget.reach:
            return Draft.empty()
        try:
            return self._usable(self.stream.propose(budget), budget)
        except Exception:
            self.failed("propose")
            return Draft.empty()

    def take(self, draft: Draft, budget: Budget) -> Draft:
        """The same for a draft that came from a call for all."""
        try:
            return self._usable(draft, budget)
        except Exception:
            self.failed("propose")
            return Draft.empty()

    def _usable(self, draft: Draft, budget: Budget) -> Draft:
        kept = usable(draft, budget, self._terms)
        if kept is not draft:
            self.standing.cut(draft, budget)
        return kept

    def observe(self, feedback: Feedback) -> None:
        """Pass the feedback on."""
        if self.stream is None:
            return
        try:
            self.stream.observe(feedback)
        except Exception:
            self.failed("observe")

    def close(self) -> None:
        """Close the stream, if it still lives."""
        stream, self.stream = self.stream, None
        if stream is None:
            return
        try:
            stream.close()
        except Exception:
            self.failed("close")

    def abandon(self) -> None:
        """End the stream without learning from what it has not learned, where it can do that."""
        stream: object = self.stream
        if not isinstance(stream, Abandoning):
            self.close()
            return
        self.stream = None
        try:
            stream.abandon()
        except Exception:
            self.failed("close")

    def failed(self, verb: str) -> None:
        """To be called where its exception is handled: go on without the stream."""
        self.standing.failed(verb, "this sequence goes on without drafts")
        self.failures += 1
        self.drop()

    def drop(self) -> None:
        """Close the stream, which has lost its place, and ask it no more."""
        stream, self.stream = self.stream, None
        if stream is not None:
            try:
                stream.close()
            except Exception:
                log.debug("closing the failed drafter failed too", exc_info=True)


class GuardedBatch:
    """The streams of a run, of one drafter or of several; each drafter is asked once for all its.

    Drafters that are equal (`==`) are taken for one. Where a drafter's call for all drafts raises,
    each of its streams is asked by itself, so that only those that fail by themselves lose their
    drafts; where its call to move all streams raises, none of them knows its place any more, and
    all that were running lose them. `Standing` says when a drafter is switched off.

    drafter: whose streams are opened unless another one is named. vocab_size, sampled: see `Terms`.
    Streams may be opened from several threads; the rest is used by one at a time.
    """

    def __init__(
        self, drafter: Drafter, *, vocab_size: int | None = None, sampled: bool = True
    ) -> None:
        self._terms = Terms(vocab_size, sampled)
        self._own = Standing(drafter)
        self._others: WeakValueDictionary[object, Standing] = WeakValueDictionary()
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

    def settle(self) -> None:
        """A step ends in which the run's own streams were asked without this object's help."""
        self._own.asked()
        self._own.settle()

    def open(
        self,
        prompt: TokenIds,
        namespace: str = "",
        prediction: Sequence[TokenIds] = (),
        *,
        drafter: Drafter | None = None,
    ) -> Guarded:
        """A guarded stream of the run's drafter, or of another one."""
        standing = self._own if drafter is None else self._standing(drafter)
        return Guarded(
            standing.drafter if drafter is None else drafter,
            prompt,
            namespace,
            prediction,
            terms=self._terms,
            standing=standing,
        )

    def propose(self, guards: Sequence[Guarded], budgets: Sequence[Budget]) -> list[Draft]:
        """A draft of each stream, within its budget."""
        asked: dict[Standing, list[int]] = {}
        for at, (guard, budget) in enumerate(zip(guards, budgets, strict=True)):
            if guard.stream is not None and budget.reach:
                asked.setdefault(guard.standing, []).append(at)
        drafts = [Draft.empty()] * len(guards)
        for standing, places in asked.items():
            some, limits = [guards[at] for at in places], [budgets[at] for at in places]
            given = self._given(standing, some, limits)
            for at, draft in zip(places, given, strict=True):
                drafts[at] = draft
        return drafts

    def observe(self, guards: Sequence[Guarded], feedback: Sequence[Feedback]) -> None:
        """Pass the feedback on, to each its own; with it a step ends."""
        told: dict[Standing, list[tuple[Guarded, Feedback]]] = {}
        for guard, each in zip(guards, feedback, strict=True):
            alive = told.setdefault(guard.standing, [])
            if guard.stream is not None:
                alive.append((guard, each))
        for standing, alive in told.items():
            self._tell(standing, alive)
            standing.settle()
            if standing.off:
                for guard, _ in alive:
                    guard.drop()

    def _given(
        self, standing: Standing, guards: list[Guarded], budgets: list[Budget]
    ) -> list[Draft]:
        """Drafts of some streams of one drafter."""
        standing.asked()
        if standing.together is not None:
            try:
                streams = [guard.stream for guard in guards]
                given = list(standing.together.propose_all(streams, budgets))
                if len(given) != len(guards):
                    raise InvalidDraft(f"{len(given)} drafts for {len(guards)} streams")
            except Exception:
                standing.failed("propose_all", "its streams are served one by one")
            else:
                return [
                    guard.take(draft, budget)
                    for guard, draft, budget in zip(guards, given, budgets, strict=True)
                ]
        return [guard.propose(budget) for guard, budget in zip(guards, budgets, strict=True)]

    def _tell(self, standing: Standing, alive: list[tuple[Guarded, Feedback]]) -> None:
        if not alive or standing.together is None:
            for guard, each in alive:
                guard.observe(each)
            return
        try:
            standing.together.observe_all(
                [guard.stream for guard, _ in alive], [each for _, each in alive]
            )
        except Exception:
            standing.failed("observe_all", f"{len(alive)} sequences go on without drafts")
            for guard, _ in alive:
                guard.failures += 1
                guard.drop()

    def _standing(self, drafter: Drafter) -> Standing:
        if drafter is self._own.drafter:
            return self._own
        try:
            hash(drafter)
        except TypeError:  # equality without a hash: each is one of its own
            key: object = id(drafter)
        else:
            key = drafter
        with self._lock:
            standing = self._others.get(key)
            if standing is None:
                standing = self._others[key] = Standing(drafter)
        return standing
