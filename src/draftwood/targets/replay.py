"""A target that replays a recorded response, token by token, without a model.

record   S E L E C T ...            row 0  -> record[at]
draft         E L X                 node E -> L,  L -> E (what the record has next),
                                    node X left the record -> -1, which no draft holds
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draftwood.draft import Draft, TokenIds, as_tokens
from draftwood.errors import InvalidDraft, UnsupportedModel
from draftwood.protocols import Verdict
from draftwood.text.stop import Ends, Stop

_UNKNOWN = -1
"""What the record cannot tell: the next token off its path or after its end."""


class ReplayTarget:
    """One recorded response (token ids) in the place of a model.

    Decode it with `Greedy` and this target's own `stop()`. A draft may run past the record's
    end, which a drafter cannot foresee; drafted tokens beyond it count as rejected.
    """

    trees: bool = True

    def __init__(self, response: ArrayLike) -> None:
        self._response = as_tokens(response)

    def __repr__(self) -> str:
        return f"ReplayTarget({len(self._response)} tokens)"

    def open(self, prompt: TokenIds) -> ReplayCursor:
        """A cursor that stands before the record's first token."""
        return ReplayCursor(prompt, self._response)

    def close(self) -> None:
        """Nothing to give back."""

    def stop(self) -> Stop:
        """The stop of one decoding: with the record's last token."""
        return Stop(ends=(_after(len(self._response)),))


class ReplayCursor:
    """A place in the record. `room` is None: a record knows no context limit."""

    room: int | None = None

    def __init__(self, prompt: TokenIds, response: TokenIds) -> None:
        self._prompt, self._response = prompt, response
        self._record = [*response.tolist(), _UNKNOWN]  # so that record[-1] is unknown, too
        self._at = 0
        self._places = [0]

    def score(self, draft: Draft) -> ReplayRows:
        """Follow the record along the draft: O(nodes), no model."""
        record, places = self._record, [self._at]
        for token, parent in zip(draft.tokens.tolist(), draft.parents.tolist(), strict=True):
            place = places[parent + 1]
            places.append(place + 1 if record[place] == token else -1)
        self._places = places
        return ReplayRows(self._prompt, self._response[: self._at], [record[p] for p in places])

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Move past the accepted tokens.

        Raises:
            InvalidDraft: the verdict leaves the record, which only a rule that is not greedy does.
        """
        path = verdict.path.tolist()
        at = self._at + len(path)
        if path and self._places[path[-1] + 1] != at:
            raise InvalidDraft(
                f"node {path[-1]} was accepted but is not what was recorded; replay with Greedy"
            )
        if verdict.next_token is not None:
            if verdict.next_token != self._record[at]:
                raise InvalidDraft(
                    f"token {verdict.next_token} was chosen where {self._record[at]} is recorded; "
                    "replay with Greedy"
                )
            at += 1
        self._at = at

    def close(self) -> None:
        """Nothing to give back."""


class ReplayRows:
    """What the record says after each node of a draft."""

    def __init__(self, prompt: TokenIds, generated: TokenIds, following: list[int]) -> None:
        self._prompt, self._generated = prompt, generated
        self._following = following

    @property
    def context(self) -> TokenIds:
        """The prompt and the part of the record that is committed."""
        return np.concatenate((self._prompt, self._generated))

    def argmax(self) -> TokenIds:
        """int32 [n + 1]: the recorded next token; -1 where the record cannot tell."""
        return np.array(self._following, dtype=np.int32)

    def logits(self, row: int) -> NDArray[np.floating[Any]]:
        """A record holds none.

        Raises:
            UnsupportedModel: always.
        """
        raise UnsupportedModel(f"row {row} of a replay has no logits; verify replays with Greedy")


def _after(count: int) -> Ends:
    """Ends a text with its token number `count`."""
    left = count

    def ends(tokens: TokenIds) -> int | None:
        nonlocal left
        if len(tokens) >= left:
            return left
        left -= len(tokens)
        return None

    return ends
