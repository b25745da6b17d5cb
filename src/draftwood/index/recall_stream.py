"""A request that drafts from Recall, and calls for many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draftwood import _native
from draftwood.draft import NO_TOKENS, TokenIds, as_tokens
from draftwood.errors import InvalidOption
from draftwood.index.recall_ring import Recall, namespace_key
from draftwood.index.token_texts import TokenTexts

Mode = Literal["tree", "chain"]
RecallGuess = _native.RecallDraft
"""A native draft: `tokens`, `parents`, `confidence`, `probability`, `sources` ([n]), `score`.

sources: `OWN`, `SHARED` and `PREDICTED` of draftwood.sources.
"""


@dataclass(frozen=True, slots=True)
class RecallPolicy:
    """How a stream drafts.

    mode: "tree" takes the most probable nodes wherever they are, "chain" the most probable
    continuation only. floor: no node that is less likely to be accepted than this, in [0, 1]; best
    at what a drafted token costs, in steps. share: generated tokens after which they are added to
    shared history, without waiting for the end of the request.

    Raises:
        InvalidOption: a value outside its range.
    """

    mode: Mode = "tree"
    floor: float = 0.0
    share: int = 256

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InvalidOption(f"mode is {self.mode!r}; use 'tree' or 'chain'")
        if not 0.0 <= self.floor <= 1.0:
            raise InvalidOption(f"floor is {self.floor}; use a probability from 0 to 1")
        if not 1 <= self.share < 2**31:
            raise InvalidOption(f"share is {self.share}; use 1 or more tokens, such as 256")


class RecallStream:
    """One request: a small ring over its prompt and output, its place in the text, its drafts.

    predictions: likely answers, token ids each. Drafts may enter and leave one at any token; it is
    never shared. texts: of the tokens, so that an answer that says the same as a prediction in
    other tokens is followed, too. `len` of a stream is the number of tokens of prompt and output.
    Used by one thread at a time.

    Raises:
        InvalidTokens: a prompt or a prediction of anything but token ids.
    """

    __slots__ = ("native", "recall")

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

    def propose(
        self, nodes: int = 32, reach: int | None = None, *, floor: float = 0.0
    ) -> RecallGuess:
        """At most `nodes` nodes, no path longer than `reach`; the stream does not move.

        floor: no node less likely to be accepted than this, nor than the policy's floor.
        """
        return self.native.propose(nodes, nodes if reach is None else reach, floor)

    def observe(self, tokens: ArrayLike) -> None:
        """Move past tokens, and learn from them how good the last draft was."""
        self.native.observe(as_tokens(tokens))

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


@dataclass(frozen=True, slots=True, eq=False)
class Drafts:
    """Drafts of n streams, end to end; draft i is [offsets[i] : offsets[i + 1]] of each array.

    tokens, parents: int32. confidence: float32. sources: uint8. offsets: int64 [n + 1].
    """

    tokens: TokenIds
    parents: NDArray[np.int32]
    confidence: NDArray[np.float32]
    sources: NDArray[np.uint8]
    offsets: NDArray[np.int64]


def propose_all(
    streams: Sequence[RecallStream],
    nodes: int | ArrayLike = 32,
    *,
    reach: int | ArrayLike | None = None,
    floor: float | ArrayLike = 0.0,
    threads: int = 1,
) -> Drafts:
    """Drafts of many different streams in one native call, on up to `threads` threads.

    nodes, reach, floor: as in `RecallStream.propose`; one for all, or one a stream. A closed stream
    has an empty draft.

    Raises:
        InvalidOption: what is no stream, a stream that stands there twice, streams of several
            histories.
    """
    n = len(streams)
    return Drafts(
        *_native.propose_all(
            _natives(streams),
            _each(nodes, n, np.uint32),
            _each(nodes if reach is None else reach, n, np.uint32),
            _each(floor, n, np.float32),
            threads,
        )
    )


def _each(value: ArrayLike, count: int, kind: type[np.generic]) -> NDArray[Any]:
    """`count` values: those given, or one repeated."""
    array = np.asarray(value, dtype=kind)
    return np.full(count, array) if array.ndim == 0 else np.ascontiguousarray(array)


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
