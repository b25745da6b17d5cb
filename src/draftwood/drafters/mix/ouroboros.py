r"""Ouroboros: extends drafts by phrases from discarded drafts and history (arXiv 2402.13720).

    small model     the cat |  sees         the draft ends in `sees`: what came after `sees` before
    phrases                 |  sees `-- a dog .           is added, for the target to check in the
                                   `-- the table          same pass

Verifying costs the target a pass however long the draft is, so that a guess that needs no model is
free as long as rows are. A phrase comes from the target: it stood in its output, or in a branch of
a draft that was wrong as a whole but in which the target agreed from token to token.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.drafters.small.graph import TokenGraph
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.guarded import open_stream
from draftwood.protocols import (
    Drafter,
    Feedback,
    PairsWithTarget,
    Rows,
    Stream,
    TargetInfo,
    Verdict,
)
from draftwood.sources import PHRASE

_FORGET = 0.99
"""Weight of the past in the learned confidence: about the last hundred phrases."""


class PhraseTable:
    """Short runs of tokens by the token that they followed, latest first, by namespace.

    length: tokens of a phrase at most. each: phrases kept after a token. max_heads: tokens that
    phrases are kept after, in all; the one whose last phrase is the oldest leaves first.
    Memory: 840 bytes a head with three phrases of four tokens, so at most 42 MB by default. Safe to
    use from several threads.

    Raises:
        InvalidOption: a limit below 1.
    """

    def __init__(self, length: int = 4, *, each: int = 3, max_heads: int = 50_000) -> None:
        for name, limit in (("length", length), ("each", each), ("max_heads", max_heads)):
            if limit < 1:
                raise InvalidOption(f"{name} is {limit}; use 1 or more")
        self.length = length
        self._each, self._max_heads = each, max_heads
        self._heads: OrderedDict[tuple[str, int], list[tuple[int, ...]]] = OrderedDict()
        self._lock = fork_lock()

    def __len__(self) -> int:
        """Tokens that phrases are kept after."""
        return len(self._heads)

    def add(self, run: Sequence[int], *, namespace: str = "") -> None:
        """Keep what followed the run's first token, up to `length` tokens of it."""
        head, phrase = (namespace, int(run[0])), tuple(run[1 : self.length + 1])
        if not phrase:
            return
        with self._lock:
            kept = self._heads.setdefault(head, [])
            self._heads.move_to_end(head)
            if phrase in kept:
                kept.remove(phrase)
            kept.insert(0, phrase)
            del kept[self._each :]
            if len(self._heads) > self._max_heads:
                self._heads.popitem(last=False)

    def after(self, token: int, *, namespace: str = "") -> list[tuple[int, ...]]:
        """The phrases that followed `token`, latest first."""
        with self._lock:
            return list(self._heads.get((namespace, token), ()))


class Ouroboros:
    """Another drafter's drafts, lengthened by phrases.

    drafter: whose drafts; a draft that it sampled (with `proposal` rows) stays as it is, since
    phrases are chosen, not sampled. length, each, max_heads: see `PhraseTable`. tips: ends of a
    draft that are lengthened, the likeliest; 0: none, which is the other drafter alone.

    Safe to use from several threads if the drafter is. Phrases stay within their namespace.

    Raises:
        InvalidOption: a value outside its range.
    """

    def __init__(
        self,
        drafter: Drafter,
        *,
        length: int = 4,
        each: int = 3,
        max_heads: int = 50_000,
        tips: int = 2,
    ) -> None:
        if tips < 0:
            raise InvalidOption(f"tips is {tips}; use 0 or more")
        self.drafter, self.tips = drafter, tips
        self.phrases = PhraseTable(length, each=each, max_heads=max_heads)
        self._confidence = 0.5
        self._lock = fork_lock()

    def __repr__(self) -> str:
        return f"Ouroboros({self.drafter!r}, tips={self.tips})"

    @property
    def confidence(self) -> float:
        """P(a phrase's token is accepted | its parent is), learned online."""
        return self._confidence

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> OuroborosStream:
        """A stream around one of the other drafter's."""
        inner = open_stream(self.drafter, prompt, namespace, prediction)
        return OuroborosStream(self, inner, namespace)

    def close(self) -> None:
        """Close the other drafter."""
        self.drafter.close()

    def pair(self, target_info: TargetInfo) -> None:
        """Raise PairMismatch where the other drafter does not suit the target."""
        if isinstance(self.drafter, PairsWithTarget):
            self.drafter.pair(target_info)

    def learn(self, accepted: bool) -> None:
        """Move the confidence by one more phrase token whose parent was accepted."""
        with self._lock:
            self._confidence = _FORGET * self._confidence + (1 - _FORGET) * accepted


