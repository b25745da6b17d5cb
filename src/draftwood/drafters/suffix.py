"""SuffixDecoding (arXiv 2411.04975): drafts what followed the last tokens in earlier text.

Two trees are asked at each step, and the draft of the higher score is taken: one over the outputs
of all requests (never their prompts), fed token by token as they run, and one over this request's
prompt and output.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from draftwood import _native
from draftwood.draft import Budget, Draft, TokenIds, as_tokens
from draftwood.errors import InvalidOption
from draftwood.index.fingerprint import require_tokenizer, vocab_fingerprint
from draftwood.index.limits import Evict, Limits
from draftwood.index.store import History, HistoryInfo
from draftwood.index.suffix_file import save_outputs, warm_outputs
from draftwood.index.suffix_history import SuffixHistory
from draftwood.index.suffix_tree import (
    Counts,
    Guess,
    Mode,
    SuffixPolicy,
    SuffixTree,
    check_depth,
)
from draftwood.protocols import Feedback, TargetInfo
from draftwood.sources import SUFFIX_OWN as OWN
from draftwood.sources import SUFFIX_SHARED as SHARED

_NATIVE_SHARED = 1
"""What the native code calls the tree over all requests; the request's own is 0."""

MAX_NODES = 2**15

_SOURCES = tuple(np.full(MAX_NODES, each, dtype=np.uint8) for each in (OWN, SHARED))
for _each in _SOURCES:
    _each.flags.writeable = False


