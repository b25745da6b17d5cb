"""Recall: what followed here before, in this request or in any other, from a ring of tokens.

The question that SuffixDecoding asks (arXiv 2411.04975), answered from the most recent places that
match instead of a suffix tree, with an estimate that learns as it drafts (docs/recall.md).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.drafters.history_listener import HistoryListener, ToldStream
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.index.fingerprint import require_tokenizer, vocab_fingerprint
from draftwood.index.recall import Recall, fingerprint_of
from draftwood.index.recall_stream import RecallPolicy, RecallStream, observe_all, propose_all
from draftwood.index.store import History, HistoryInfo
from draftwood.index.token_texts import TokenTexts, token_texts
from draftwood.protocols import Feedback, TargetInfo

FLOORS = {"tree": 0.005, "chain": 0.172}
"""Default floor of each mode: what a drafted token must be worth."""


class RecallDrafter:
    """What followed here before, in this request or in any other, from a history of fixed size.

    max_tokens: slots of shared history (25 bytes each, taken at once; the oldest tokens make room).
    nodes: the largest draft. mode: "tree", or "chain" for targets that check no trees. floor: no
    node less likely to be accepted than this is drafted; None: 0.005 for a tree, 0.172 for a chain.
    prompts: whether prompts are shared too. share: generated tokens after which they are shared.
    path: keep the history in this file, created where there is none when it is first needed; it is
    free again after `close`. recall: use this one instead, which stays the caller's to close.
    history: begin with the sequences of this history file (`draftwood index build`), each in its
    namespace; a Recall file at `path` that is there already holds them and is not given them again.
    threads: that a batch call uses, at most; no more than there are processors. seed: of a history
    that is created here, see `Recall`; None: drawn at random. quota: slots that each namespace may
    hold, see `Recall`; None: any number. recycle: whether what the target found
    likely at each position that it verified, rejected branches included, is evidence, too, where a
    target says it (Token Recycling, arXiv 2408.08696): up to 8 MB, in memory only.

    Thread-safe: streams may be used from several threads, each stream by one at a time. What a
    request generates is drafted for requests of its namespace only.

    Raises:
        InvalidOption: a value outside its range.
        HistoryError: a file that is no history, is damaged, or is written by another process.
        OSError: a file that cannot be read or written.
    """

    def __init__(
        self,
        *,
        max_tokens: int = 1_000_000,
        nodes: int = 32,
        mode: Literal["tree", "chain"] = "tree",
        floor: float | None = None,
        prompts: bool = False,
        share: int = 256,
        path: str | None = None,
        history: str | None = None,
        recall: Recall | None = None,
        threads: int = 2,
        seed: int | None = None,
        quota: int | None = None,
        recycle: bool = True,
    ) -> None:
        if not 1 <= threads <= 1024:
            raise InvalidOption(f"threads is {threads}; use 1 to 1024, such as 2")
        self.threads = threads
        limit = FLOORS.get(mode, 0.0) if floor is None else floor
        self.policy = RecallPolicy(mode, limit, share, nodes, recycle)
        self.prompts = prompts
        self._owns = recall is None
        self._recall = recall
        self._max_tokens = max_tokens
        self._seed = seed
        self._quota = quota
        self._path = None if path is None else os.path.expanduser(path)
        self._history = None if history is None else os.path.expanduser(history)
        self._fingerprint: bytes | None = None
        self._texts: TokenTexts | None = None
        self._lock = fork_lock()
        self.listener: HistoryListener | None = None
        """Who is told of finished texts, such as `draftwood.share`; set before streams open."""
        if self._path is None or os.path.exists(self._path):
            self._opened()  # what is there is opened now, so that errors come at once

    @property
    def nodes(self) -> int:
        """The largest draft."""
        return self.policy.nodes

    @property
    def path(self) -> str | None:
        """The file of the history; None: it is in memory, or was given."""
        return self._path

    @property
    def recall(self) -> Recall:
        """The history."""
        return self._recall or self._opened()

    def pair(self, target_info: TargetInfo) -> None:
        """Raise TokenizerMismatch where a file is of another tokenizer; a new one will be of this.

        To be called before the first stream is opened. From then on predictions are known by their
        text, where they and the answer say the same in different tokens.
        """
        if self._history is not None:
            found = HistoryInfo.read(self._history).fingerprint
            require_tokenizer(self._history, found, target_info.vocab)
        if target_info.vocab is not None:
            self._texts = token_texts(target_info.vocab)
        if self._path is not None and self._recall is not None:
            require_tokenizer(self._path, fingerprint_of(self._path), target_info.vocab)
        elif self._path is not None:
            if target_info.vocab is not None:
                self._fingerprint = vocab_fingerprint(target_info.vocab)
            self._opened()

    def _opened(self) -> Recall:
        """The history, opened or created now where that is left to do."""
        with self._lock:
            if self._recall is not None:
                return self._recall
            if self._path is None:
                recall = Recall(self._max_tokens, seed=self._seed, quota=self._quota)
            else:
                recall = Recall.open(
                    self._path,
                    max_tokens=self._max_tokens,
                    fingerprint=self._fingerprint,
                    seed=self._seed,
                    quota=self._quota,
                )
            if self._history is not None and not recall.written:
                for entry in History.open(self._history).entries():
                    recall.add(entry.tokens, namespace=entry.namespace)
            self._recall = recall
            return recall

    def __repr__(self) -> str:
        mode, floor = self.policy.mode, self.policy.floor
        kept = "" if self._path is None else f", path={self._path!r}"
        return f"RecallDrafter(mode={mode!r}, nodes={self.nodes}, floor={floor}{kept})"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> RecallStream:
        """A stream that stands after `prompt`.

        prediction: likely answers; they are part of the request's own text, before its prompt, and
        are not shared.
        """
        listener = self.listener
        if self.prompts:
            name = namespace if listener is None else listener.name_of(namespace)
            self.recall.add(prompt, namespace=name)
        if listener is not None:
            return ToldStream(
                self.recall,
                prompt,
                listener,
                namespace=namespace,
                policy=self.policy,
                predictions=prediction,
                texts=self._texts,
            )
        return RecallStream(
            self.recall,
            prompt,
            namespace=namespace,
            policy=self.policy,
            predictions=prediction,
            texts=self._texts,
        )

    def with_nodes(self, nodes: int) -> RecallDrafter:
        """A drafter on the same history, with drafts of up to so many nodes, less likely ones too.

        A chain stays a chain.
        """
        floor = min(self.policy.floor, 0.02 / max(nodes, 1))
        mode, share = self.policy.mode, self.policy.share
        made = RecallDrafter(
            nodes=nodes,
            mode=mode,
            floor=floor,
            prompts=self.prompts,
            share=share,
            recall=self.recall,
            threads=self.threads,
            recycle=self.policy.recycle,
        )
        made._texts = self._texts
        made.listener = self.listener
        return made

    def close(self) -> None:
        """Close a history that this drafter opened; one that it was given stays open."""
        if self._owns and self._recall is not None:
            self._recall.close()

    def propose_all(
        self, streams: Sequence[RecallStream], budgets: Sequence[Budget]
    ) -> list[Draft]:
        """What `propose` gives for each of this drafter's streams: one native call, many threads.

        The drafts' arrays are parts of common ones. A closed stream has an empty draft.
        """
        self._require_own(streams)
        return propose_all(streams, budgets, threads=self.threads)

    def observe_all(self, streams: Sequence[RecallStream], feedback: Sequence[Feedback]) -> None:
        """What `observe` does for each of this drafter's streams, which must be different ones.

        A closed stream stays as it is.
        """
        self._require_own(streams)
        for stream, each in zip(streams, feedback, strict=True):
            stream.hear(each)
        observe_all(streams, [each.tokens for each in feedback], threads=self.threads)
        for stream, each in zip(streams, feedback, strict=True):
            if isinstance(stream, ToldStream):
                stream.keep(each.tokens)

    def _require_own(self, streams: Sequence[RecallStream]) -> None:
        for each in streams:
            if not isinstance(each, RecallStream) or each.recall is not self.recall:
                raise InvalidOption(
                    f"a batch call got {each!r}, which is no stream of this drafter's history; "
                    "pass what its open() gave"
                )

    @property
    def nbytes(self) -> int:
        """Bytes of shared history, fixed at creation."""
        return self.recall.nbytes
