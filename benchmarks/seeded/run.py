"""What drafts gain that look up the seed's noise, against seeded sampling and sample-and-match.

    python benchmarks/seeded/run.py [--requests 40] [--json]
    python benchmarks/seeded/run.py --target PATH --prompts FILE.jsonl [--suffix TEXT]

Model, prompts and options as in recycled/run.py. Sample-and-match draws from a generator, so that
its texts differ from the seeded ones and its figures carry the chance of that; the two seeded ways
give the same texts, which is checked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import answers
from benchmarks.common.command import require
from benchmarks.common.provenance import shortened
from draftwood.drafters.seeded import NoiseLookahead
from draftwood.protocols import Verifier
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling
from draftwood.verify.gumbel import GumbelNoise
from draftwood.verify.match import SampleAndMatch


def main() -> None:
    options = answers.read(__doc__)
    model = answers.load_model(options)
    rows: list[dict[str, Any]] = []
    for temperature in options.temperatures:
        if not temperature:
            continue
        prompts = answers.prompts_of(model, options, temperature)
        for spec in options.drafters:
            texts = {}
            lookahead = NoiseLookahead(answers.drafter_for(model, spec))
            for way, drafter, verifier in (
                ("sample and match", answers.drafter_for(model, spec), matching(temperature)),
                ("seeded", answers.drafter_for(model, spec), answers.rule(temperature)),
                ("seeded, lookahead", by_seed(lookahead), answers.rule(temperature)),
            ):
                steps = answers.run(model, drafter, prompts, options.max_tokens, verifier)
                texts[way] = [token for step in steps for token in step.tokens.tolist()]
                row = {"drafter": shortened(spec), "way": way, "temperature": temperature}
                rows.append(row | answers.figures(steps))
                answers.print_row(rows[-1], f"{spec}, {way}")
            rows[-1]["equal_text"] = texts["seeded"] == texts["seeded, lookahead"]
    equal = [row["equal_text"] for row in rows if "equal_text" in row]
    if options.target is None:
        require(bool(equal) and all(equal), "one seed gives one text, with lookahead or without")
    answers.publish(rows, options)


def matching(temperature: float) -> Callable[[int], Verifier]:
    law = Sampling(temperature=temperature)
    return lambda seed: SampleAndMatch(SeededChance(seed), law)


def by_seed(lookahead: NoiseLookahead) -> Callable[[int], Any]:
    return lambda seed: lookahead.under(GumbelNoise(seed))


if __name__ == "__main__":
    main()
