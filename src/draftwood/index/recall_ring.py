"""Recall: history as a ring of tokens and chains of places (native/include/draftwood/recall.h).

recall = Recall(max_tokens=1_000_000)                    # or Recall.open("history.recall")
recall.add(response_ids)                                 # the oldest tokens go as new ones come
with closing(RecallStream(recall, prompt_ids)) as stream:
    draft = stream.propose(Budget(nodes=32))
    stream.observe(next_ids)

`testing/twins/recall.py` says the same in slow Python.
"""

from __future__ import annotations

import hashlib
import os
import secrets

from numpy.typing import ArrayLike

from draftwood import _native
from draftwood.draft import NO_TOKENS, as_tokens
from draftwood.errors import HistoryError, InvalidOption

MIN_TOKENS, MAX_TOKENS = 256, 2**31


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

    quota: slots that each namespace may hold, in whole blocks of 64, so that none crowds out the
    others; what one adds beyond them is left out until others have overwritten some of its own. A
    request goes on to draft from its own text. None: any number.

    Thread-safe; streams draft while others add. What is added in one namespace is drafted only
    there.

    Raises:
        InvalidOption: max_tokens outside [256, 2**31], a seed that is none, a quota below 256.
    """

    def __init__(
        self,
        max_tokens: int = 1_000_000,
        *,
        seed: int | None = None,
        quota: int | None = None,
    ) -> None:
        self._handle: _native.Recall | None = _native.Recall(
            _check_tokens(max_tokens), _check_seed(seed), _check_quota(quota)
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
        quota: int | None = None,
    ) -> Recall:
        """Map the file at `path`; where there is none and `write` is set, create it.

        A file that is created takes all of its disk at once, so that a full disk is an error here
        and not later. In a child of fork() what the parent opened can be read, and is not written.

        One process writes a file, any number read it meanwhile (write=False) and see what is
        written. max_tokens: slots of a file that is created. fingerprint: 32 bytes of the tokenizer
        (`tokenizer_fingerprint`); a file of another one is refused. None: take any. seed: as in
        `Recall`, of a file that is created; it is kept in the file. quota: as in `Recall`, for what
        this writer adds; it is not kept.

        Raises:
            NotAHistory: a file of another kind.
            HistoryTooNew: a file of a later version of Draftwood.
            HistoryTruncated: a file that ends too early.
            HistoryMalformed: a file whose parts contradict one another.
            TokenizerMismatch: a file of another tokenizer than `fingerprint`.
            HistoryBusy: a file that another process writes.
            InvalidOption: a path that no file can have.
            OSError: a file that cannot be opened or locked, or a disk without room for it.
        """
        recall = cls.__new__(cls)
        recall._handle = _native.Recall.open(
            os.fsencode(path),
            write,
            _check_tokens(max_tokens),
            fingerprint,
            _check_seed(seed),
            _check_quota(quota),
        )
        return recall

    def add(self, tokens: ArrayLike, *, context: ArrayLike = NO_TOKENS, namespace: str = "") -> int:
        """Add one sequence; returns its number, for `remove`.

        context: what stands before the tokens and is itself not drafted, such as the prompt.

        Raises:
            InvalidTokens: for anything but token ids; nothing is added then.
            InvalidOption: where the file is open for reading only.
            HistoryTruncated: the file was cut while it was open.
            HistoryReplaced: it was removed, or another was put in its place, while it was open.
        """
        self._check_writable()
        ids, before = as_tokens(tokens), as_tokens(context)
        sequence = self.native.begin()
        self.native.add(sequence, namespace_key(namespace), before, ids)
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
        return self.native.remove(sequence)

    def remove_namespace(self, namespace: str) -> int:
        """Remove all of a namespace, as `remove` does a sequence; returns how many tokens it held.

        Its running requests share nothing from then on; those that begin later do.
        """
        self._check_writable()
        return self.native.remove_namespace(namespace_key(namespace))

    def flush(self) -> None:
        """Hand what was written and learned to the disk; nothing to do for one in memory."""
        self.native.flush()

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
    def native(self) -> _native.Recall:
        """The extension's object; HistoryError once closed."""
        if self._handle is None:
            raise HistoryError("this history is closed; open it again")
        return self._handle

    @property
    def capacity(self) -> int:
        """Slots."""
        return self.native.capacity

    @property
    def written(self) -> int:
        """Slots ever written; beyond `capacity`, old ones were overwritten."""
        return self.native.written

    def held(self, namespace: str = "") -> int:
        """Slots in blocks of a namespace, marks and blanks included: what its quota limits."""
        return self.native.held(namespace_key(namespace))

    @property
    def nbytes(self) -> int:
        """Bytes of memory or file, fixed at creation, and of what other namespaces learned.

        That is 0.2 MB for each of the 64 other namespaces that opened a request last.
        """
        return self.native.nbytes

    @property
    def writable(self) -> bool:
        """Whether sequences can be added; False for a file opened with write=False."""
        return self.native.writable

    @property
    def clean(self) -> bool:
        """Whether the last writer before this object ended well, so that all of it is on disk.

        True for a history that is new. False after a crash, of the process or of the machine: the
        file serves all the same, and a loss of power may have mixed old tokens with new ones.
        """
        return self.native.clean

    def __repr__(self) -> str:
        if self._handle is None:
            return "Recall(closed)"
        return f"Recall({min(self.written, self.capacity)} of {self.capacity} slots in use)"

    def _check_writable(self) -> None:
        if not self.native.writable:
            raise InvalidOption(
                "this history is for reading only here: opened with write=False, or by the parent "
                "of this process; open it for writing"
            )


def _check_seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbits(64)
    if not 0 <= seed < 2**64:
        raise InvalidOption(f"seed is {seed}; use 0 to {2**64 - 1}, or None for a random one")
    return seed


def _check_quota(quota: int | None) -> int:
    if quota is None:
        return 0
    if not MIN_TOKENS <= quota < 2**63:
        raise InvalidOption(
            f"quota is {quota}; use {MIN_TOKENS} or more slots, or None for no limit"
        )
    return quota


def _check_tokens(max_tokens: int) -> int:
    if not MIN_TOKENS <= max_tokens <= MAX_TOKENS:
        raise InvalidOption(f"max_tokens is {max_tokens}; use {MIN_TOKENS} to {MAX_TOKENS}")
    return max_tokens
