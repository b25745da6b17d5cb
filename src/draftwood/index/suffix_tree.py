"""The suffix tree of SuffixDecoding (arXiv 2411.04975): counts of what followed what.

The work is done in C++ (native/include/draftwood/suffix_tree.h); `testing/twins/suffix_tree.py`
says the same in a page of Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from numpy.typing import ArrayLike

from draftwood import _native
from draftwood.draft import MAX_TOKEN, TokenIds, as_tokens
from draftwood.errors import InvalidOption, UnknownSequence

Mode = Literal["linear", "tree"]
Counts = Literal["code", "paper"]
Guess = _native.SuffixDraft
"""A native draft: `tokens`, `parents`, `confidence`, `probability` ([n]), `score`, `match`.

`witness`: a sequence that says the match and the path to the last node; -1: none that is left, or
none was asked for (`SuffixPolicy.native`).
"""

MIN_DEPTH, MAX_DEPTH = 2, 4096
COMPACT_WORK = 20_000
"""Records that one call of `SuffixTree.compact` looks at."""
EVICT_TOKENS = 1024
"""Tokens that one call of `SuffixTree.evict` takes out: a millisecond or two."""


@dataclass(frozen=True, slots=True)
class SuffixPolicy:
    """How a context is continued.

    A match of p tokens is followed by at most alpha * p + offset nodes, none less probable than
    `floor`. mode: "linear" follows the most frequent child only, "tree" takes the most probable
    nodes anywhere in the tree. counts: what a child's count is divided by; "code" (as released):
    its parent's count, in which suffixes that end at the parent count too; "paper": the sum over
    the child and its siblings.

    Raises:
        InvalidOption: a value outside its range.
    """

    alpha: float = 1.0
    offset: float = 0.0
    floor: float = 0.1
    mode: Mode = "linear"
    counts: Counts = "code"

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1e6:
            raise InvalidOption(f"alpha is {self.alpha}; use 0 or more, such as 1 to 4")
        if not -1e6 <= self.offset <= 1e6:
            raise InvalidOption(f"offset is {self.offset}; use a number of tokens, such as 0")
        if not 0.0 <= self.floor <= 1.0:
            raise InvalidOption(f"floor is {self.floor}; use a probability from 0 to 1")
        if self.mode not in get_args(Mode):
            raise InvalidOption(f"mode is {self.mode!r}; use 'linear' or 'tree'")
        if self.counts not in get_args(Counts):
            raise InvalidOption(f"counts is {self.counts!r}; use 'code' or 'paper'")

    def native(self, *, witness: bool = True) -> _native.SuffixPolicy:
        """As a native policy. witness: whether drafts name a sequence that holds them."""
        return _native.SuffixPolicy(
            alpha=self.alpha,
            offset=self.offset,
            floor=self.floor,
            tree=self.mode == "tree",
            paper=self.counts == "paper",
            witness=witness,
        )


def check_depth(depth: int) -> int:
    """`depth`, if a tree can have it.

    Raises:
        InvalidOption: for a depth outside [2, 4096].
    """
    if not MIN_DEPTH <= depth <= MAX_DEPTH:
        raise InvalidOption(
            f"depth is {depth}; use {MIN_DEPTH} to {MAX_DEPTH} tokens, such as 24 or 64"
        )
    return depth


class SuffixTree:
    """Counts every suffix of every sequence, cut at `depth` tokens.

    Sequences grow token by token, side by side; appending costs O(depth) at worst, and less where
    the text is new. Safe to use from several threads: any number speculate while one changes it;
    all calls release the GIL.
    """

    def __init__(self, depth: int = 64) -> None:
        self.native = _native.SuffixTree(check_depth(depth))

    def begin(self, tokens: ArrayLike = ()) -> int:
        """A new sequence, which begins with `tokens`; returns its number, never given out twice."""
        sequence = self.native.begin()
        self.extend(sequence, tokens)
        return sequence

    def extend(self, sequence: int, tokens: ArrayLike) -> None:
        """Append `tokens` (int, [n]) to a sequence.

        Raises:
            InvalidTokens: ids that are none; nothing is appended then.
            UnknownSequence: a number that no sequence of this tree has.
        """
        ids = as_tokens(tokens)
        try:
            self.native.extend(sequence, ids)
        except IndexError:
            raise UnknownSequence(sequence) from None

    def finish(self, sequence: int) -> None:
        """Free what only a growing sequence needs; extending it later is possible, but slow.

        Raises:
            UnknownSequence: a number that no sequence of this tree has.
        """
        try:
            self.native.finish(sequence)
        except IndexError:
            raise UnknownSequence(sequence) from None

    def remove(self, sequence: int) -> None:
        """Remove a sequence, and with it the suffixes that no other sequence has.

        Raises:
            UnknownSequence: a number that no sequence of this tree has.
        """
        try:
            self.native.remove(sequence)
        except IndexError:
            raise UnknownSequence(sequence) from None

    def evict(self, sequence: int, *, tokens: int = EVICT_TOKENS) -> bool:
        """Remove the next `tokens` tokens of a sequence; True when all of it is gone.

        Removes a long sequence in slices of a few milliseconds. After the first call only `evict`
        and `remove` accept the sequence; what is left of it may be drafted until it is gone.

        Raises:
            UnknownSequence: a number that no sequence of this tree has.
        """
        try:
            return self.native.evict(sequence, tokens)
        except IndexError:
            raise UnknownSequence(sequence) from None

    def speculate(
        self,
        context: ArrayLike,
        policy: SuffixPolicy | _native.SuffixPolicy,
        *,
        nodes: int = 32,
        reach: int | None = None,
    ) -> Guess:
        """The draft of the highest score over all suffixes of `context` that the tree holds.

        Of suffixes, only those shorter than the depth are looked for. Of equal scores the longer
        match wins. nodes: drafted tokens in all. reach: tokens on one path (None: as `nodes`).
        """
        reach = nodes if reach is None else reach
        try:  # no look at the ids: one that is none matches nothing
            return self.native.speculate(context, policy, nodes, reach)  # type: ignore[arg-type]
        except TypeError:  # no contiguous int32 array, or no native policy
            native = policy.native() if isinstance(policy, SuffixPolicy) else policy
        return self.native.speculate(as_tokens(context), native, nodes, reach)

    def count(self, pattern: ArrayLike) -> int:
        """How many suffixes begin with `pattern`; 0 for one longer than the depth."""
        return self.native.count(as_tokens(pattern))

    def extents(self) -> dict[int, int]:
        """A snapshot of all sequences and their lengths in tokens."""
        flat = self.native.extents().tolist()
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def text(self, sequence: int, *, most: int = MAX_TOKEN) -> TokenIds:
        """int32 [n]: the first tokens of a sequence, at most `most`.

        Raises:
            UnknownSequence: a number that no sequence of this tree has.
        """
        try:
            return self.native.text(sequence, most)
        except IndexError:
            raise UnknownSequence(sequence) from None

    def compact(self) -> bool:
        """Do a slice of the work that frees unused memory; True when nothing is left to do.

        One call takes a millisecond or two. Compaction begins once a quarter of the memory is
        unused.
        """
        return self.native.compact(COMPACT_WORK)

    def check(self) -> str:
        """Walk the whole tree: "" where its invariants hold, else the first that does not."""
        return self.native.check()

    @property
    def depth(self) -> int:
        """Tokens of a suffix that are kept."""
        return self.native.depth

    @property
    def tokens(self) -> int:
        """Tokens in all sequences, including what is left of those being evicted."""
        return self.native.tokens

    @property
    def sequences(self) -> int:
        """Sequences in the tree."""
        return self.native.sequences

    @property
    def nodes(self) -> int:
        """Records of the tree; a suffix that occurs once needs none."""
        return self.native.nodes

    @property
    def idle(self) -> int:
        """Unused bytes of `nbytes`, which the tree uses first when it grows."""
        return self.native.idle

    @property
    def nbytes(self) -> int:
        """Bytes requested from the allocator, exactly."""
        return self.native.nbytes
