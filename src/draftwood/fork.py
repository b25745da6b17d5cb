"""Locks that no child of fork() finds held by a thread that it does not have."""

from __future__ import annotations

import os
import weakref
from threading import Lock

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def fork_lock() -> Lock:
    """A lock that is free in a child of fork(), whoever held it in the parent.

    For what is guarded for moments and bears being cut off half-way, such as counts.
    """
    lock = Lock()
    _locks.add(lock)
    return lock


def _free_all() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_free_all)
