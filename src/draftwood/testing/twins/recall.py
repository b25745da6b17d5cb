"""Recall in slow Python: the same drafts as the native one, to the last bit.

    text       S E L E C T   n a m e   F R O M   t   ;   S E L E C T  ?
                           |                                          |
               a place: 13 tokens before it are like the last 13  ----+    "n" came next

The history is a list of cells; a *place* is a cell whose tokens before it are like the context's
last ones. A chain is the list of places that share a hash of the 1, 2 or 4 tokens before them; only
its newest steps are looked at. What the places say is judged by `Model` in `recall_model.py`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from draftwood.draft import ROOT, Budget
from draftwood.index.recall import namespace_key
from draftwood.index.recall_stream import RecallPolicy
from draftwood.sources import OWN, PREDICTED, SHARED, TARGET_ROWS
from draftwood.testing.twins.prediction import Drafted, SlowFollower, Trust
from draftwood.testing.twins.recall_chains import ORDERS, Chains, salt_of
from draftwood.testing.twins.recall_model import Model, Place, Trial, path_below
from draftwood.testing.twins.recall_rows import ALONE, SlowRows, row_of

STEPS = (24, 12, 8)
"""Steps along the chain of each order, at most: short contexts have the most continuations."""
LOOKS = 4
"""Cells of a chain that are looked at for each step: some stand there by chance, and are none."""
MATCH_CAP = 16
"""Tokens of context that are compared at most."""
BLOCK = 64
"""Cells that share one namespace; a namespace that does not own the block starts the next one."""
OVERLAP = 8
"""Tokens of context that are repeated before a part of a sequence, or before a prediction."""
BLANK = -1
CERTAIN = 2**32 - 1
"""The path probability of the context itself, 32 bits."""


class KeyedRows(dict[int, SlowRows]):
    """Rows by their namespace's key, begun when first asked for."""

    def __missing__(self, key: int) -> SlowRows:
        return self.setdefault(key, SlowRows(key))


