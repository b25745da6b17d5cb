"""The acceptance ratchet of the demo pair: what each rule and drafter accepts on sampled text.

    python tests/golden/pair_ratchet.py            what holds now, beside what is expected
    python tests/golden/pair_ratchet.py --write    expect from now on what holds now

Both models run: prompts of the golden traces, text sampled at temperature 1 (greedy for drafters
that choose their tokens), chance by seed. Another processor may round a probability otherwise and
so take another branch here and there: SLACK of the tokens a step is left for that.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from draftwood.decode import decode
from draftwood.demo.model import drafter_path, target_path
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.small.grow import ModelDrafter
from draftwood.drafters.small.sampled import MultiCandidate
from draftwood.drafters.small.shapes import Shape
from draftwood.load import load
from draftwood.protocols import Drafter, Verifier
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling
from draftwood.stats import Stats
from draftwood.targets.transformers.draft_model import TransformersDraftModel
from draftwood.text.stop import Stop
from draftwood.verify.block import BlockVerification
from draftwood.verify.greedy import Greedy
from draftwood.verify.match import SampleAndMatch
from draftwood.verify.multiround import MultiRound
from draftwood.verify.rejection import ChainRejection, RecursiveRejection
from draftwood.verify.transport import KSeq, SpecHub
from draftwood.verify.traversal import TraversalVerification

HERE = Path(__file__).parent
EXPECTED = HERE / "expected_pair.json"
SLACK = 0.03
PROMPTS = {"rollouts": 24, "sql_agent": 40}
TOKENS = 96
LAW = Sampling(temperature=1.0)


@dataclass(frozen=True)
class Side:
    """A drafter and a rule. spec: the drafter's name in the catalog. make: both, for one prompt."""

    spec: str
    make: Callable[[Any, int], tuple[Drafter, Verifier]]


def sampled(widths, draw, rule):
    """A tree drawn from q, and the rule that verifies it."""

    def make(model, seed):
        drafter = MultiCandidate(model, widths=widths, draw=draw, law=LAW, chance=seed)
        return drafter, rule(SeededChance(seed + 1), LAW)

    return Side("sampled", make)


def chosen(spec, shape):
    """A tree of likeliest tokens, verified greedily."""
    return Side(spec, lambda model, seed: (ModelDrafter(model, shape, gain=0.0), Greedy()))


def shared(spec):
    """One drafter for all prompts, from its spec, verified greedily."""
    name = spec.partition(":")[0]
    return Side(name, lambda model, seed: (made(spec), Greedy()))


@cache
def made(spec):
    """The drafter of a spec, `SMALL` being the demo's small model."""
    return make_drafter(spec.replace("SMALL", str(drafter_path())))


CHAIN, TREE = (1, 1, 1, 1), (3, 1, 1, 1)
SIDES = {
    "chain rejection": sampled(CHAIN, "independent", ChainRejection),
    "block": sampled(CHAIN, "independent", BlockVerification),
    "sample and match": sampled(TREE, "distinct", SampleAndMatch),
    "recursive rejection": sampled(TREE, "distinct", RecursiveRejection),
    "traversal": sampled(TREE, "distinct", TraversalVerification),
    "MSS": sampled(TREE, "independent", MultiRound),
    "K-SEQ": sampled(TREE, "independent", KSeq),
    "SpecHub": sampled((2, 2), "hub", SpecHub),
    "chain": chosen("chain", Shape.chain(6)),
    "specinfer": chosen("specinfer", Shape.expansion((4, 2, 1, 1))),
    "bestfirst": chosen("bestfirst", Shape.best_first()),
    "gsd": chosen("gsd", Shape.gsd()),
    "cape": shared("cape:model=SMALL,levels=6,gain=0"),
    "ouroboros": shared("ouroboros:model=SMALL,gamma=4,gain=0"),
    "overlapped": shared("overlapped:model=SMALL,ahead=4,least=4"),
    "recycled": shared("recycled"),
    "blend": shared("blend:first=recall:seed=1"),
}


@cache
def pair():
    """The demo's target and its small model."""
    return load(target_path(), "none"), TransformersDraftModel.load(drafter_path())


def prompts():
    """Some lines of each golden trace."""
    for name, count in PROMPTS.items():
        yield from (HERE / "traces" / f"{name}.jsonl").read_text().splitlines()[:count]


def measure(side):
    """Tokens and steps of one side."""
    llm, small = pair()
    stats = Stats()
    for number, line in enumerate(prompts()):
        drafter, verifier = SIDES[side].make(small, 1000 * number)
        prompt = np.array(json.loads(line)["prompt_tokens"], dtype=np.int32)
        stop = Stop(TOKENS, llm.end_tokens)
        for step in decode(llm.target, drafter, verifier, prompt, stop=stop):
            stats.add(step)
    return {"tokens": stats.tokens, "steps": stats.steps}


def main():
    now = {side: measure(side) for side in SIDES}
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    for side, row in now.items():
        before = expected.get(side)
        was = f"{before['tokens'] / before['steps']:.3f}" if before else "-"
        print(f"{side:22} {row['tokens'] / row['steps']:.3f} tokens a step (expected {was})")
    if "--write" in sys.argv[1:]:
        EXPECTED.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()
