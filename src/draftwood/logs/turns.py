"""The tokens of sessions so far, for prompts that say only what they add."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from draftwood.draft import TokenIds
from draftwood.logs.call import LoggedCall

_KEPT_TOKENS = 1 << 24
"""Tokens of sessions that are kept; the session that is the longest silent goes first."""


class Turns:
    """What sessions have said, call by call."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, list[TokenIds]] = OrderedDict()
        self._tokens = 0

    def whole(self, call: LoggedCall, prompt: TokenIds, response: TokenIds) -> TokenIds:
        """The whole prompt of a call."""
        if call.session is None:
            return prompt
        turns = self._sessions.setdefault(call.session, [])
        self._sessions.move_to_end(call.session)
        if not call.delta:  # which says all that was before
            self._tokens -= sum(map(len, turns))
            turns.clear()
        whole = np.concatenate((*turns, prompt))
        turns += (prompt, response)
        self._tokens += len(prompt) + len(response)
        while self._tokens > _KEPT_TOKENS and len(self._sessions) > 1:
            _, old = self._sessions.popitem(last=False)
            self._tokens -= sum(map(len, old))
        return whole