@dataclass(slots=True)
class SlowRecall:
    """The twin of `draftwood.index.recall.Recall`; see there."""

    max_tokens: int
    seed: int = 0
    quota: int = 0
    cells: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    models: dict[int, Model] = field(default_factory=lambda: defaultdict(Model))
    """What each namespace learned, by its key."""
    trusts: dict[int, Trust] = field(default_factory=lambda: defaultdict(Trust))
    """What its predictions were worth."""
    rows: dict[int, SlowRows] = field(default_factory=KeyedRows)
    """What the target found likely in each namespace, by its key."""
    sequences: int = 0
    chains: Chains = field(init=False)
    capacity: int = field(init=False)
    parts: list[tuple[int, range]] = field(default_factory=list)
    streams: list[SlowRecallStream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.capacity = self.max_tokens // BLOCK * BLOCK
        self.chains = Chains(self.capacity)

    @property
    def readable(self) -> range:
        """Positions that drafts may use: all but the oldest, which a writer may be overwriting."""
        return range(max(0, len(self.cells) - (self.capacity - self.margin)), len(self.cells))

    @property
    def margin(self) -> int:
        """How many of the oldest cells are left alone, and the longest part of a sequence."""
        return min(max(self.capacity // 16, 128), 65536)

    def begin(self) -> int:
        """A number for a sequence that is to be added."""
        self.sequences += 1
        return self.sequences

    def extend(self, sequence: int, name: int, context: list[int], tokens: list[int]) -> range:
        """Add to a sequence, in parts no longer than the margin; the positions that it takes."""
        first, text, done = len(self.cells), context + tokens, len(context)
        while True:
            before = text[:done][-OVERLAP:]
            others = bool(len(self.cells) % BLOCK) and self.owners[-1] != name
            extra = (-len(self.cells) % BLOCK if others else 0) + 2 + len(before)
            wanted = min(len(text) - done, self.margin - 2 - OVERLAP)
            allowed = self._room(name, extra + wanted)
            if allowed < extra + min(wanted, 1):
                return range(first, len(self.cells))
            upto = done + min(wanted, allowed - extra)
            self._extend_part(sequence, name, before, text[done:upto])
            done = upto
            if done >= len(text):
                return range(first, len(self.cells))

    def held(self, name: int) -> int:
        """Cells in blocks of a namespace."""
        return BLOCK * self.owners[-self.capacity // BLOCK :].count(name)

    def _room(self, name: int, wanted: int) -> int:
        """How many of the next cells the namespace's quota leaves it."""
        begun = -len(self.cells) % BLOCK
        if not self.quota or wanted <= begun:
            return wanted
        held, blocks = self.held(name) // BLOCK, self.capacity // BLOCK
        for i in range(-((begun - wanted) // BLOCK)):
            overwritten = len(self.owners) + i - blocks
            held += overwritten < 0 or self.owners[overwritten] != name
            if held > self.quota // BLOCK:
                return min(wanted, begun + i * BLOCK)
        return wanted

    def _extend_part(self, sequence: int, name: int, before: list[int], tokens: list[int]) -> None:
        if len(self.cells) % BLOCK and self.owners[-1] != name:
            while len(self.cells) % BLOCK:
                self._put(BLANK, self.owners[-1])
        start = len(self.cells)
        for token in [BLANK, BLANK, *before]:  # two marks, which hold the number
            self._put(token, name)
        for i, token in enumerate(tokens):
            self.chains.add(len(self.cells), before + tokens[:i], salt_of(self.seed, name))
            self._put(token, name)
        self.parts.append((sequence, range(start, len(self.cells))))

    def add(
        self, tokens: list[int], *, context: list[int] | None = None, namespace: str = ""
    ) -> int:
        """Add one sequence; returns its number."""
        sequence = self.begin()
        self.extend(sequence, namespace_key(namespace), context or [], tokens)
        return sequence

    def remove(self, sequence: int) -> int:
        """Remove a sequence; returns how many tokens were held."""
        for stream in self.streams:
            stream.stopped |= stream.sequence == sequence
        if not 0 < sequence <= self.sequences:
            return 0
        held = [(s, part) for s, part in self.parts if part.start >= self._oldest]
        named = min((part.start for _, part in held), default=len(self.cells))
        self._blank(range(self._oldest, named))  # lost its number, and is out of reach
        own = [position for s, part in held if s == sequence for position in part]
        owners = {self.owner(position) for position in own if self.cells[position] >= 0}
        for key in owners or set(self.models) | set(self.rows):
            self.models[key].forget()
            self.rows[key].forget()
        return self._blank(own)

    def remove_namespace(self, namespace: str) -> int:
        """Remove a namespace; returns how many tokens were held."""
        key = namespace_key(namespace)
        for stream in self.streams:
            stream.stopped |= stream.key == key
        self.models[key].forget()
        self.rows[key].forget()
        held = range(self._oldest, len(self.cells))
        return self._blank([position for position in held if self.owner(position) == key])

    @property
    def _oldest(self) -> int:
        """The first block that is held in full."""
        return -(-max(0, len(self.cells) - self.capacity) // BLOCK) * BLOCK

    def owner(self, position: int) -> int:
        """The key of the namespace that a position belongs to."""
        return self.owners[position // BLOCK]

    def _put(self, token: int, name: int) -> None:
        if len(self.cells) % BLOCK == 0:
            self.owners.append(name)
        self.cells.append(token)

    def _blank(self, positions: Iterable[int]) -> int:
        held = [position for position in positions if self.cells[position] >= 0]
        for position in held:
            self.cells[position] = BLANK
        self.chains.remove(set(held))
        return len(held)


@dataclass(frozen=True, slots=True)
class Node:
    """A drafted node: its trial, its path probability (32 bits), and what was found below it.

    at: its place in a prediction, or -1.
    """

    trial: Trial
    parent: int
    path: int
    depth: int
    source: int
    at: int
    places: list[Place]
    trials: list[Trial]


class SlowRecallStream:
    """The twin of `draftwood.index.recall_stream.RecallStream`; see there."""

    def __init__(
        self,
        recall: SlowRecall,
        prompt: list[int],
        *,
        namespace: str = "",
        policy: RecallPolicy | None = None,
        predictions: Sequence[list[int]] = (),
        texts: Mapping[int, bytes] | None = None,
    ) -> None:
        self.recall = recall
        self.key = namespace_key(namespace)
        self.policy = policy or RecallPolicy()
        self.text = list(prompt)
        self.lead: list[int] = []
        self.context_only: set[int] = set()
        for prediction in predictions:
            end = prompt[-OVERLAP:]
            self.context_only |= set(range(len(self.lead), len(self.lead) + len(end)))
            self.lead += [*end, *prediction, BLANK]
        self.follower: SlowFollower | None = None
        if any(predictions):
            likely = [
                BLANK if at in self.context_only else token for at, token in enumerate(self.lead)
            ]
            self.follower = SlowFollower(likely, recall.trusts[self.key], texts)
        self.shared = len(prompt)
        self.stopped = False
        self.model = recall.models[self.key]
        self.rows = recall.rows[self.key]
        recall.streams.append(self)
        self.hidden: set[int] = set()
        self.sequence = 0
        self.nodes: list[Node] = []
        self.first: list[Trial] = []

    def propose(self, budget: Budget) -> list[Drafted]:
        """The nodes most likely to be accepted, best first."""
        nodes = min(budget.nodes, self.policy.nodes)
        reach = min(budget.reach, nodes)
        recalled = self._recalled(nodes, reach, budget.floor)
        if self.follower is None:
            return recalled
        return self.follower.merge(
            recalled,
            most=nodes,
            reach=reach,
            least=self._least(budget.floor),
            chain=self.policy.mode == "chain",
        )

    def _least(self, floor: float) -> int:
        chosen = max(np.float32(self.policy.floor), np.float32(floor))
        return int(min(max(float(chosen), 0.0), 1.0) * 4294967295.0)

    def _recalled(self, nodes: int, reach: int, floor: float) -> list[Drafted]:
        """What Recall's matches say, predictions among them."""
        self.nodes, self.first = [], []
        if not reach:
            return []
        least = self._least(floor)
        heap: list[tuple[int, int, int, Trial]] = []

        def expand(parent: int, depth: int, path: int, places: list[Place]) -> list[Trial]:
            last = self.nodes[parent].trial.token if parent != ROOT else _last(self.text)
            before = ALONE
            if parent == ROOT:
                before = _last(self.text[:-1])
            elif (above := self.nodes[parent].parent) == ROOT:
                before = _last(self.text)
            else:
                before = self.nodes[above].trial.token
            hints = [self.rows.find(ALONE, last), ([], False)]
            if before != ALONE:
                hints[1] = self.rows.find(before, last)
            faint = max(CERTAIN // 256, least // 4)
            named = itertools.takewhile(
                lambda each: path * each[1] >> 16 >= faint, (hints[1][0] or hints[0][0])
            )
            trials = self.model.judge(
                places, depth, last, path, hints, [token for token, _ in named]
            )
            entries = [
                (-path_below(path, trial), parent, i, trial)
                for i, trial in enumerate(trials)
                if path_below(path, trial) >= max(least, 1)
            ]
            if self.policy.mode == "chain":
                entries = sorted(entries)[:1]
            for entry in entries:
                heapq.heappush(heap, entry)
            return trials

        places = self._own_places() + self._shared_places()
        self.first = expand(ROOT, 0, CERTAIN, places)
        while heap:
            minus, parent, _, trial = heapq.heappop(heap)
            depth = 1 if parent == ROOT else self.nodes[parent].depth + 1
            above = places if parent == ROOT else self.nodes[parent].places
            source, at = self._source(trial, above)
            node = Node(trial, parent, -minus, depth, source, at, [], [])
            self.nodes.append(node)
            if len(self.nodes) == nodes:
                break
            if depth < reach:
                node.places.extend(self._follow(above, trial.token))
                node.trials.extend(expand(len(self.nodes) - 1, depth, -minus, node.places))
        return [
            Drafted(n.trial.token, n.parent, n.trial.confidence, n.source, n.at, n.path)
            for n in self.nodes
        ]

    def keep_rows(
        self,
        tokens: Sequence[int],
        parents: Sequence[int],
        likely: Sequence[Sequence[int]],
        logprobs: Sequence[Sequence[float]],
    ) -> None:
        """Keep what the target said after the context and after each node of a draft."""
        if self.stopped or not self.text:
            return
        before, last = _last(self.text[:-1]), self.text[-1]
        above = [last if parent == ROOT else tokens[parent] for parent in parents]
        pairs = [(before, last), *zip(above, tokens, strict=True)]
        for (first, second), each, said in zip(pairs, likely, logprobs, strict=True):
            row = row_of(each, said)
            self.rows.add(ALONE, second, row)
            if first != ALONE:
                self.rows.add(first, second, row)

    def observe(self, tokens: list[int]) -> None:
        """Learn from how the last draft went, then move past the tokens."""
        if not tokens:
            return
        self._learn(tokens)
        if self.follower is not None:
            self.follower.observe(tokens, learn=not self.stopped)
        self.text += tokens
        if len(self.text) - self.shared >= self.policy.share:
            self._share()

    def close(self) -> None:
        """Add what is left to shared history."""
        self._share()
        self.recall.streams.remove(self)

    def _learn(self, tokens: list[int]) -> None:
        at, trials, model = ROOT, self.first, self.model
        for truth in tokens:
            if not self.first or self.stopped:
                break
            model.learn(trials, truth)
            right = ROOT
            for i, node in enumerate(self.nodes):
                if node.parent == at:
                    model.learn_choice(node.trial, node.trial.token == truth)
                    right = i if node.trial.token == truth else right
            if right == ROOT:
                break
            at, trials = right, self.nodes[right].trials
        self.nodes, self.first = [], []

    def _share(self) -> None:
        new = self.text[self.shared :]
        if new and not self.stopped:
            self.sequence = self.sequence or self.recall.begin()
            before = self.text[: self.shared]
            self.hidden |= set(self.recall.extend(self.sequence, self.key, before, new))
            self.shared = len(self.text)

    def _own_places(self) -> list[Place]:
        chains = Chains(2**31)  # tells all hashes apart that the native ring's heads do
        cells, start = self.lead + self.text, 0
        for position, token in enumerate(cells):
            if token == BLANK:
                start = position + 1
            elif position not in self.context_only:
                chains.add(position, cells[start:position], 0)
        return self._places(cells, chains.walk(self.text, 0), range(len(cells)), OWN)

    def _shared_places(self) -> list[Place]:
        recall = self.recall
        chains = recall.chains.walk(self.text, salt_of(recall.seed, self.key))
        return self._places(recall.cells, chains, recall.readable, SHARED)

    def _places(
        self, cells: list[int], chains: dict[int, list[int]], readable: range, source: int
    ) -> list[Place]:
        found: dict[int, Place] = {}
        for k, steps in reversed(tuple(zip(ORDERS, STEPS, strict=True))):
            stepped = 0
            for position in chains.get(k, [])[: LOOKS * steps]:
                if position not in readable or stepped == steps:
                    break
                if source == SHARED and self.recall.owner(position) != self.key:
                    continue
                length = _match(cells, position, self.text, readable)
                if length < k:
                    continue
                stepped += 1
                if cells[position] >= 0 and not (source == SHARED and position in self.hidden):
                    place = Place(position, cells[position], length, source)
                    found.setdefault(position, place)
        return list(found.values())

    def _source(self, trial: Trial, above: list[Place]) -> tuple[int, int]:
        """Where a node was found: the first of its own places tells text and prediction apart.

        And its place in the prediction, or -1.
        """
        if not trial.placed:
            return TARGET_ROWS, -1
        if trial.source != OWN:
            return SHARED, -1
        first = next(p for p in above if p.source == OWN and p.token == trial.token)
        return (PREDICTED, first.position) if first.position < len(self.lead) else (OWN, -1)

    def _follow(self, places: list[Place], token: int) -> list[Place]:
        """The places of a node: one after those of its parent that continue with its token."""
        below = []
        for place in places:
            cells = self.lead + self.text if place.source == OWN else self.recall.cells
            at = place.position + 1
            if place.token == token and at < len(cells) and cells[at] >= 0:
                below.append(Place(at, cells[at], min(place.length + 1, MATCH_CAP), place.source))
        return below


def _match(cells: list[int], position: int, context: list[int], readable: range) -> int:
    length = 0
    while (
        length < min(MATCH_CAP, len(context))
        and position - 1 - length in readable
        and cells[position - 1 - length] == context[-1 - length]
    ):
        length += 1
    return length


def _last(text: list[int]) -> int:
    return text[-1] if text else -1
