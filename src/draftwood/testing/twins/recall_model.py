"""What Recall's estimate learns, in slow Python; integers throughout, as in the native one.

For every candidate token at a node, and for each source and level of match length, count the
places that match at least so far: c go on with the token, d do not. A cell for (c, d) has learned
how often such a token came next; a mixer adds the cells' log-odds with learned weights (PAQ;
Mahoney 2005). Every token, and every token before, has a small set of weights of its own besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from draftwood.testing.twins.recall_rows import Row

MASK = 2**32 - 1
ONE = 65536
LEAST, MOST = 16, ONE - 16
LEVELS = (1, 2, 3, 5, 9, 16)
"""The least match length of each level."""
INPUTS, ECHOES, ECHO_BITS = 2 * len(LEVELS), 2, 12
LEANING_BITS = 11
BIAS = 77
HEAVIEST = 2**24
CURVE = (
    *(22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743),
    *(32768, 40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269),
    *(65374, 65438, 65476, 65500, 65514),
)
"""65536 / (1 + e^-x) for x = -8, -7.5, ..., 8."""


def curve(log_odds: int) -> int:
    """A probability of 16 bits from log-odds in units of 1/256, interpolated in `CURVE`."""
    low, part = divmod(log_odds + 2048, 128)
    return CURVE[low] * (128 - part) + CURVE[low + 1] * part >> 7


def squash(log_odds: int) -> int:
    """`curve`, within its limits."""
    return clamp(curve(clamp(log_odds, -2047, 2047)), LEAST, MOST)


def _log_odds() -> list[int]:
    table: list[int] = []
    for x in range(-2047, 2048):
        while len(table) <= curve(x) >> 4:
            table.append(x)
    return table + [2047] * (4096 - len(table))


LOG_ODDS = _log_odds()
"""The inverse of `curve`, by the upper 12 bits of the probability."""


def log_odds_of(dot: int) -> int:
    """A weighted sum as log-odds."""
    return clamp(dot >> 16, -2047, 2047)


def clamp(value: int, low: int, high: int) -> int:
    """The nearest value within [low, high]."""
    return min(max(value, low), high)


def class_of(count: int) -> int:
    """The class of a count: 0, 1, 2, 3-4, 5-7, 8-12, 13-20, more."""
    return sum(count >= least for least in (1, 2, 3, 5, 8, 13, 21))


def level_of(length: int) -> int:
    """The level of a match length (1 or more)."""
    return sum(length >= least for least in LEVELS) - 1


@dataclass(frozen=True, slots=True)
class Place:
    """`token` stands at `position`, where `length` tokens before it are like the context's last."""

    position: int
    token: int
    length: int
    source: int


