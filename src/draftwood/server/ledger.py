"""What the server remembers of each namespace, for the history view: how much, and how old."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from draftwood.drafters.recall import RecallDrafter
from draftwood.language_model import LanguageModel
from draftwood.language_model.generation import Generation
from draftwood.server.keys import Caller

_KEPT: Final = 1000
"""Namespaces that are remembered; the one that was not used for longest is forgotten first."""


@dataclass(slots=True, eq=False)
class _Entry:
    caller: str | None
    salt: str
    began: float
    used: float
    texts: int = 0
    tokens: int = 0
    accepted: int = 0


class NamespaceCounts:
    """Counts by namespace; of the event loop alone. A caller sees its own entries only."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def add(self, caller: Caller, salt: str | None, generations: list[Generation]) -> None:
        """Count finished texts. salt: as in `Caller.namespace`."""
        now, namespace = time.time(), caller.namespace(salt)
        entry = self._entries.get(namespace)
        if entry is None:
            entry = self._entries[namespace] = _Entry(caller.name, salt or "", now, now)
            if len(self._entries) > _KEPT:
                self._entries.popitem(last=False)
        self._entries.move_to_end(namespace)
        entry.used = now
        entry.texts += len(generations)
        for each in generations:
            entry.tokens += each.prompt_tokens + len(each.tokens)
            entry.accepted += each.stats.accepted

    def shown(self, caller: Caller) -> list[dict[str, Any]]:
        """A caller's namespaces, the last used first; ages in seconds."""
        now = time.time()
        return [
            {
                "namespace": each.salt,
                "texts": each.texts,
                "tokens": each.tokens,
                "accepted_tokens": each.accepted,
                "age_seconds": round(now - each.began, 1),
                "idle_seconds": round(now - each.used, 1),
            }
            for each in reversed(self._entries.values())
            if each.caller == caller.name
        ]


def history_figures(llm: LanguageModel) -> dict[str, Any]:
    """What the drafter holds, over all namespaces; empty for a drafter that does not tell."""
    drafter = llm.drafter
    shared = {} if llm.replica is None else {"share": llm.replica.report()}
    if not isinstance(drafter, RecallDrafter):
        return {"drafter": repr(drafter)} | shared
    recall = drafter.recall
    return shared | {
        "drafter": repr(drafter),
        "tokens_written": recall.written,
        "capacity": recall.capacity,
        "bytes": recall.nbytes,
    }
