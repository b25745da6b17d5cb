"""A request that drafts from Recall, and calls for many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from draftwood import _native
from draftwood.draft import NO_TOKENS, Budget, Draft, TokenIds, as_tokens
from draftwood.errors import InvalidOption
from draftwood.index.recall_ring import Recall, namespace_key
from draftwood.index.token_texts import TokenTexts
from draftwood.protocols import Feedback, Top
from draftwood.sampling.ranking import likely_tokens

Mode = Literal["tree", "chain"]
LIKELY = 8
"""Of each row, the target's likeliest tokens that are kept."""
MOST_NODES = 2**16 - 1
"""The largest draft that there is."""


@dataclass(frozen=True, slots=True)
class RecallPolicy:
    """How a stream drafts.

    mode: "tree" takes the most probable nodes wherever they are, "chain" the most probable
    continuation only. floor: no node that is less likely to be accepted than this, in [0, 1]; best
    at what a drafted token costs, in steps. share: generated tokens after which they are added to
    shared history, without waiting for the end of the request. nodes: the largest draft, whatever
    a budget allows. recycle: whether the target's likeliest tokens at each position that it
    verified are kept as evidence, where feedback has its rows (Token Recycling, arXiv 2408.08696).

    Raises:
        InvalidOption: a value outside its range.
    """

    mode: Mode = "tree"
    floor: float = 0.0
    share: int = 256
    nodes: int = MOST_NODES
    recycle: bool = True

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InvalidOption(f"mode is {self.mode!r}; use 'tree' or 'chain'")
        if not 0.0 <= self.floor <= 1.0:
            raise InvalidOption(f"floor is {self.floor}; use a probability from 0 to 1")
        if not 1 <= self.share < 2**31:
            raise InvalidOption(f"share is {self.share}; use 1 or more tokens, such as 256")
        if not 0 <= self.nodes <= MOST_NODES:
            raise InvalidOption(f"nodes is {self.nodes}; use 0 to {MOST_NODES}, such as 32")


class RecallStream:
    """One request: a small ring over its prompt and output, its place in the text, its drafts.

    predictions: likely answers, token ids each. Drafts may enter and leave one at any token; it is
    never shared. texts: of the tokens, so that an answer that says the same as a prediction in
    other tokens is followed, too. `len` of a stream is the number of tokens of prompt and output.
    Used by one thread at a time.

    Raises:
        InvalidTokens: a prompt or a prediction of anything but token ids.
    """

    __slots__ = ("_nodes", "_recycle", "native", "recall")

    def __init__(
        self,
        recall: Recall,
        prompt: ArrayLike = NO_TOKENS,
        *,
        namespace: str = "",
        policy: RecallPolicy | None = None,
        predictions: Sequence[ArrayLike] = (),
        texts: TokenTexts | None = None,
    ) -> None:
        chosen = policy or RecallPolicy()
        self.recall = recall
        self._nodes = chosen.nodes
        self._recycle = chosen.recycle
        self.native = _native.RecallRequest(
            recall.native,
            as_tokens(prompt),
            name=namespace_key(namespace),
            chain=chosen.mode == "chain",
            floor=chosen.floor,
            share=chosen.share,
            predictions=[as_tokens(each) for each in predictions],
            texts=texts,
        )

    def propose(self, budget: Budget | int) -> Draft:
        """The nodes most likely to be accepted, best first; the stream itself does not move.

        budget: an int stands for so many nodes.
        """
        if isinstance(budget, int):
            budget = Budget(budget)
        nodes = min(budget.nodes, self._nodes)
        guess = self.native.propose(nodes, min(budget.reach, nodes), budget.floor)
        if not len(guess):
            return Draft.empty()
        return Draft.trusted(guess.tokens, guess.parents, guess.confidence, guess.sources)

    def observe(self, feedback: Feedback | ArrayLike) -> None:
        """Move past what was generated, and learn from it how good the last draft was.

        The tokens alone are enough: the stream knows what it drafted. Rows tell it more.
        """
        if isinstance(feedback, Feedback):
            self.hear(feedback)
            self.native.observe(feedback.tokens)
        else:
            self.native.observe(as_tokens(feedback))

    def hear(self, feedback: Feedback) -> None:
        """Keep what the target said about the whole verified draft; the stream does not move.

        `observe` does it, too; a call for many streams does not.
        """
        told = feedback.verified or feedback
        if not self._recycle or told.rows is None:
            return
        top = likely_tokens(told.rows, len(told.draft) + 1, LIKELY)
        if top is None:
            self._recycle = False  # a target without logits, such as a recorded trace
        else:
            self.keep_rows(told.draft, top)

    def keep_rows(self, draft: Draft, top: Top) -> None:
        """Keep what the target said about a draft that it verified, before `observe`.

        top: its likeliest tokens after the context and after each node. They are evidence for all
        requests of the namespace, in memory only.

        Raises:
            InvalidOption: arrays of other lengths than the draft's.
        """
        self.native.keep_rows(draft.tokens, draft.parents, top.tokens, top.logprobs)

    def close(self) -> None:
        """Share what is left and give the memory back; a second call does nothing."""
        self.native.close()

    def abandon(self) -> None:
        """Give the memory back and share nothing more."""
        self.native.abandon()

    def __len__(self) -> int:
        return self.native.length

    @property
    def sequence(self) -> int:
        """The number of the output in shared history, for `Recall.remove`; 0: not there yet."""
        return self.native.sequence

    @property
    def nbytes(self) -> int:
        """Bytes held: the request's own ring, its last draft and what that was judged by."""
        return self.native.nbytes

    @property
    def nodes(self) -> int:
        """The largest draft, whatever a budget allows."""
        return self._nodes


