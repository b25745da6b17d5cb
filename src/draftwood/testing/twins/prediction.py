"""Where a text stands in its predictions, in slow Python; as native/src/prediction.h says it.

    prediction   d e f   o l d   ( x )  :            text   d e f   n e w   (   ?
                                 |                                            |
                 followed as far as "def", left at "old", taken up here ------+   "x" comes next

While the text follows a prediction one token is expected. When it leaves, the place is kept, and
several tokens are expected: those after places near by that match what came since, the token after
the one that was replaced, and the one that was left. What was replaced by what is kept as a pair,
and where the old words come again the new ones are expected beside them. How likely each kind of
expectation is was learned from outcomes, beside what Recall says of the same token.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from draftwood.draft import ROOT
from draftwood.sources import PREDICTED
from draftwood.testing.twins.recall_model import LOG_ODDS, MOST, ONE, Cell, clamp, squash

BLANK = -1
RUNS = (1, 2, 3, 5, 9, 17, 33, 65)
START, SAME, STAY, RENAMED, INSIDE, KEPT, NEAR = 9, 10, 12, 15, 21, 22, 23
SEAM, SPACED = 29, 30
KINDS = 31
SPACE = b" \n\r\t"
BASE = (
    *((250, 0, 400), (425, 100, 300), (350, -200, 375), (525, -100, 350), (700, 0, 425)),
    *((775, 100, 400), (975, 100, 425), (1025, 100, 475), (1275, 475, 600)),  # followed so far
    *((400, 400, 500), (-425, -825, 575), (-750, -875, 600)),  # START; SAME after 1, more
    *((-900, -1225, 500), (-825, -1450, 450), (-825, -1150, 375)),  # STAY after 1, 2, 5
    *((100, -25, 450), (550, 175, 600), (-300, -500, 100)),  # RENAMED: untried, right, wrong
    *((200, 75, 325), (700, 500, 700), (-500, -600, 0)),  # ... where the next token is the same
    *((700, 400, 400), (-225, -700, -400)),  # INSIDE, KEPT
    *((-400, -400, 350), (-700, -700, 50)),  # NEAR: 1 token, at the best place and at others
    *((-175, -175, 425), (-700, -700, 125), (300, -125, 575), (-200, -500, 225)),  # 2, more
    *((600, 300, 500), (-100, -300, 350)),  # SEAM, SPACED
)
"""Log-odds (in 1/256) of each kind before anything was learned: alone, where Recall has other
candidates only, and what is added to Recall's own. Fitted on a trace of no table."""
TROUBLES = (2, 5, 13)
BACK, AHEAD, PLACES = 64, 256, 3
"""How far from where it left a text may come back, and how many places are looked at."""
LOCK, SURE = 3, 6
PAIR, PAIRS = 8, 16
LEAST = 1024
LOST = 24
"""Of trouble; from then on only places that match two tokens are drafted from."""
UNTRIED, RIGHT, WRONG = range(3)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a prediction.

    at: the slot of the token that is expected next. run: tokens followed so far. pair, offset:
    where the text repeats the new words of a replacement, which one, and how far.
    """

    at: int
    run: int
    pair: Pair | None = None
    offset: int = 0


@dataclass(slots=True, eq=False)
class Pair:
    """Words of a prediction, and those that the text has instead. after: the token after `old`."""

    old: list[int]
    new: list[int]
    after: int
    state: int = UNTRIED


@dataclass(frozen=True, slots=True)
class Expected:
    """A token that may come next. kind: why. then: where the text stands after it."""

    token: int
    kind: int
    then: Place


@dataclass(slots=True)
class Trust:
    """How often each kind of expectation was right, as learned in one namespace."""

    cells: dict[tuple[int, int, int], Cell] = field(default_factory=dict)

    def read(self, kind: int, trouble: int, said: int | None) -> tuple[int, Cell]:
        """A probability (16 bits), and the cell that learns from the outcome.

        said: Recall's confidence in the same token; -1: it has other candidates; None: it has none.
        """
        if said is None or said < 0:
            cell = self._cell(kind, trouble, 0 if said is None else 1)
            return cell.probability, cell
        low, part = divmod(LOG_ODDS[said >> 4] + 2048, 512)
        pair = [self._cell(kind, trouble, 2 + at) for at in (low, low + 1)]
        value = pair[0].probability * (512 - part) + pair[1].probability * part >> 9
        return value, pair[part >= 256]

    def _cell(self, kind: int, trouble: int, column: int) -> Cell:
        key = (kind, trouble, column)
        if key not in self.cells:
            start = BASE[kind][min(column, 2)] - 100 * trouble
            if column >= 2:
                start = (start + (column - 6) * 512) * 3 >> 2
            self.cells[key] = Cell(squash(start) << 6)
        return self.cells[key]


@dataclass(frozen=True, slots=True)
class Drafted:
    """A node of a draft.

    confidence: a probability in units of 2**-16. path: the product down its path, in units of
    2**-32. at: its place in a prediction, or -1.
    """

    token: int
    parent: int
    confidence: int
    source: int
    at: int = -1
    path: int = 0


class SlowFollower:
    """The twin of the native `Follower`; see there."""

    def __init__(
        self, lead: Sequence[int], trust: Trust, texts: Mapping[int, bytes] | None = None
    ) -> None:
        self.likely = list(lead)
        self.texts = texts or {}
        self.ids: dict[bytes, int] = {}
        for token in sorted(self.texts, reverse=True):
            self.ids[self.texts[token]] = token
        self.trust = trust
        self.anchors = [
            at
            for at, token in enumerate(self.likely)
            if token >= 0 and (at == 0 or self.likely[at - 1] < 0)
        ][:4]
        self.place: Place | None = None
        self.recent: list[int] = []
        self.since = 0
        self.trouble = 0
        self.pairs: list[Pair] = []
        self.offers: list[tuple[int, int, Cell]] = []
        self.nodes: list[Drafted] = []

    def token(self, at: int) -> int:
        """The prediction's token at a slot; negative where there is none."""
        return self.likely[at] if 0 <= at < len(self.likely) else BLANK

    def expect(self, place: Place) -> list[Expected]:
        """What a text may go on with that stands in a prediction."""
        if place.pair is not None:
            pair = place.pair
            return [Expected(pair.new[place.offset], INSIDE, _inside(place, place.offset + 1))]
        token = self.token(place.at)
        if token < 0:
            return []
        plain = Place(place.at + 1, place.run + 1)
        for pair in self.pairs:
            end = place.at + len(pair.old)
            if self.likely[place.at : end] != pair.old:
                continue
            same = self.token(end) == pair.after
            kind = RENAMED + 3 * same + pair.state
            then = _inside(Place(end, place.run, pair), 1)
            return [Expected(pair.new[0], kind, then), Expected(token, KEPT, plain)]
        return [Expected(token, sum(place.run >= least for least in RUNS), plain)]

    def roots(self) -> list[Expected]:
        """What may come next."""
        if self.place is not None:
            return self.expect(self.place)
        found: list[Expected] = []
        if not self.since:
            found += [Expected(self.token(at), START, Place(at + 1, 1)) for at in self.anchors]
            for at in self.anchors:
                found += self._started(at)
        else:
            for at in self.anchors:
                found += self._seamed(at)
        lost = self.trouble >= LOST
        for rank, (at, length) in enumerate(self.near()):
            if lost and length < 2:
                break
            for each in self.expect(Place(at, length)):
                kind = NEAR + 2 * (min(length, 3) - 1) + (rank > 0)
                found.append(each if each.kind >= RENAMED else replace(each, kind=kind))
        if self.since and not lost and len(self.anchors) == 1:
            left = self.anchors[0]
            if self.since <= 3:
                found.append(self._guess(left + self.since, SAME + (self.since > 1)))
            if self.since <= 16:
                late = sum(self.since >= least for least in (2, 5))
                found.append(self._guess(left, STAY + late))
        kept: list[Expected] = []
        for each in found:
            if each.token >= 0 and all(each.token != other.token for other in kept):
                kept.append(each)
        return kept[:4]

    def seam(self, anchor: int) -> tuple[int, int, bool]:
        """Where the prediction goes on with the text, if that is the same in other tokens.

        A slot (-1: the text is another), how many bytes of its token the text has, and whether the
        text is more than white space.
        """
        came = [self.texts.get(each, b"") for each in self.recent]
        if not all(came) or self.since != len(came):
            return -1, 0, False
        rest, slots = b"".join(came).lstrip(SPACE), []
        told = bool(rest)
        for at in range(anchor, len(self.likely)):  # each byte's slot and offset, up to the end
            text = self.texts.get(self.likely[at], b"")
            if not text:
                break
            slots += [(at, offset, text[offset : offset + 1]) for offset in range(len(text))]
        while slots and slots[0][2] in SPACE:
            slots.pop(0)
        theirs = b"".join(byte for *_, byte in slots[: len(rest)])
        if theirs != rest or len(slots) == len(rest):
            return -1, 0, False
        return slots[len(rest)][0], slots[len(rest)][1], told

    def _started(self, anchor: int) -> list[Expected]:
        text = self.texts.get(self.token(anchor), b"")
        if not text:
            return []
        if text in (b" ", b"\n", b"\r", b"\t"):
            return [Expected(self.token(anchor + 1), SPACED, Place(anchor + 2, 1))]
        other = text[1:] if text[:1] in SPACE else b" " + text
        return [Expected(self.ids.get(other, BLANK), SPACED, Place(anchor + 1, 1))]

    def _seamed(self, anchor: int) -> list[Expected]:
        at, offset, _ = self.seam(anchor)
        if at < 0:
            return []
        rest = self.texts.get(self.token(at), b"")[offset:]
        token = self.ids.get(rest, BLANK) if offset else self.token(at)
        return [Expected(token, SEAM, Place(at + 1, 1))]

    def _guess(self, at: int, kind: int) -> Expected:
        return Expected(self.token(at), kind, Place(at + 1, 0))

    def near(self) -> list[tuple[int, int]]:
        """Places near the anchors that match what came since: (place, length), the best first."""
        found: dict[int, tuple[int, int, int]] = {}
        for anchor in self.anchors if self.since else ():
            for at in range(max(anchor - BACK, 1), anchor + AHEAD + 1):
                if self.token(at) < 0:
                    continue
                length = 0
                while (
                    length < min(len(self.recent), 16)
                    and self.token(at - 1 - length) == self.recent[-1 - length]
                ):
                    length += 1
                if length:
                    distance = at - anchor if at > anchor else AHEAD + 1 + anchor - at
                    found[at] = min(found.get(at, (0, 0, 0)), (-length, distance, at))
        return [(at, -minus) for minus, _, at in sorted(found.values())[:PLACES]]

    def move(self, token: int) -> None:
        """Past one token of the text."""
        if self.place is not None:
            before = self.place
            for each in self.expect(before):
                if each.token == token:
                    self._judge_pair(before, each)
                    self.place = each.then
                    if each.then.run >= 16:
                        self.trouble = 0
                    return
            self._leave(before, token)
        else:
            if not self.since:
                for each in self.roots():
                    if each.token == token:
                        self.place = each.then
                        return
            self.recent = [*self.recent, token][-32:]
            self.since += 1
            self.trouble += self.since % 4 == 0
        self._take_up()

    def _judge_pair(self, before: Place, taken: Expected) -> None:
        if RENAMED <= taken.kind <= KEPT and taken.kind != INSIDE:
            pair = next(p for p in self.pairs if self._stands(p, before.at))
            pair.state = WRONG if taken.kind == KEPT else RIGHT

    def _stands(self, pair: Pair, at: int) -> bool:
        return self.likely[at : at + len(pair.old)] == pair.old

    def _leave(self, place: Place, token: int) -> None:
        left, came = place.at, [token]
        if place.pair is not None:
            left -= len(place.pair.old)
            came = [*place.pair.new[: place.offset], token]
        self.anchors, self.recent, self.since = [left], came, len(came)
        self.trouble += self.token(left) >= 0
        self.place = None

    def _take_up(self) -> None:
        """Follow again, where a place near by matches long enough, or the text is the same."""
        for anchor in self.anchors:
            at, offset, told = self.seam(anchor)
            if at >= 0 and not offset and told:
                self.place = Place(at, 1)
                return
        found = self.near()
        if not found:
            return
        at, length = found[0]
        alone = len(found) == 1 or found[1][1] < length
        if length < LOCK or (length < SURE and not alone):
            return
        if len(self.anchors) == 1 and self.since == len(self.recent):
            old = self.likely[self.anchors[0] : max(at - length, self.anchors[0])]
            new = self.recent[: self.since - length]
            if 0 < len(old) <= PAIR and 0 < len(new) <= PAIR and old[0] != new[0]:
                self.pairs = [p for p in self.pairs if p.old != old][: PAIRS - 1]
                self.pairs.insert(0, Pair(old, new, self.token(at - length)))
        self.place = Place(at, length)

    def merge(
        self, nodes: Sequence[Drafted], *, most: int, reach: int, least: int, chain: bool
    ) -> list[Drafted]:
        """Recall's draft and what is expected, as one draft of the best nodes."""
        self.offers, self.nodes = [], []
        if not most or not reach:
            return []
        roots = self.roots()
        below: dict[int, list[int]] = {}
        for at, node in enumerate(nodes):
            below.setdefault(node.parent, []).append(at)
        trouble = sum(self.trouble >= least for least in TROUBLES)
        made: list[Drafted] = []
        depths: list[int] = []
        heap: list[tuple[int, int, Drafted, Place | None, int | None]] = []
        order = 0

        def expand(parent: int, path: int, expected: list[Expected], mine: int | None) -> None:
            nonlocal order
            children = below.get(mine, []) if mine is not None else []
            told = []
            for each in expected:
                same = next((c for c in children if nodes[c].token == each.token), None)
                said = None if not children else -1 if same is None else nodes[same].confidence
                p, cell = self.trust.read(each.kind, trouble, said)
                told.append((each, same, p))
                self.offers.append((parent, each.token, cell))
            total = sum(p for *_, p in told)
            taken = sum(nodes[same].confidence for _, same, _ in told if same is not None)
            rest, own = max(ONE - total, 0), max(ONE - taken, 1)
            options: list[tuple[Drafted, Place | None, int | None]] = []
            for each, same, p in told:
                p = clamp(p * MOST // total if total > MOST else p, 16, MOST)
                if p >= LEAST:
                    node = Drafted(each.token, parent, p, PREDICTED, each.then.at - 1)
                    options.append((node, each.then, same))
            for child in children:
                node = nodes[child]
                if any(node.token == each.token for each in expected):
                    continue
                p = clamp(min(node.confidence, node.confidence * rest // own), 1, MOST)
                options.append((Drafted(node.token, parent, p, node.source, node.at), None, child))
            if chain and options:
                options = [max(options, key=lambda option: option[0].confidence)]
            for node, place, of in options:
                likely = path * node.confidence >> 16
                if likely >= max(least, 1):
                    heapq.heappush(heap, (-likely, order, node, place, of))
                    order += 1

        expand(ROOT, 2**32 - 1, roots, ROOT)
        while heap:
            minus, _, node, place, child = heapq.heappop(heap)
            made.append(replace(node, path=-minus))
            depths.append(1 if node.parent == ROOT else depths[node.parent] + 1)
            if len(made) == most:
                break
            if depths[-1] < reach:
                expected = [] if place is None else self.expect(place)
                expand(len(made) - 1, -minus, expected, child)
        self.nodes = made
        return made

    def observe(self, tokens: list[int], *, learn: bool = True) -> None:
        """Learn from how the draft went, and move."""
        at, path = ROOT, []
        for truth in tokens:
            for parent, token, cell in self.offers:
                if learn and parent == at:
                    cell.move(token == truth, prior=8, limit=250)
            following = [i for i, n in enumerate(self.nodes) if n.parent == at and n.token == truth]
            if not following:
                break
            at = following[0]
            path.append(self.nodes[at])
        self.offers, self.nodes = [], []
        for number, token in enumerate(tokens):
            self.move(token)
            if self.place is None and number == len(path) - 1 >= LOCK - 1:
                last = path[-LOCK:]
                if all(n.at >= 0 and n.at == last[0].at + i for i, n in enumerate(last)):
                    self.place = Place(last[-1].at + 1, min(len(path), 16))


def _inside(place: Place, offset: int) -> Place:
    pair = place.pair
    if pair is None or offset >= len(pair.new):
        return Place(place.at, place.run)
    return Place(place.at, place.run, pair, offset)
