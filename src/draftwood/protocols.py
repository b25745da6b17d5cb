"""The protocols of the loop; implement them to bring your own drafter, target or verifier.

A *drafter* and a *target* live as long as a model; a *stream* and a *cursor* live as long as one
sequence; a *draft*, its *rows* and the *verdict* live for one step.

`Drafter` with `Stream`, `Target` with `Cursor` and `Rows`, and `Verifier` are the ones to
implement. The others are optional: they name methods that an object may have in addition, and that
are used where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import ROOT, Budget, Draft, TokenIds

NOT_A_NUMBER: Final = -(1 << 31)
"""What `Rows.argmax` says of a row that holds NaN."""


class Rows(Protocol):
    """The target's output of one pass: row 0 is after the context, row i + 1 after draft node i."""

    @property
    def context(self) -> TokenIds:
        """The committed tokens, which row 0 follows. Borrowed: valid until the next commit."""

    def argmax(self) -> TokenIds:
        """int32 [n + 1]: the most likely next token of every row; ties go to the lowest id.

        `NOT_A_NUMBER` for a row that holds NaN.
        """

    def logits(self, row: int) -> NDArray[np.floating[Any]]:
        """float [V]: unnormalized log-probabilities of the token after `row`."""


@dataclass(frozen=True, slots=True, eq=False)
class Top:
    """The k likeliest next tokens of every row, the likeliest first.

    tokens: int32 [n + 1, k]. logprobs: float32 [n + 1, k], log-probabilities at temperature 1.
    """

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]


@runtime_checkable
class RankedRows(Protocol):
    """Optional for `Rows`: the k likeliest tokens of all rows, in one call on their device."""

    def top(self, k: int) -> Top:
        """The k likeliest tokens of every row (fewer where the vocabulary has fewer)."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The outcome of verification: the accepted path and the token after it.

    path: int32 [k], the accepted nodes from the first token down. next_token: the target's own
    token after them; None where generation ends with the last accepted token.
    """

    path: NDArray[np.int32]
    next_token: int | None

    def tokens(self, draft: Draft) -> TokenIds:
        """The tokens that this step generates: accepted ones, then the target's own."""
        if self.next_token is None:
            return draft.tokens[self.path]
        tokens = np.empty(len(self.path) + 1, dtype=np.int32)
        tokens[:-1] = draft.tokens[self.path]
        tokens[-1] = self.next_token
        return tokens


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """What a stream is told after a step: its draft, the verdict, and the committed tokens.

    tokens: int32 [k or k + 1], all that was committed. rows: the target's output, valid during the
    call. verified: where the stream's draft was only part of the verified one, the feedback on the
    whole verified draft, whose rows the target computed.
    """

    draft: Draft
    verdict: Verdict
    tokens: TokenIds
    rows: Rows | None = None
    verified: Feedback | None = None

    @classmethod
    def of(
        cls,
        draft: Draft,
        tokens: TokenIds,
        rows: Rows | None = None,
        *,
        verified: Feedback | None = None,
    ) -> Feedback:
        """Feedback worked out from the generated tokens alone, for engines that report no verdict.

        draft: the whole draft, of *chosen* (not sampled) tokens, whether or not every node was
        verified. tokens: int32, what was generated after the draft's context. The accepted path is
        the longest one that agrees with these tokens (of equal siblings: the first); the verdict's
        next token is the one after it, None where there is none.
        """
        child: dict[tuple[int, int], int] = {}
        steps = zip(draft.parents.tolist(), draft.tokens.tolist(), strict=True)
        for node, step in enumerate(steps):
            child.setdefault(step, node)
        path: list[int] = []
        at, after = ROOT, None
        for token in tokens.tolist():
            node = child.get((at, token), ROOT)
            if node == ROOT:
                after = token
                break
            path.append(node)
            at = node
        return cls(draft, Verdict(np.array(path, dtype=np.int32), after), tokens, rows, verified)

    def for_draft(self, draft: Draft) -> Feedback:
        """The same outcome for another draft of chosen tokens after the same context.

        For a stream whose draft was cut, or merged with others, before verification. It has no
        rows, since those belong to the verified draft; `verified` is the feedback on that.
        """
        return Feedback.of(draft, self.tokens, verified=self.verified or self)


class Stream(Protocol):
    """One sequence's drafter. Used by one thread at a time."""

    def propose(self, budget: Budget) -> Draft:
        """A draft of what may come next; does not change the stream's position."""

    def observe(self, feedback: Feedback) -> None:
        """Append the committed tokens to the context, and learn from them."""

    def close(self) -> None:
        """End the sequence; the stream is not used again."""


@runtime_checkable
class Abandoning(Protocol):
    """Optional for `Stream`: to end without sharing what it has not shared yet."""

    def abandon(self) -> None:
        """End the sequence; nothing more is learned from it, and the stream is not used again.

        What was shared before may be taken back.
        """


