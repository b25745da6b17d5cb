"""Locks that are free in a child of fork(), whichever thread held them in the parent."""

from __future__ import annotations

import os
import weakref
from threading import Lock

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