class OuroborosStream:
    """One sequence of an `Ouroboros`."""

    def __init__(self, drafter: Ouroboros, inner: Stream, namespace: str) -> None:
        self._drafter, self._inner, self._namespace = drafter, inner, namespace
        self._recent: list[int] = []
        self._base: Draft | None = None

    def propose(self, budget: Budget) -> Draft:
        """The other drafter's nodes and the phrases below them, likeliest first."""
        base = self._inner.propose(budget)
        self._base = None
        if not len(base) or base.proposal is not None or not self._drafter.tips:
            return base
        graph = TokenGraph(overlap=None)
        place = [ROOT]  # entry i + 1: where node i of the base is in the graph
        for token, parent, confidence in zip(
            base.tokens.tolist(), base.parents.tolist(), base.confidence.tolist(), strict=True
        ):
            place.append(graph.add(place[parent + 1], token, confidence))
        tips = [node for node in range(len(graph)) if not graph.children(node)]
        tips.sort(key=graph.values.__getitem__, reverse=True)
        for tip in tips[: self._drafter.tips]:
            self._lengthen(graph, tip)
        self._base = base
        unrolled = graph.unroll(budget)
        sources = dict(zip(place[1:], base.source.tolist(), strict=True))
        unrolled.draft.source[:] = [sources.get(node, PHRASE) for node in unrolled.nodes]
        return unrolled.draft

    def observe(self, feedback: Feedback) -> None:
        """Learn phrases from what was generated and from what was discarded; both move on."""
        phrases, namespace = self._drafter.phrases, self._namespace
        if feedback.rows is not None:
            for run in discarded(feedback.draft, feedback.verdict, feedback.rows):
                phrases.add(run, namespace=namespace)
        for token in feedback.tokens.tolist():
            self._recent.append(token)
            if len(self._recent) > phrases.length:
                phrases.add(self._recent, namespace=namespace)
                del self._recent[0]
        self._learn(feedback)
        base, self._base = self._base, None
        self._inner.observe(feedback if base is None else feedback.for_draft(base))

    def close(self) -> None:
        """Close the other drafter's stream; learn the output's last tokens."""
        for at in range(len(self._recent) - 1):
            self._drafter.phrases.add(self._recent[at:], namespace=self._namespace)
        self._recent = []
        self._inner.close()

    def _lengthen(self, graph: TokenGraph, tip: int) -> None:
        confidence = self._drafter.confidence
        for phrase in self._drafter.phrases.after(graph.tokens[tip], namespace=self._namespace):
            node = tip
            for token in phrase:
                node = graph.add(node, token, confidence)

    def _learn(self, feedback: Feedback) -> None:
        """Whether, below each accepted node that phrases continued, one of them was right."""
        draft, path = feedback.draft, feedback.verdict.path.tolist()
        continued = set(draft.parents[draft.source == PHRASE].tolist())
        for node, after in zip(path, [*path[1:], None], strict=False):
            if node in continued:
                self._drafter.learn(after is not None and int(draft.source[after]) == PHRASE)


def discarded(draft: Draft, verdict: Verdict, rows: Rows) -> Iterator[list[int]]:
    """Runs of the rejected nodes in which the target's likeliest token was the next one's.

    A run is at least two nodes, and ends with the target's own token after the last of them.
    """
    kept = {ROOT, *verdict.path.tolist()}
    if len(kept) > len(draft):
        return
    tokens, parents, best = draft.tokens.tolist(), draft.parents.tolist(), rows.argmax().tolist()
    after: dict[int, int] = {}  # node -> the child that the target agrees with
    for node, (token, parent) in enumerate(zip(tokens, parents, strict=True)):
        if parent not in kept and best[parent + 1] == token:
            after.setdefault(parent, node)
    confirmed = set(after.values())
    for node in after:
        if node not in confirmed:
            run = [tokens[node]]
            while node in after:
                node = after[node]
                run.append(tokens[node])
            yield [*run, best[node + 1]]
