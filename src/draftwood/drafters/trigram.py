r"""ADED: drafts from the target's own trigrams by tree search (arXiv 2407.12021).

A table counts which token followed each pair of tokens in what the target generated. A draft is
searched in it by walks from the context, each of which follows the PUCT rule and adds the first
edge that no walk has taken:

    argmax over c of   Q(u, c) + explore * P(c | u) * sqrt(N(u)) / (1 + N(u, c))

N counts walks, P is the table's share of c among what followed u, and Q is the mean probability of
the walks that went on through c. The weight `explore` and the number of walks are ours: the code
that was released with the paper has 32 + ln((N(u) + 9) / 8) for the weight, with which Q hardly
matters. What follows a node depends on its last two tokens only, so that
merging in the `TokenGraph` (overlap 1) is exact here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import sqrt

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.drafters.small.graph import TokenGraph
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.protocols import Feedback
from draftwood.sources import TRIGRAM

Followers = dict[int, int]
"""Token -> how often it followed."""


class TrigramTable:
    """How often each token followed a pair of tokens, by namespace.

    max_pairs: pairs kept in all; the one that was longest neither seen nor extended leaves first.
    followers: tokens kept a pair; the rarest makes room (a newcomer takes over its count, as in the
    space-saving sketch, so that a new habit can displace an old one). Memory: 450 bytes a pair with
    one follower, 760 with eight, so at most 76 MB by default. Safe to use from several threads.

    Raises:
        InvalidOption: a limit below 1.
    """

    def __init__(self, max_pairs: int = 100_000, followers: int = 8) -> None:
        for name, limit in (("max_pairs", max_pairs), ("followers", followers)):
            if limit < 1:
                raise InvalidOption(f"{name} is {limit}; use 1 or more")
        self._max_pairs, self._most = max_pairs, followers
        self._pairs: OrderedDict[tuple[str, int, int], Followers] = OrderedDict()
        self._lock = fork_lock()

    def __len__(self) -> int:
        """Pairs that are kept."""
        return len(self._pairs)

    def learn(self, tokens: Sequence[int], *, namespace: str = "") -> None:
        """Count every trigram of `tokens`."""
        with self._lock:
            for at in range(len(tokens) - 2):
                self._count((namespace, tokens[at], tokens[at + 1]), tokens[at + 2])
            while len(self._pairs) > self._max_pairs:
                self._pairs.popitem(last=False)

    def followers(self, one: int, two: int, *, namespace: str = "") -> list[tuple[int, float]]:
        """What followed the pair, most often first, each with its probability.

        The probability of n out of m is n / (m + 1): one more observation is set aside for what
        was never seen.
        """
        with self._lock:
            counts = self._pairs.get((namespace, one, two))
            if not counts:
                return []
            found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        seen = sum(count for _, count in found) + 1
        return [(token, count / seen) for token, count in found]

    def _count(self, pair: tuple[str, int, int], token: int) -> None:
        counts = self._pairs.setdefault(pair, {})
        self._pairs.move_to_end(pair)
        if token not in counts and len(counts) >= self._most:
            rarest = min(counts, key=counts.__getitem__)
            counts[token] = counts.pop(rarest)
        counts[token] = counts.get(token, 0) + 1


class TrigramDrafter:
    """ADED: trigrams of the target's outputs, searched by walks that follow the PUCT rule.

    max_pairs, followers: see `TrigramTable`. explore: weight of what few walks have tried, above 0.
    walks: a draft's; each adds one node at most. depth: tokens on a path at most. prompts: learn
    from prompts, too. table: use this one instead.

    Safe to use from several threads. What a request generates is drafted in its namespace only.

    Raises:
        InvalidOption: a value outside its range.
    """

    def __init__(
        self,
        *,
        max_pairs: int = 100_000,
        followers: int = 8,
        explore: float = 3.0,
        walks: int = 32,
        depth: int = 8,
        prompts: bool = False,
        table: TrigramTable | None = None,
    ) -> None:
        if not explore > 0.0:
            raise InvalidOption(f"explore is {explore}; use more than 0, such as 3")
        for name, limit in (("walks", walks), ("depth", depth)):
            if limit < 1:
                raise InvalidOption(f"{name} is {limit}; use 1 or more")
        self.table = TrigramTable(max_pairs, followers) if table is None else table
        self.explore, self.walks, self.depth = explore, walks, depth
        self._prompts = prompts

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> TrigramStream:
        """A stream after `prompt`."""
        if self._prompts:
            self.table.learn(prompt.tolist(), namespace=namespace)
        return TrigramStream(self, prompt, namespace)

    def close(self) -> None:
        """Nothing to give back."""


class TrigramStream:
    """One sequence of a `TrigramDrafter`: its last two tokens."""

    def __init__(self, drafter: TrigramDrafter, prompt: TokenIds, namespace: str) -> None:
        self._drafter, self._namespace = drafter, namespace
        self._last: list[int] = prompt[-2:].tolist()

    def propose(self, budget: Budget) -> Draft:
        """The paths that the walks took, likeliest first."""
        if len(self._last) < 2 or not budget.reach:
            return Draft.empty()
        search = PuctSearch(self._drafter, self._last, self._namespace)
        depth = min(self._drafter.depth, budget.reach)
        for _ in range(min(self._drafter.walks, budget.nodes)):
            search.walk(depth)
        return search.graph.unroll(budget.within(depth), source=TRIGRAM).draft

    def observe(self, feedback: Feedback) -> None:
        """Learn what was generated."""
        tokens = self._last + feedback.tokens.tolist()
        self._drafter.table.learn(tokens, namespace=self._namespace)
        self._last = tokens[-2:]

    def close(self) -> None:
        """Nothing to give back."""


class PuctSearch:
    """The graph that walks from two tokens have made so far.

    visits: (node, token) -> walks along that edge.
    """

    def __init__(self, drafter: TrigramDrafter, last: Sequence[int], namespace: str) -> None:
        self.graph = TokenGraph(last, overlap=1)
        self.visits: dict[tuple[int, int], int] = {}
        self._drafter, self._last, self._namespace = drafter, (last[-2], last[-1]), namespace
        self._choices: dict[int, list[tuple[int, float]]] = {}
        self._total: dict[int, int] = {}
        self._gains: dict[tuple[int, int], float] = {}

    def walk(self, depth: int) -> bool:
        """Follow the rule until it takes an edge for the first time; whether it did.

        depth: steps at most. A walk also ends where the table knows nothing.
        """
        node, found = ROOT, False
        steps: list[tuple[int, int, float]] = []
        while len(steps) < depth and not found:
            choices = self._known(node)
            if not choices:
                break
            token, q = self._choose(node, choices)
            found = token not in self.graph.children(node)
            steps.append((node, token, q))
            node = self.graph.add(node, token, q)
        worth = 1.0
        for node, token, q in reversed(steps):
            worth *= q
            edge = (node, token)
            self.visits[edge] = self.visits.get(edge, 0) + 1
            self._gains[edge] = self._gains.get(edge, 0.0) + worth
            self._total[node] = self._total.get(node, 0) + 1
        return found

    def _choose(self, node: int, choices: list[tuple[int, float]]) -> tuple[int, float]:
        # before the first walk all are worth their probability alone
        spread = self._drafter.explore * sqrt(self._total.get(node, 0) or 1)
        best, best_score = choices[0], -1.0
        for choice in choices:
            token, q = choice
            count = self.visits.get((node, token), 0)
            mean = self._gains[node, token] / count if count else 0.0
            score = mean + spread * q / (1 + count)
            if score > best_score:
                best, best_score = choice, score
        return best

    def _known(self, node: int) -> list[tuple[int, float]]:
        """What may follow the node, by its own last two tokens."""
        if node not in self._choices:
            tokens, graph = self.graph.tokens, self.graph
            if node == ROOT:
                one, two = self._last
            else:
                above = graph.parents[node]
                one, two = self._last[1] if above == ROOT else tokens[above], tokens[node]
            table = self._drafter.table
            self._choices[node] = table.followers(one, two, namespace=self._namespace)
        return self._choices[node]
