"""How many drafted tokens each verification rule accepts, by exact enumeration.

A target p and a drafter q = (1 - d) p + d r, both random over three words and exact fractions, are
given to every rule: all draws of the drafter and of the rule are enumerated, so that the expected
number of accepted tokens a step is a number, not an estimate. Each rule gets the draws that it is
made for, in the same shapes; the mean over seeds is shown for three distances d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np

from draftwood.draft import ROOT, Draft, as_tokens
from draftwood.protocols import Verifier
from draftwood.sampling.chance import Chance
from draftwood.sampling.law import same
from draftwood.testing import Row, ToyTarget, law_of, sampled_draft
from draftwood.verify.block import BlockVerification
from draftwood.verify.drawing import Draw, distinct, hub_pair, independent
from draftwood.verify.match import SampleAndMatch
from draftwood.verify.multiround import MultiRound
from draftwood.verify.rejection import ChainRejection, RecursiveRejection
from draftwood.verify.transport import KSeq, SpecHub
from draftwood.verify.traversal import TraversalVerification

VOCAB_SIZE = 3
PROMPT = as_tokens([0])
DISTANCES = (Fraction(1, 10), Fraction(3, 10), Fraction(6, 10))
SHAPES = {
    "chain of 3": (ROOT, 0, 1),
    "2 siblings, 2 below the first": (ROOT, ROOT, 0, 0),
    "2 siblings, 1 below each": (ROOT, ROOT, 0, 1),
}


@dataclass(frozen=True)
class Rule:
    """A rule with the draws that it is made for; draw None: the drafter's likeliest tokens."""

    name: str
    make: Callable[[Chance], Verifier]
    draw: Draw | None
    shapes: tuple[str, ...] = tuple(SHAPES)


CHAIN, FIRST, EACH = SHAPES
RULES = (
    Rule("sample and match", lambda c: SampleAndMatch(c, same), independent),
    Rule("chain rejection", lambda c: ChainRejection(c, same), independent, (CHAIN,)),
    Rule("block verification", lambda c: BlockVerification(c, same), independent, (CHAIN,)),
    Rule("MSS", lambda c: MultiRound(c, same), independent),
    Rule("K-SEQ", lambda c: KSeq(c, same, halvings=6), independent),
    Rule(
        "traversal, replacement",
        lambda c: TraversalVerification(c, same, replacement=True),
        independent,
    ),
    Rule("recursive rejection", lambda c: RecursiveRejection(c, same), distinct),
    Rule("traversal", lambda c: TraversalVerification(c, same), distinct),
    Rule("SpecHub", lambda c: SpecHub(c, same), hub_pair, (FIRST,)),
    Rule("sample and match, chosen", lambda c: SampleAndMatch(c, same), None),
)


def random_model(random: Random) -> Row:
    """A row of fractions for each last token."""
    rows = [[1 + random.randrange(8) for _ in range(VOCAB_SIZE)] for _ in range(VOCAB_SIZE)]
    exact = [np.array([Fraction(n, sum(row)) for n in row], dtype=object) for row in rows]
    return lambda prefix: exact[prefix[-1]]


def blend(p: Row, r: Row, distance: Fraction) -> Row:
    """The drafter at a distance from p, in the direction of r."""
    return lambda prefix: (1 - distance) * np.asarray(p(prefix)) + distance * np.asarray(r(prefix))


def chosen(q: Row, parents: Sequence[int]) -> Draft:
    """The drafter's likeliest tokens in a shape, siblings in falling order."""
    prefixes = {ROOT: tuple(PROMPT.tolist())}
    given = dict.fromkeys(range(ROOT, len(parents)), 0)
    tokens = []
    for node, parent in enumerate(parents):
        order = np.argsort(-np.asarray(q(prefixes[parent]), dtype=float), kind="stable")
        token = int(order[given[parent]])
        given[parent] += 1
        tokens.append(token)
        prefixes[node] = (*prefixes[parent], token)
    return Draft.tree(tokens, parents)


def accepted(rule: Rule, p: Row, q: Row, parents: Sequence[int]) -> Fraction:
    """The expected number of accepted tokens of one step, exactly."""

    def program(chance: Chance) -> int:
        if rule.draw is None:
            draft = chosen(q, parents)
        else:
            draft = sampled_draft(chance, q, PROMPT, parents, rule.draw)
        rows = ToyTarget(p).open(PROMPT).score(draft)
        return len(rule.make(chance).verify(draft, rows).path)

    return sum((n * chance for n, chance in law_of(program).items()), Fraction(0))


def table(
    seeds: int, rules: Sequence[Rule] = RULES, distances: Sequence[Fraction] = DISTANCES
) -> list[dict[str, Any]]:
    """One row a rule and shape: the mean of expected accepted tokens, by distance."""
    rows: list[dict[str, Any]] = []
    for shape, parents in SHAPES.items():
        for rule in rules:
            if shape not in rule.shapes:
                continue
            means = {}
            for distance in distances:
                total = Fraction(0)
                for seed in range(seeds):
                    random = Random(seed)
                    p, r = random_model(random), random_model(random)
                    total += accepted(rule, p, blend(p, r, distance), parents)
                means[str(float(distance))] = round(float(total / seeds), 4)
            rows.append({"shape": shape, "rule": rule.name, "accepted": means})
    return rows
