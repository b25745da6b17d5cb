"""Recall: history as a ring of tokens and chains of places (native/include/draftwood/recall.h).

recall = Recall(max_tokens=1_000_000)                    # or Recall.open("history.recall")
recall.add(response_ids)                                 # the oldest tokens go as new ones come
with closing(RecallStream(recall, prompt_ids)) as stream:
    guess = stream.propose(nodes=32)
    stream.observe(next_ids)

`testing/twins/recall.py` says the same in slow Python.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draftwood import _native
from draftwood.draft import NO_TOKENS, TokenIds, as_tokens
from draftwood.errors import HistoryError, InvalidOption

Mode = Literal["tree", "chain"]
RecallGuess = _native.RecallDraft
"""A native draft: `tokens`, `parents`, `confidence`, `probability`, `sources` ([n]), `score`.

sources: `OWN`, `SHARED` and `PREDICTED` of draftwood.sources.
"""
MIN_TOKENS, MAX_TOKENS = 256, 2**31


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


def namespace_key(namespace: str) -> int:
    """The 64 bits by which the index knows a namespace: BLAKE2b of its UTF-8 bytes."""
    digest = hashlib.blake2b(namespace.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def fingerprint_of(path: str | os.PathLike[str]) -> bytes:
    """The 32 bytes of the tokenizer in the header of a Recall file; all zero: not known.

    Raises:
        OSError: a file that cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(64)[32:].ljust(32, b"\0")