class Drafter(Protocol):
    """Makes a stream for each sequence; shared by all sequences of a model and by threads."""

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> Stream:
        """A stream for a sequence that begins with `prompt`; learns and drafts within `namespace`.

        prediction: likely answers, an int32 array each; a drafter that cannot use them ignores
        them. Callers leave the keyword out where there are none.
        """

    def close(self) -> None:
        """End the drafter once its streams are closed: give back files, locks and threads.

        The drafter is not used afterwards. One that wraps others closes them; a second call does
        nothing.
        """


@dataclass(frozen=True, slots=True, eq=False)
class TargetInfo:
    """What a drafter can ask about the target that it drafts for.

    vocab: token text -> id, added tokens included; None where the tokenizer does not tell.
    vocab_size: entries of the target's rows. context_limit: tokens of prompt and output together,
    or None.
    """

    vocab: Mapping[str, int] | None
    vocab_size: int
    context_limit: int | None = None


@runtime_checkable
class PairsWithTarget(Protocol):
    """Optional for drafters and small models: check before generation that they suit the target."""

    def pair(self, target_info: TargetInfo) -> None:
        """Prepare to draft for this target.

        Raises:
            PairMismatch: where it cannot work for it.
        """


@runtime_checkable
class Resizable(Protocol):
    """Optional for `Drafter`: larger drafts of the same kind, for a caller that picks nodes."""

    nodes: int
    """The largest draft."""

    def with_nodes(self, nodes: int) -> Drafter:
        """A drafter that shares this one's history or model and drafts up to `nodes` nodes."""


@runtime_checkable
class BatchDrafter(Protocol):
    """Optional for `Drafter`: many streams in one call.

    Each call gives what `propose` or `observe` of the streams, one after the other, would give.
    """

    def propose_all(self, streams: Sequence[Any], budgets: Sequence[Budget]) -> list[Draft]:
        """A draft for each stream (all of this drafter, none twice), within its budget."""

    def observe_all(self, streams: Sequence[Any], feedback: Sequence[Feedback]) -> None:
        """Tell each stream its feedback."""


@runtime_checkable
class Composed(Protocol):
    """Optional for `Drafter`: one that is made of other drafters says which."""

    @property
    def parts(self) -> Sequence[Drafter]:
        """The drafters that it asks."""


class Seat(Protocol):
    """One sequence in the target: its committed tokens and their KV cache."""

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the committed ones; None: no limit."""

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path and the next token; forget the rest of the scored draft."""

    def close(self) -> None:
        """Free the KV cache; the sequence is not used again."""


class Cursor(Seat, Protocol):
    """A sequence that is verified in passes of its own."""

    def score(self, draft: Draft) -> Rows:
        """One pass over the whole draft. Commits nothing; a second call replaces the first."""


class Target(Protocol):
    """The target model: the one whose output is kept."""

    @property
    def trees(self) -> bool:
        """Whether a draft may branch; if not, the loop cuts drafts to chains."""

    def open(self, prompt: TokenIds) -> Cursor:
        """A cursor for a sequence that begins with `prompt` (at least one token)."""

    def close(self) -> None:
        """Free what the target itself holds; it and its cursors are not used again."""


@runtime_checkable
class Vocabulary(Protocol):
    """Optional for `Target`: its vocabulary size, so that drafted ids beyond it are caught."""

    @property
    def vocab_size(self) -> int:
        """V, the number of entries of a row."""


AnySeat = TypeVar("AnySeat", bound=Seat)


class Batch(Protocol[AnySeat]):
    """Sequences that share the target's passes; they join and leave between passes."""

    @property
    def padded(self) -> bool:
        """Whether a pass pads every sequence to as many rows as the longest draft needs."""

    @property
    def prompt_seconds(self) -> float | None:
        """Seconds of the last `score` that went into computing prompts; None: not known."""

    def open(self, prompt: TokenIds) -> AnySeat:
        """A seat for a sequence that begins with `prompt`; closing it makes room for another."""

    def score(self, seats: Sequence[AnySeat], drafts: Sequence[Draft]) -> list[Rows]:
        """One pass over a draft for every open seat; the rows come in the order of `seats`."""

    def close(self) -> None:
        """Free all KV caches; the batch is not used again."""


@runtime_checkable
class BatchTarget(Protocol):
    """Optional for `Target`: several sequences, each with its own tree, in one pass."""

    @property
    def batches(self) -> bool:
        """Whether this target takes several sequences in one pass."""

    def open_batch(self, size: int) -> Batch[Any]:
        """A batch for at most `size` sequences at a time."""


class Verifier(Protocol):
    """Decides how much of a draft is accepted."""

    lossless: bool
    """Whether the tokens have exactly the target's distribution, whatever the draft."""

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The accepted path and the token after it."""
