"""Calls drafters for one or many streams, and keeps their errors away from the requests."""

from draftwood.guarded.calls import ask_all, batch_drafter, open_stream, shares_calls, tell_all
from draftwood.guarded.health import FAILING_STEPS, DrafterHealth
from draftwood.guarded.rules import DraftRules, checked_draft
from draftwood.guarded.stream import GuardedStream
from draftwood.guarded.streams import GuardedStreams

__all__ = [
    "FAILING_STEPS",
    "DraftRules",
    "DrafterHealth",
    "GuardedStream",
    "GuardedStreams",
    "ask_all",
    "batch_drafter",
    "checked_draft",
    "open_stream",
    "shares_calls",
    "tell_all",
]