def propose_all(
    streams: Sequence[RecallStream], budgets: Sequence[Budget], *, threads: int = 1
) -> list[Draft]:
    """What `propose` gives for each of many different streams: one native call.

    threads: that the call may use. The drafts' arrays are parts of common ones. A closed stream has
    an empty draft.

    Raises:
        InvalidOption: what is no stream, a stream that stands there twice, streams of several
            histories.
    """
    natives = _natives(streams)
    nodes = [min(budget.nodes, each.nodes) for budget, each in zip(budgets, streams, strict=True)]
    reach = [min(budget.reach, most) for budget, most in zip(budgets, nodes, strict=True)]
    floors = [budget.floor for budget in budgets]
    tokens, parents, confidence, sources, offsets = _native.propose_all(
        natives,
        np.array(nodes, np.uint32),
        np.array(reach, np.uint32),
        np.array(floors, np.float32),
        threads,
    )
    empty = Draft.empty()
    return [
        Draft.trusted(
            tokens[first:last], parents[first:last], confidence[first:last], sources[first:last]
        )
        if last > first
        else empty
        for first, last in pairwise(offsets.tolist())
    ]


def observe_all(
    streams: Sequence[RecallStream], tokens: Sequence[TokenIds], *, threads: int = 1
) -> None:
    """Move many different streams, each past its own tokens, in one native call.

    What is learned and shared is what it would be if they moved one after the other. A closed
    stream stays as it is.

    Raises:
        InvalidOption: as `propose_all`; nothing moves then.
        InvalidTokens: for anything but token ids; nothing moves then.
    """
    offsets = np.zeros(len(tokens) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in tokens], out=offsets[1:])
    joined = np.concatenate(tokens) if len(tokens) else NO_TOKENS
    _native.observe_all(_natives(streams), as_tokens(joined), offsets, threads)


def _natives(streams: Sequence[RecallStream]) -> list[_native.RecallRequest]:
    for each in streams:
        if not isinstance(each, RecallStream):
            raise InvalidOption(
                f"a batch call got {each!r}, which is no stream; pass RecallStreams"
            )
    return [each.native for each in streams]