@dataclass(slots=True)
class Cell:
    """A learned probability (22 bits) and how many outcomes it has seen."""

    value: int
    seen: int = 0

    @property
    def probability(self) -> int:
        """16 bits."""
        return self.value >> 6

    def move(self, right: bool, *, prior: int, limit: int) -> None:
        """Towards an outcome by 1 / (outcomes seen + prior), at least 1 / (limit + prior)."""
        seen = min(self.seen, limit)
        self.value += ((2**22 - 1 if right else 0) - self.value) * (65536 // (seen + prior)) >> 16
        self.seen = min(seen + 1, limit)


@dataclass(slots=True)
class Trial:
    """A candidate token: what the estimate read, and what it said (16 bits each)."""

    token: int
    source: int
    cells: dict[int, Cell]
    inputs: dict[int, int]
    weights: list[int]
    mixed: int
    refined: Cell
    estimate: int
    settled: Cell
    confidence: int
    echoes: list[Cell]
    leanings: list[list[int]]
    leaning_inputs: list[int]
    placed: bool = True
    hint_weights: list[int] = field(default_factory=list)
    hints: dict[int, tuple[Cell, int]] = field(default_factory=dict)
    """What the rows gave that are known (0: after the last token, 1: after the last two)."""


def path_below(path: int, trial: Trial) -> int:
    """The path probability (32 bits) of a trial's token below a node of `path`."""
    return path * trial.confidence >> 16


class Model:
    """The twin of the native model: judges candidates and learns from outcomes."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int, int, bool], Cell] = {}
        # by: which rows are known, levels with evidence of each source, has the token the longest
        # match, has it rivals (beside rows: has it places)
        self._weights: dict[tuple[int, ...], list[int]] = {}
        self._hint_cells: dict[tuple[int, int, bool, bool, int], Cell] = {}
        self._hint_weights: dict[tuple[int, ...], list[int]] = {}
        self._refined = _Curves()
        self._settled = _Curves()
        self._echoes: dict[tuple[int, int], Cell] = {}
        self._leanings: dict[tuple[int, int], list[int]] = {}

    def forget(self) -> None:
        """Forget what was learned about single tokens; counts and weights stay."""
        self._echoes.clear()
        self._leanings.clear()

    def judge(
        self,
        places: list[Place],
        depth: int,
        last: int,
        path: int,
        hints: Sequence[tuple[Row, bool]] = (([], False), ([], False)),
        named: Sequence[int] = (),
    ) -> list[Trial]:
        """A trial for every token that the places continue with, in the order of the places.

        depth: tokens drafted above the node. last: the token before. path: the node's probability.
        hints: what the target said after the last token and after the last two, and whether over
        several rows. named: tokens that it named, which are judged whether or not they have places.
        """
        seen = sum(1 << order for order, (row, _) in enumerate(hints) if row)
        matching = {slot: _at_least(slot, places) for slot in range(INPUTS)}
        active = [slot for slot in range(INPUTS) if matching[slot]]
        own_levels = sum(slot < len(LEVELS) for slot in active)
        known = (own_levels, len(active) - own_levels)
        tokens = list(dict.fromkeys([*(p.token for p in places), *named]))
        trials = []
        for token in tokens:
            longest = max((p.length for p in places if p.token == token), default=0)
            level = level_of(longest) if longest else len(LEVELS)
            reached = level + 1 if longest else 0
            other = bool(longest) if seen else len(tokens) > 1
            situation = (seen, *known, reached == max(known), other)
            weights = self._weights_of(situation)
            cells, inputs = {}, {}
            for slot in active:
                at = matching[slot]
                with_it = sum(p.token == token for p in at)
                newest = max(at, key=slot_of)  # the first of equals
                cell = self._cell(slot, with_it, len(at) - with_it, newest.token == token)
                cells[slot], inputs[slot] = cell, LOG_ODDS[cell.probability >> 4]
            echoes = self._echoes_of(token, last)
            for i, echo in enumerate(echoes):
                outcomes = min(echo.seen, 1023)
                trust = 65536 * 2 * outcomes // (2 * outcomes + 3)
                inputs[INPUTS + i] = LOG_ODDS[echo.probability >> 4] * trust >> 16
            inputs[INPUTS + ECHOES] = BIAS
            parts = {slot: weights[slot] * value for slot, value in inputs.items()}
            sums = [
                sum(part for slot, part in parts.items() if slot // len(LEVELS) == source)
                for source in range(2)
            ]
            leanings = self._leanings_of(token, last)
            leaning_inputs = [
                *(log_odds_of(each) for each in sums),
                *(inputs[slot] for slot in range(INPUTS, INPUTS + ECHOES + 1)),
            ]
            leans = sum(w * x for own in leanings for w, x in zip(own, leaning_inputs, strict=True))
            hint_weights = self._hint_weights_of(situation)
            support = 2 if longest else 1 if places else 0
            heard = {
                order: self._hint_of(order, row, again, token, support)
                for order, (row, again) in enumerate(hints)
                if row
            }
            said_by_rows = sum(hint_weights[order] * x for order, (_, x) in heard.items())
            log_odds = log_odds_of(sum(parts.values()) + leans + said_by_rows)
            mixed = squash(log_odds)
            said, refined = self._refined.read((bool(seen), min(depth, 7), level), log_odds)
            own = any(p.source == 0 and p.length == longest for p in places if p.token == token)
            trials.append(
                Trial(token, 0 if own else 1, cells, inputs, weights, mixed, refined,
                      (mixed + said) // 2, refined, 0, echoes, leanings, leaning_inputs,
                      bool(longest), hint_weights, heard)
            )  # fmt: skip
        total = sum(trial.estimate for trial in trials)
        for trial in trials:
            if total > MOST:
                trial.estimate = max(LEAST, trial.estimate * MOST // total)
            context = (trial.placed if seen else None, _sure(path), _deep(depth))
            log_odds = LOG_ODDS[min(trial.estimate >> 4, 4095)]
            said, trial.settled = self._settled.read(context, log_odds)
            trial.confidence = clamp(said, LEAST, MOST)
        return trials

    def learn(self, trials: list[Trial], truth: int) -> None:
        """Learn from all candidates of one node, whose true next token was `truth`."""
        for trial in trials:
            right = trial.token == truth
            error = (ONE if right else 0) - trial.mixed
            for slot, value in trial.inputs.items():
                _nudge(trial.weights, slot, value, error * 40)
            for leaning in trial.leanings:
                for slot, value in enumerate(trial.leaning_inputs):
                    _nudge(leaning, slot, value, error * 60)
            for order, (cell, value) in trial.hints.items():
                _nudge(trial.hint_weights, order, value, error * 40)
                cell.move(right, prior=6, limit=255)
            for cell in trial.cells.values():
                cell.move(right, prior=6, limit=255)
            for echo in trial.echoes:
                echo.move(right, prior=2, limit=25)
            trial.refined.move(right, prior=20, limit=500)

    def learn_choice(self, trial: Trial, right: bool) -> None:
        """Learn whether a drafted node was right, given that its parent was."""
        trial.settled.move(right, prior=20, limit=250)

    def _cell(self, slot: int, count: int, others: int, newest: bool) -> Cell:
        key = (slot, class_of(count), class_of(others), newest)
        if key not in self._cells:
            typical = (0, 100, 200, 350, 600, 1000, 1600, 2800)
            escape = (400, 400, 150, 100, 60, 60)[slot % len(LEVELS)]
            c, d = typical[key[1]], typical[key[2]]
            start = ONE * (c + 30 * newest + 2) // (c + d + escape)
            self._cells[key] = Cell(clamp(start, 200, 63500) << 6)
        return self._cells[key]

    def _weights_of(self, situation: tuple[int, ...]) -> list[int]:
        seen, *_, placed = situation
        start = [ONE * 3 // 10] * INPUTS + [ONE // 5] * ECHOES + [ONE * 3 // 10]
        if seen and not placed:
            start = [ONE // 10] * len(start)
        return self._weights.setdefault(situation, start)

    def _hint_weights_of(self, situation: tuple[int, ...]) -> list[int]:
        first, second = ONE * 6 // 10, ONE * 2 // 10
        start = [second if situation[0] == 3 else first, first]
        return self._hint_weights.setdefault(situation, start)

    def _hint_of(
        self, order: int, row: Row, again: bool, token: int, support: int
    ) -> tuple[Cell, int]:
        """The cell of what a row says about a token, and its log-odds.

        support: 0: no place at the node, 1: none goes on with the token, 2: some do.
        """
        at = next((i for i, (each, _) in enumerate(row) if each == token), None)
        share = 16 if at is None else LOG_ODDS[row[at][1] >> 4] + 2048 >> 8
        key = (order, share, at == 0, again, support)
        if key not in self._hint_cells:
            start = ONE // 50 if at is None else curve(share * 256 + 128 - 2048)
            self._hint_cells[key] = Cell(clamp(start, 200, 63500) << 6)
        cell = self._hint_cells[key]
        return cell, LOG_ODDS[cell.probability >> 4]

    def _echoes_of(self, token: int, last: int) -> list[Cell]:
        alone = token * 0x9E3779B1 & MASK
        alone ^= alone >> 15
        behind = (alone ^ last & MASK) * 0x85EBCA77 & MASK
        behind ^= behind >> 13
        keys = [
            (table, (value * 0xC2B2AE3D & MASK) >> (32 - ECHO_BITS))
            for table, value in enumerate((alone, behind))
        ]
        return [self._echoes.setdefault(key, Cell((ONE * 3 // 10) << 6)) for key in keys]

    def _leanings_of(self, token: int, last: int) -> list[list[int]]:
        keys = [
            (table, (of * 0x9E3779B1 & MASK) >> (32 - LEANING_BITS))
            for table, of in enumerate((token, last))
        ]
        return [self._leanings.setdefault(key, [0] * (2 + ECHOES + 1)) for key in keys]


class _Curves:
    """Corrections of a probability, a curve of 33 bins for each context."""

    def __init__(self) -> None:
        self._bins: dict[object, list[Cell]] = {}

    def read(self, context: object, log_odds: int) -> tuple[int, Cell]:
        """What is said in a context at some log-odds, and the cell that learns from it."""
        start = [Cell(clamp(value, LEAST, MOST) << 6) for value in CURVE]
        bins = self._bins.setdefault(context, start)
        low, part = divmod(log_odds + 2048, 128)
        said = bins[low].probability * (128 - part) + bins[low + 1].probability * part >> 7
        return said, bins[low + (part >= 64)]


def slot_of(place: Place) -> int:
    """The input that a place's source and level belong to."""
    return place.source * len(LEVELS) + level_of(place.length)


def _nudge(weights: list[int], slot: int, value: int, error: int) -> None:
    step = value * error + (1 << 19) >> 20
    weights[slot] = clamp(weights[slot] + step, -HEAVIEST, HEAVIEST)


def _at_least(slot: int, places: list[Place]) -> list[Place]:
    """The places of the slot's source that match at least as far as its level."""
    same = [p for p in places if p.source == slot // len(LEVELS)]
    return [p for p in same if slot_of(p) >= slot]


def _sure(path: int) -> int:
    likely = path >> 16
    return sum(likely > limit for limit in (13107, 39321, 58982))


def _deep(depth: int) -> int:
    return depth if depth < 3 else 3 if depth < 6 else 4 if depth < 12 else 5
