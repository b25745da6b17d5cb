"""What the parts of the loop promise one another; implement these to bring your own.

A *drafter* and a *target* live as long as a model; a *stream* and a *cursor* live as long as one
sequence; a *draft*, its *rows* and the *verdict* live for one step.

`Drafter` with `Stream`, `Target` with `Cursor` and `Rows`, and `Verifier` are what there is to
implement. The others are optional: an object that has their methods as well is asked for more.
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
    """What the target says after the context (row 0) and after each draft node i (row i + 1)."""

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
    """What `Rows` may offer as well: the likeliest tokens of all rows at once, where they are."""

    def top(self, k: int) -> Top:
        """The k likeliest tokens of every row (fewer where the vocabulary has fewer)."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """How far a draft was right, and what comes after.

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
    """What a stream is told after a step: its draft, the verdict, and the tokens that follow.

    tokens: int32 [k or k + 1], all that was committed. rows: the target's, valid during the call.
    whole: where the stream's draft was part of a larger one, what was told about that; its rows
    are those that the target computed.
    """

    draft: Draft
    verdict: Verdict
    tokens: TokenIds
    rows: Rows | None = None
    whole: Feedback | None = None

    @classmethod
    def of(
        cls,
        draft: Draft,
        tokens: TokenIds,
        rows: Rows | None = None,
        *,
        whole: Feedback | None = None,
    ) -> Feedback:
        """Feedback without a verdict from outside: it is worked out from the tokens that came.

        draft: of *chosen* tokens; all of it, whether or not every node was verified. tokens: int32,
        what was generated after the context that the draft was made for. The accepted path is as
        far as the draft agrees with them (of equal siblings: the first); the verdict's next token
        is the one after that, None where there is none.
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
        return cls(draft, Verdict(np.array(path, dtype=np.int32), after), tokens, rows, whole)

    def retold(self, draft: Draft) -> Feedback:
        """The same outcome told of another draft of chosen tokens for the same context.

        So streams hear of what they drafted when something else was verified: a part of it, or
        their nodes merged with others'. It has no rows, which belong to what was verified; `whole`
        tells of that.
        """
        return Feedback.of(draft, self.tokens, whole=self.whole or self)


class Stream(Protocol):
    """One sequence's drafter. Used by one thread at a time."""

    def propose(self, budget: Budget) -> Draft:
        """What may come next; the stream itself does not move."""

    def observe(self, feedback: Feedback) -> None:
        """Move past the committed tokens and learn from them."""

    def close(self) -> None:
        """End the sequence; the stream is not used again."""


@runtime_checkable
class Abandoning(Protocol):
    """What a `Stream` may offer as well: to end without learning from what it has not learned."""

    def abandon(self) -> None:
        """End the sequence; nothing more is learned from it, and the stream is not used again."""


