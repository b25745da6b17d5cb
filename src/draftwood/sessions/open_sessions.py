"""The open sequences of an engine, by key."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from draftwood import _native
from draftwood.draft import Draft, TokenIds
from draftwood.guarded import GuardedStream
from draftwood.sessions.faults import DRAFTED, NAMES, TWICE, UNKNOWN, Faults


class Session:
    """An open sequence.

    slot: its number in the native table. guard: its stream; None: it was opened with a wrong
    prompt. draft: what it was handed out last, where drafts are Python objects.
    """

    __slots__ = ("draft", "guard", "key", "slot")

    def __init__(self, key: Hashable, slot: int, guard: GuardedStream | None) -> None:
        self.key = key
        self.slot = slot
        self.guard = guard
        self.draft = Draft.empty()

    @property
    def drafts(self) -> bool:
        """Whether there is still a stream to ask."""
        return self.guard is not None and self.guard.stream is not None

    def end(self, *, learn: bool) -> None:
        """Close its stream; learn: whether what it generated stays in the drafter's history."""
        if self.guard is not None:
            self.guard.close() if learn else self.guard.abandon()


class OpenSessions:
    """Which sequences are open. Used by one thread at a time.

    table: their texts, in slots. sessions, slots: by key. left: keys whose sequences have ended
    since the last step.
    """

    def __init__(self, vocab_size: int, context_limit: int, faults: Faults) -> None:
        self.table = _native.Sequences(vocab_size, context_limit)
        self.sessions: dict[Hashable, Session] = {}
        self.slots: dict[Hashable, int] = {}
        self.left: set[Hashable] = set()
        self._keys: dict[int, Hashable] = {}
        self._faults = faults

    def add(
        self,
        key: Hashable,
        text: TokenIds,
        guard: GuardedStream | None,
        request: _native.RecallRequest | None,
    ) -> None:
        """Open a sequence under a key that is not open. request: what drafts natively, if any."""
        slot = self.table.open(text, request)
        self.sessions[key] = Session(key, slot, guard)
        self.slots[key] = slot
        self._keys[slot] = key

    def take(self, key: Hashable) -> Session | None:
        """Remove a sequence, whose stream is then the caller's to end; None: it is not open."""
        session = self.sessions.pop(key, None)
        if session is not None:
            del self.slots[key]
            del self._keys[session.slot]
            self.left.add(key)
            self.table.close(session.slot)
        return session

    def key_of(self, slot: int) -> Hashable | None:
        """The key of the sequence in a slot; None where there is none."""
        return self._keys.get(slot)

    def drop(self, session: Session, *, failed: bool = False) -> None:
        """The sequence goes on without drafts; failed: as its drafter is to blame."""
        self.table.mute(session.slot)
        session.draft = Draft.empty()
        if failed and session.guard is not None:
            session.guard.failed("propose")
        else:
            session.end(learn=False)

    def lose(self, keys: Any) -> None:
        """Drop the sequences of a step that could not be made: they missed their tokens."""
        try:
            for key in keys:
                session = self.sessions.get(key)
                if session is not None:
                    self.drop(session)
        except TypeError:  # no keys at all
            return

    def handle_faults(self, keys: Sequence[Hashable], faults: Sequence[int]) -> None:
        """Count what the native step found wrong, and drop the sequences that lost their place."""
        for key, fault in zip(keys, faults, strict=True):
            if not fault:
                continue
            if fault == DRAFTED:
                self.drop(self.sessions[key], failed=True)
                continue
            self._faults.blame(NAMES[fault])
            if fault not in (UNKNOWN, TWICE):
                self.drop(self.sessions[key])
