"""Asynchronous drafting: the small model drafts on while the target verifies.

McDanel 2024, *AMUSD: Asynchronous Multi-Device Speculative Decoding* (arXiv 2410.17375).

    small model    a b c | d e f g |         x y z ...        a thread of its own: never waits for
    target               | a b c ? |         d x ?            the verdict, only for its own room
    verdict                   a b c d : kept, e f g are the next draft
                                             d x : e was wrong; back to x, and on from there
"""

from __future__ import annotations

from collections.abc import Sequence
from os import getpid
from threading import Condition, Thread

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.drafters.small.seat import DraftModel, DraftSeat, pair_models
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback, TargetInfo
from draftwood.sources import SMALL_MODEL

_LONG = 512
"""Tokens after which the small model's cache drops its old nodes; what it is ahead is lost."""


class Overlapped:
    """A chain of a small model's likeliest tokens, drafted in a thread beside the target's passes.

    model: the small model, best on a device or cores of its own; on shared ones the two take time
    from each other. ahead: the most tokens that it drafts beyond the committed text. least: tokens
    that a draft waits for; 1 verifies whatever is there.

    How long a draft is depends on timing; the text does not. Each stream has a thread, which ends
    when it is closed. Thread-safe where the model is.

    Raises:
        InvalidOption: unless 1 <= least <= ahead.
    """

    def __init__(self, model: DraftModel, *, ahead: int = 8, least: int = 1) -> None:
        if not 1 <= least <= ahead:
            raise InvalidOption(f"least is {least} and ahead {ahead}; need 1 <= least <= ahead")
        self._model, self._ahead, self._least = model, ahead, least

    def __repr__(self) -> str:
        return f"Overlapped(ahead={self._ahead}, least={self._least})"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> OverlappedStream:
        """A stream after `prompt`, which begins to draft at once; nothing is shared."""
        return OverlappedStream(self._model.open(prompt), self._ahead, self._least)

    def close(self) -> None:
        """Nothing to release: whoever made the model closes it."""

    def pair(self, target_info: TargetInfo) -> None:
        """Raise PairMismatch where the model does not suit the target."""
        pair_models([self._model], target_info)


class OverlappedStream:
    """One sequence of an `Overlapped`, and the thread that drafts for it.

    kept, dropped: tokens drafted ahead that a verdict left usable, and that it made worthless.

    A child of fork() does not have the thread, which may have been in the middle of a pass: there
    the stream proposes nothing any more. Streams that are opened in the child are not concerned.
    """

    def __init__(self, seat: DraftSeat, ahead: int, least: int) -> None:
        self.kept = self.dropped = 0
        self._ahead, self._least = ahead, least
        self._chain: list[int] = []  # drafted since the seat's last `keep`
        self._probability: list[float] = []
        self._committed = 0  # how much of the chain is text by now
        self._text: list[int] = []  # all that was committed since the last `keep`
        self._back = False  # whether text and chain have parted
        self._closed = False
        self._failure: Exception | None = None
        self._room = seat.room
        self._process = getpid()
        self._turn = Condition()
        self._thread = Thread(target=self._draft, args=(seat,), name="draftwood-ahead", daemon=True)
        self._thread.start()

    def propose(self, budget: Budget) -> Draft:
        """What has been drafted so far, `least` tokens at least; drafting goes on meanwhile."""
        reach = min(budget.reach, self._ahead)
        if not reach or self._orphaned:
            return Draft.empty()
        least = min(self._least, reach)
        with self._turn:
            self._turn.wait_for(
                lambda: self._failure or self._waiting >= least or not self._can_draft
            )
            if self._failure is not None:
                raise self._failure
            part = slice(self._committed, self._committed + reach)
            tokens, probability = self._chain[part], self._probability[part]
        return Draft.chain(tokens, confidence=probability, source=SMALL_MODEL)

    def observe(self, feedback: Feedback) -> None:
        """Go on from what was drafted ahead, if it began with exactly the committed tokens."""
        if self._orphaned:
            return
        with self._turn:
            tokens = feedback.tokens.tolist()
            right = self._chain[self._committed : self._committed + len(tokens)] == tokens
            self._text += tokens
            if right and not self._back:
                self._committed += len(tokens)
                self.kept += self._waiting
            else:
                self.dropped += max(0, self._waiting - len(feedback.verdict.path))
                self._back = True
            if len(self._text) >= _LONG:
                self._back = True
            self._turn.notify_all()

    def close(self) -> None:
        """End the thread, once its pass is over, and give the cache back."""
        if self._orphaned:
            return
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._thread.join()

    @property
    def _orphaned(self) -> bool:
        """Whether the thread is another process's; what it holds, locks too, is not touched."""
        return getpid() != self._process

    @property
    def _waiting(self) -> int:
        """Drafted tokens that the target has not decided on; none while the chain is wrong."""
        return 0 if self._back else len(self._chain) - self._committed

    @property
    def _can_draft(self) -> bool:
        if self._back:
            return True
        room = self._room is None or len(self._chain) < self._room
        return room and self._waiting < self._ahead

    def _draft(self, seat: DraftSeat) -> None:
        """The thread: passes of the small model, one after the other; only it uses the seat."""
        nodes = 0  # of the chain, those that the seat holds
        try:
            while True:
                with self._turn:
                    self._turn.wait_for(lambda: self._closed or self._can_draft)
                    if self._closed:
                        return
                    text = self._turn_back() if self._back else None
                    last = self._chain[-1] if self._chain else None
                if text is not None:
                    seat.keep(np.arange(min(text[0], nodes), dtype=np.int32), text[1])
                    nodes = 0
                    with self._turn:
                        self._room = seat.room
                        self._turn.notify_all()
                    continue
                row = seat.root() if last is None else _row_after(seat, last, nodes - 1)
                nodes += last is not None
                token = int(np.argmax(row))
                with self._turn:
                    if not self._back:
                        self._chain.append(token)
                        self._probability.append(float(np.exp(row[token])))
                        self._turn.notify_all()
        except Exception as error:
            with self._turn:
                self._failure = error
                self._turn.notify_all()
        finally:
            seat.close()

    def _turn_back(self) -> tuple[int, TokenIds]:
        """Begin a new chain after the text: how much of the old one agrees, and the text."""
        text = np.array(self._text, dtype=np.int32)
        held = _common(self._chain, self._text)
        self._chain, self._probability, self._text = [], [], []
        self._committed, self._back = 0, False
        return held, text


def _row_after(seat: DraftSeat, token: int, parent: int) -> NDArray[np.float32]:
    """The row after one more node of the chain; its first node's parent is -1, which is ROOT."""
    row: NDArray[np.float32] = seat.expand(
        np.array([token], dtype=np.int32), np.array([parent], dtype=np.int32)
    )[0]
    return row


def _common(chain: Sequence[int], text: Sequence[int]) -> int:
    """How many tokens the two begin with alike."""
    for at, (drafted, true) in enumerate(zip(chain, text, strict=False)):
        if drafted != true:
            return at
    return min(len(chain), len(text))
