"""What requests of an engine finish, told to those who share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from draftwood.draft import NO_TOKENS, TokenIds
from draftwood.drafters.history_listener import FinishedText
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import InvalidOption
from draftwood.protocols import Drafter, TargetInfo
from draftwood.share import Replica, ShareOptions
from draftwood.share.replica import join


class EngineTexts:
    """A listener for streams that an engine moves natively, and whose tokens only it knows."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._ending: TokenIds = NO_TOKENS

    def name_of(self, namespace: str) -> str:
        """What Recall calls a request's namespace."""
        return self.replica.name_of(namespace)

    def ends(self, tokens: Sequence[int]) -> None:
        """What the request generated whose stream is closed next."""
        self._ending = np.array(tokens, dtype=np.int32)

    def finished(self, text: FinishedText) -> None:
        """The stream was closed."""
        tokens, self._ending = self._ending, NO_TOKENS
        self.replica.finished(replace(text, tokens=tokens))


def engine_texts(
    replicas: str | Mapping[str, Any], drafter: Drafter, target_info: TargetInfo, *, model: str
) -> EngineTexts:
    """Let the requests of an engine's drafter share what they finish.

    Raises:
        InvalidOption: a drafter without Recall, or options that cannot be used.
    """
    options = ShareOptions.of(replicas)
    if options.follower is not None:
        raise InvalidOption(
            f"replicas option follower is {options.follower!r}, and an engine drafts from one "
            "history; leave it away, so that the engine follows by itself"
        )
    if not isinstance(drafter, RecallDrafter):
        raise InvalidOption(f"replicas is given and the drafter is {drafter!r}; use 'recall'")
    texts = EngineTexts(join(options, drafter, target_info, model=model))
    drafter.listener = texts
    return texts