class Recall:
    """History that requests share: a fixed number of tokens, the oldest overwritten by the newest.

    max_tokens: slots, rounded down to a multiple of 64; a sequence takes up to 10 beside its
    tokens. About 25 bytes a slot, all counted by `nbytes` and none added later.

    seed: 0 to 2**64 - 1; where contexts are kept depends on it, so that nobody who does not know it
    can choose texts that crowd out others. None: drawn at random. Equal seed, history, namespace
    and budget: equal draft.

    Thread-safe; streams draft while others add. What is added in one namespace is drafted only
    there.

    Raises:
        InvalidOption: max_tokens outside [256, 2**31], or a seed that is none.
    """

    def __init__(self, max_tokens: int = 1_000_000, *, seed: int | None = None) -> None:
        self._handle: _native.Recall | None = _native.Recall(
            _check_tokens(max_tokens), _check_seed(seed)
        )

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        write: bool = True,
        max_tokens: int = 1_000_000,
        fingerprint: bytes | None = None,
        seed: int | None = None,
    ) -> Recall:
        """Map the file at `path`; where there is none and `write` is set, create it.

        A file that is created takes all of its disk at once, so that a full disk is an error here
        and not later. In a child of fork() what the parent opened can be read, and is not written.

        One process writes a file, any number read it meanwhile (write=False) and see what is
        written. max_tokens: slots of a file that is created. fingerprint: 32 bytes of the tokenizer
        (`tokenizer_fingerprint`); a file of another one is refused. None: take any. seed: as in
        `Recall`, of a file that is created; it is kept in the file.

        Raises:
            NotAHistory, HistoryTooNew, HistoryTruncated, HistoryMalformed, TokenizerMismatch,
            HistoryBusy (another process writes it): all of them HistoryError.
            InvalidOption: a path that no file can have.
            OSError: a file that cannot be opened or locked, or a disk without room for it.
        """
        recall = cls.__new__(cls)
        recall._handle = _native.Recall.open(
            os.fsencode(path), write, _check_tokens(max_tokens), fingerprint, _check_seed(seed)
        )
        return recall

    def add(self, tokens: ArrayLike, *, context: ArrayLike = NO_TOKENS, namespace: str = "") -> int:
        """Add one sequence; returns its number, for `remove`.

        context: what stands before the tokens and is itself not drafted, such as the prompt.

        Raises:
            InvalidTokens: for anything but token ids; nothing is added then.
            InvalidOption: where the file is open for reading only.
            HistoryTruncated, HistoryReplaced: somebody cut the file, removed it or put another in
                its place while it was open.
        """
        self._check_writable()
        ids, before = as_tokens(tokens), as_tokens(context)
        sequence = self._native.begin()
        self._native.add(sequence, namespace_key(namespace), before, ids)
        return sequence

    def remove(self, sequence: int) -> int:
        """Remove a sequence, at once and for good; a number that is not held removes nothing.

        Nothing in memory or file tells afterwards what its tokens were, and what was learned about
        single tokens is forgotten. A request that is running shares nothing from then on.

        Returns how many tokens that were, context that was repeated before them included. Takes a
        few passes over the history, up to 0.3 s for a million slots; others add and draft
        meanwhile.
        """
        self._check_writable()
        return self._native.remove(sequence)

    def remove_namespace(self, namespace: str) -> int:
        """Remove all of a namespace, as `remove` does a sequence; returns how many tokens it held.

        Its running requests share nothing from then on; those that begin later do.
        """
        self._check_writable()
        return self._native.remove_namespace(namespace_key(namespace))

    def flush(self) -> None:
        """Hand what was written and learned to the disk; nothing to do for one in memory."""
        self._native.flush()

    def close(self) -> None:
        """Write down what was learned and let go of the file, which can then be opened again.

        Close the streams first: one that is still in use holds the file. A second call does
        nothing; any other use raises HistoryError.
        """
        if self._handle is not None:
            try:
                self.flush()
            finally:
                self._handle = None

    @property
    def _native(self) -> _native.Recall:
        if self._handle is None:
            raise HistoryError("this history is closed; open it again")
        return self._handle

    @property
    def capacity(self) -> int:
        """Slots."""
        return self._native.capacity

    @property
    def written(self) -> int:
        """Slots ever written; beyond `capacity`, old ones were overwritten."""
        return self._native.written

    @property
    def nbytes(self) -> int:
        """Bytes of memory or file, fixed at creation, and of what other namespaces learned.

        That is 0.14 MB for each of the 64 other namespaces that opened a request last.
        """
        return self._native.nbytes

    @property
    def writable(self) -> bool:
        """Whether sequences can be added; False for a file opened with write=False."""
        return self._native.writable

    @property
    def clean(self) -> bool:
        """Whether the last writer before this object ended well, so that all of it is on disk.

        True for a history that is new. False after a crash, of the process or of the machine: the
        file serves all the same, and a loss of power may have mixed old tokens with new ones.
        """
        return self._native.clean

    def _check_writable(self) -> None:
        if not self._native.writable:
            raise InvalidOption(
                "this history is for reading only here: opened with write=False, or by the parent "
                "of this process; open it for writing"
            )


class RecallStream:
    """One request: a small ring over its prompt and output, its place in the text, its drafts.

    predictions: likely answers, token ids each. Drafts may enter and leave one at any token; it is
    never shared. `len` of a stream is the number of tokens of prompt and output. Used by one thread
    at a time.

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
    ) -> None:
        chosen = policy or RecallPolicy()
        self.recall = recall
        self.native = _native.RecallRequest(
            recall._native,
            as_tokens(prompt),
            name=namespace_key(namespace),
            chain=chosen.mode == "chain",
            floor=chosen.floor,
            share=chosen.share,
            predictions=[as_tokens(each) for each in predictions],
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


def _check_seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbits(64)
    if not 0 <= seed < 2**64:
        raise InvalidOption(f"seed is {seed}; use 0 to {2**64 - 1}, or None for a random one")
    return seed


def _check_tokens(max_tokens: int) -> int:
    if not MIN_TOKENS <= max_tokens <= MAX_TOKENS:
        raise InvalidOption(f"max_tokens is {max_tokens}; use {MIN_TOKENS} to {MAX_TOKENS}")
    return max_tokens