class Drafter(Protocol):
    """Shared by all sequences of a model; safe to use from several threads."""

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> Stream:
        """A stream that stands after `prompt`; what it learns stays within `namespace`.

        prediction: likely answers, int32 tokens each; a drafter that cannot use them ignores them.
        Callers pass the keyword only where there are some.
        """

    def close(self) -> None:
        """End the drafter once its streams are closed: give back files, locks and threads.

        It is not used again. A drafter that wraps others closes them; a second call does nothing.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Partner:
    """What a drafter may ask about the target that it is to work for.

    vocab: token text -> id, added tokens included; None where the tokenizer does not tell.
    vocab_size: entries of a row of the target's. context_limit: tokens of prompt and text, or None.
    """

    vocab: Mapping[str, int] | None
    vocab_size: int
    context_limit: int | None = None


@runtime_checkable
class Paired(Protocol):
    """A drafter or a small model that works for some targets only, and says so first."""

    def pair(self, partner: Partner) -> None:
        """Be ready for this target.

        Raises:
            PairMismatch: where it cannot work for it.
        """


@runtime_checkable
class Widening(Protocol):
    """What a `Drafter` may offer as well: to propose more, for one that chooses among it."""

    nodes: int
    """The largest draft."""

    def wider(self, nodes: int) -> Drafter:
        """The same knowledge, shared from now on, with drafts of up to so many nodes."""


@runtime_checkable
class BatchDrafter(Protocol):
    """What a `Drafter` may offer as well: to serve many of its streams in one call.

    Each call equals the streams' own `propose` and `observe`, one after the other.
    """

    def propose_all(self, streams: Sequence[Any], budgets: Sequence[Budget]) -> list[Draft]:
        """A draft for each stream (of this drafter, no stream twice), within its own budget."""

    def observe_all(self, streams: Sequence[Any], feedback: Sequence[Feedback]) -> None:
        """Move each stream past what it is told."""


class Seat(Protocol):
    """One sequence in the target: committed tokens and the cache behind them."""

    @property
    def room(self) -> int | None:
        """Tokens that still fit behind the committed ones; None: no limit."""

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path and the next token; forget the rest of the scored draft."""

    def close(self) -> None:
        """Give the cache back; the sequence is not used again."""


class Cursor(Seat, Protocol):
    """A sequence with passes of its own."""

    def score(self, draft: Draft) -> Rows:
        """One pass over the whole draft. Does not move; a second call replaces the first."""


class Target(Protocol):
    """A model whose output is to be kept."""

    @property
    def trees(self) -> bool:
        """Whether a draft may branch; where it may not, the loop cuts drafts to chains."""

    def open(self, prompt: TokenIds) -> Cursor:
        """A cursor that stands after `prompt` (at least one token)."""

    def close(self) -> None:
        """Give back what the target itself holds; it and its cursors are not used again."""


@runtime_checkable
class Vocabulary(Protocol):
    """What a `Target` may tell as well, so that drafted ids beyond its rows are found in time."""

    @property
    def vocab_size(self) -> int:
        """V, the entries of a row."""


AnySeat = TypeVar("AnySeat", bound=Seat)


class Batch(Protocol[AnySeat]):
    """Sequences that go through the model together; they come and go between passes."""

    @property
    def padded(self) -> bool:
        """Whether a pass has as many rows for every sequence as for that of the longest draft."""

    @property
    def prompt_seconds(self) -> float | None:
        """What of the last `score` went into prompts; None: not known."""

    def open(self, prompt: TokenIds) -> AnySeat:
        """A seat for a sequence that stands after `prompt`; closing it makes room for another."""

    def score(self, seats: Sequence[AnySeat], drafts: Sequence[Draft]) -> list[Rows]:
        """One pass over a draft for every open seat; the rows come in the order of `seats`."""

    def close(self) -> None:
        """Give all caches back; the batch is not used again."""


@runtime_checkable
class BatchTarget(Protocol):
    """What a `Target` may offer as well: several sequences, each with its own tree, in a pass."""

    @property
    def batches(self) -> bool:
        """Whether it does."""

    def open_batch(self, size: int) -> Batch[Any]:
        """A batch of at most `size` sequences at once."""


class Verifier(Protocol):
    """Decides how much of a draft stays."""

    lossless: bool
    """Whether the tokens follow the law of the target's rows exactly, whatever the draft."""

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The accepted path and the token after it."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall-clock seconds of one step by part."""

    draft: float = 0.0
    score: float = 0.0
    verify: float = 0.0
    observe: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of the whole step."""
        return self.draft + self.score + self.verify + self.observe


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One turn of the loop: the draft, the verdict, what was generated and how long it took.

    tokens: int32, what this step generated. finish: None while generation goes on, else "stop"
    (an end token or stop string), "length" (max_tokens) or "context" (the model's limit).
    """

    draft: Draft
    verdict: Verdict
    tokens: TokenIds
    seconds: Seconds
    finish: str | None = None
