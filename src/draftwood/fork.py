"""Locks and fork(): a child has none of the other threads, and would wait for ever for their locks.

`fork_lock` makes locks that are free in a child, whichever thread held them in the parent. What
must not be found halfway through a change is given to `hold_at_fork`: fork() then waits for it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from threading import Lock
from typing import Protocol

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def fork_lock() -> Lock:
    """A lock that is always free in a child of fork().

    Only for short updates that do no harm if a fork interrupts them halfway, such as counts.
    """
    lock = Lock()
    _locks.add(lock)
    return lock


def _free_all() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_free_all)


class HeldAtFork(Protocol):
    """An object whose locks are taken before fork() and given back after it."""

    @property
    def fork_locks(self) -> Sequence[Lock]:
        """Its locks, in the order in which they are taken."""

    def renew_locks(self) -> None:
        """Begin with new locks, in a child of fork()."""


_owners: weakref.WeakSet[HeldAtFork] = weakref.WeakSet()
_held: list[Lock] = []


def hold_at_fork(owner: HeldAtFork) -> None:
    """Let fork() wait for this object's locks, for 10 s at most: the forking thread may hold one.

    A child then begins with new locks. The object is not kept alive.
    """
    _owners.add(owner)


def _take_locks() -> None:
    for owner in list(_owners):
        _held.extend(lock for lock in owner.fork_locks if lock.acquire(timeout=10))


def _give_back_locks() -> None:
    while _held:
        _held.pop().release()


def _renew_locks() -> None:
    _held.clear()
    for owner in list(_owners):
        owner.renew_locks()


os.register_at_fork(
    before=_take_locks, after_in_parent=_give_back_locks, after_in_child=_renew_locks
)