class SuffixDrafter:
    """SuffixDecoding: trees of past outputs; the policy of the released code by default.

    alpha, offset, floor, mode, counts: see `SuffixPolicy`. depth: tokens of a suffix that the trees
    keep; a draft after a match of p tokens is at most depth - p long. nodes: the largest draft.
    max_requests, max_tokens, max_bytes, evict: how many outputs of finished requests are kept, and
    which leave first; see `Limits`. Limits are enforced when a request ends. history: a history
    file to begin with. threads: that a batch call uses.

    Thread-safe: streams of one drafter may be used from several threads, each stream by one at a
    time. What a request generates is drafted for requests of its namespace only.

    Raises:
        InvalidOption: a value outside its range.
        HistoryError: a file that is no history, or a damaged one.
        OSError: a file that cannot be read.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        offset: float = 0.0,
        floor: float = 0.1,
        depth: int = 64,
        mode: Mode = "linear",
        nodes: int = 32,
        counts: Counts = "code",
        max_requests: int | None = None,
        max_tokens: int | None = None,
        max_bytes: int | None = None,
        evict: Evict = "fifo",
        threads: int = 2,
        history: str | None = None,
    ) -> None:
        if not 0 <= nodes <= MAX_NODES:
            raise InvalidOption(f"nodes is {nodes}; use 0 to {MAX_NODES}, such as 32")
        if not 1 <= threads <= 1024:
            raise InvalidOption(f"threads is {threads}; use 1 to 1024, such as 2")
        self.policy = SuffixPolicy(alpha, offset, floor, mode, counts)
        self.native_policy = self.policy.native(witness=evict == "lru")
        self.depth = check_depth(depth)
        self.nodes = nodes
        self.history = SuffixHistory(depth, Limits(max_requests, max_tokens, max_bytes, evict))
        self._threads = _native.ThreadPool(threads)
        self._opened: tuple[str, bytes] | None = None
        if history is not None:
            opened = History.open(os.path.expanduser(history))
            self._opened = history, opened.info.fingerprint
            self.warm(opened)

    def shared(self, namespace: str = "") -> SuffixTree:
        """The tree over the outputs of a namespace; an empty one at first."""
        return self.history.tree(namespace)

    def __repr__(self) -> str:
        mode, floor = self.policy.mode, self.policy.floor
        return f"SuffixDrafter(mode={mode!r}, nodes={self.nodes}, floor={floor})"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> SuffixStream:
        """A stream that stands after `prompt`; it joins the namespace's shared tree.

        prediction: likely answers, which only the request's own tree learns.
        """
        return SuffixStream(self, prompt, namespace, prediction)

    def pair(self, target_info: TargetInfo) -> None:
        """Raise TokenizerMismatch where the history file is of another tokenizer.

        What `save` writes from now on names the target's tokenizer.
        """
        if self._opened is not None:
            require_tokenizer(*self._opened, target_info.vocab)
        if self.history.fingerprint is None and target_info.vocab is not None:
            self.history.fingerprint = vocab_fingerprint(target_info.vocab)

    def close(self) -> None:
        """Nothing to release: the history is in memory."""

    def propose_all(
        self, streams: Sequence[SuffixStream], budgets: Budget | Sequence[Budget]
    ) -> list[Draft]:
        """What `propose` gives for each of this drafter's streams: one native call, many threads.

        budgets: one for all, or one a stream. A closed stream has an empty draft.
        """
        found = _native.suffix_propose_all(
            self._natives(streams),
            *self._limits(budgets, len(streams)),
            self._threads,
        )
        drafts = [Draft.empty() if each is None else _draft(*each[:4]) for each in found]
        if self.history.limits.evict == "lru":
            for stream, each in zip(streams, found, strict=True):
                if each is not None and each[3][0] == _NATIVE_SHARED:
                    self.history.touch(stream.namespace, each[4])
        return drafts

    def _limits(
        self, budgets: Budget | Sequence[Budget], size: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """The most nodes, the longest path and the floor for each of `size` streams."""
        if isinstance(budgets, Budget):
            return (
                np.full(size, min(budgets.nodes, self.nodes), dtype=np.int32),
                np.full(size, min(budgets.reach, self.nodes), dtype=np.int32),
                np.full(size, budgets.floor, dtype=np.float32),
            )
        return (
            np.array([min(each.nodes, self.nodes) for each in budgets], dtype=np.int32),
            np.array([min(each.reach, self.nodes) for each in budgets], dtype=np.int32),
            np.array([each.floor for each in budgets], dtype=np.float32),
        )

    def observe_all(self, streams: Sequence[SuffixStream], feedback: Sequence[Feedback]) -> None:
        """What `observe` does for each of this drafter's streams, which must be different ones.

        A closed stream stays as it is.
        """
        tokens = [each.tokens for each in feedback]
        offsets = np.zeros(len(tokens) + 1, dtype=np.int64)
        np.cumsum([len(each) for each in tokens], out=offsets[1:])
        flat = np.concatenate(tokens) if tokens else np.empty(0, dtype=np.int32)
        natives = self._natives(streams)
        _native.suffix_observe_all(natives, as_tokens(flat), offsets, self._threads)
        if self.history.limits.any:
            self.history.grow(len(flat))

    def _natives(self, streams: Sequence[SuffixStream]) -> list[_native.SuffixStream]:
        found = []
        for each in streams:
            if not isinstance(each, SuffixStream) or each._history is not self.history:
                raise InvalidOption(
                    f"a batch call got {each!r}, which is no stream of this drafter; "
                    "pass what its open() gave"
                )
            found.append(each.native)
        return found

    def remove(self, sequence: int) -> None:
        """Forget a request's output, running or finished, by the number in `SuffixStream.sequence`.

        What a running request generates afterwards is not shared. What it generated before may
        still be in drafts already made, in saved files, and in other requests with the same text.

        Raises:
            UnknownSequence: a request that was removed or evicted, or had no output.
        """
        self.history.remove(sequence)

    def warm(self, history: History) -> int:
        """Add the sequences of a file as if requests had generated them; returns how many were.

        They keep their namespaces and times. Of a file beyond the limits: the newest that fit.

        Raises:
            TokenizerMismatch: a file of another tokenizer than that of one added before.
        """
        return warm_outputs(self.history, history)

    def save(
        self, path: str | os.PathLike[str], *, fingerprint: bytes | None = None
    ) -> HistoryInfo:
        """Write all outputs, finished and running, as they are at one instant; decoding goes on.

        fingerprint: of the tokenizer (`tokenizer_fingerprint`); None: that of the warm start.

        Raises:
            OSError: the file cannot be written; what stood at the path still stands there.
        """
        return save_outputs(self.history, os.fspath(path), fingerprint=fingerprint)

    @property
    def nbytes(self) -> int:
        """Bytes held by the shared trees of all namespaces."""
        return self.history.nbytes


class SuffixStream:
    """One request's suffix trees and its position in them. Used by one thread at a time.

    namespace: whose outputs it drafts from. native: the extension's stream. sequence: the
    request's number, for `SuffixDrafter.remove`.
    """

    __slots__ = (
        "_history",
        "_limited",
        "_lru",
        "_nodes",
        "_open",
        "_prompted",
        "namespace",
        "native",
        "sequence",
    )

    def __init__(
        self,
        drafter: SuffixDrafter,
        prompt: TokenIds,
        namespace: str,
        prediction: Sequence[TokenIds] = (),
    ) -> None:
        """Use `SuffixDrafter.open`."""
        self._history = drafter.history
        self._lru = drafter.history.limits.evict == "lru"
        self._limited = drafter.history.limits.any
        self._nodes = drafter.nodes
        self._open = True
        self.namespace = namespace
        likely = [as_tokens(each) for each in prediction]
        ids = as_tokens(prompt)
        self._prompted = len(ids)
        self.sequence, shared = drafter.history.begin(namespace)
        try:
            self.native = _native.SuffixStream(shared.native, ids, drafter.native_policy, likely)
        except BaseException:
            drafter.history.end(self.sequence, 0)
            raise
        drafter.history.name(self.sequence, self.native.sequence)

    def guess(self, budget: Budget) -> Guess:
        """The native draft of the tree with the higher score; ties: the request's own tree."""
        nodes = min(budget.nodes, self._nodes)
        return self.native.guess(nodes, min(budget.reach, nodes), budget.floor)

    def propose(self, budget: Budget) -> Draft:
        """The draft of the highest score; the stream itself does not move."""
        nodes = min(budget.nodes, self._nodes)
        found = self.native.propose(nodes, min(budget.reach, nodes), budget.floor)
        if found is None:
            return Draft.empty()
        tokens, parents, confidence, source, witness = found
        if self._lru and source[0] == _NATIVE_SHARED:
            self._history.touch(self.namespace, witness)
        return _draft(tokens, parents, confidence, source)

    def observe(self, feedback: Feedback | TokenIds) -> None:
        """Append what was generated to both trees; the tokens alone are enough."""
        tokens = feedback.tokens if isinstance(feedback, Feedback) else feedback
        try:
            self.native.observe(tokens)
        except TypeError:  # no int32 array
            self.native.observe(as_tokens(tokens))
        except ValueError:
            as_tokens(tokens)  # says what is wrong with an id
            raise
        if self._limited:
            self._history.grow(len(tokens))

    def __len__(self) -> int:
        return self._prompted + self.native.generated

    def close(self) -> None:
        """End the request: its own tree is dropped, its output stays in the shared one."""
        if self._open:
            self._open = False
            generated = self.native.generated
            self.native.close()
            self._history.end(self.sequence, generated)

    def abandon(self) -> None:
        """End the request and take all its output out of the shared tree, where it stood at once.

        It takes about as long as it took to observe the output.
        """
        if self._open:
            self._open = False
            self.native.close()
            self._history.abandon(self.sequence)


def _draft(
    tokens: TokenIds,
    parents: NDArray[np.int32],
    confidence: NDArray[np.float32],
    source: NDArray[np.uint8],
) -> Draft:
    """A native draft, which is all of one tree, with the package's number of that tree."""
    return Draft.trusted(tokens, parents, confidence, _SOURCES[source[0]][: len(tokens)])
