"""Recycled logits beside Recall, and both in one tree: tokens per step, time and memory.

    python benchmarks/recycled/run.py [--requests 40] [--json]
    python benchmarks/recycled/run.py --target PATH --prompts FILE.jsonl [--suffix TEXT] [--json]

By default the demo model answers requests of which each asks another database that it never saw.
Any other model is given by path, with prompts from the `prompt` fields of a JSONL file (may be
gzip'ed). Every drafter begins empty and sees the same texts, one seed a prompt. "draft us" and
"observe us" are medians a step, on one thread; "pass ms" is that of the target's pass.

With --out FILE the rows are kept in the file under the model's name, or another --under NAME.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import answers
from benchmarks.common.command import require
from benchmarks.common.provenance import shortened


def main() -> None:
    options = answers.read(__doc__)
    model = answers.load_model(options)
    rows: list[dict[str, Any]] = []
    for temperature in options.temperatures:
        prompts = answers.prompts_of(model, options, temperature)
        tokens = set()
        for spec in options.drafters:
            drafter = answers.drafter_for(model, spec)
            steps = answers.run(
                model, drafter, prompts, options.max_tokens, answers.rule(temperature)
            )
            row = {
                "drafter": shortened(spec),
                "temperature": temperature,
                "nbytes": memory(drafter),
            }
            rows.append(row | answers.figures(steps))
            tokens.add(rows[-1]["tokens"])
            answers.print_row(rows[-1], spec)
        if options.target is None:  # in float32; elsewhere a near-tie may fall otherwise
            require(len(tokens) == 1, f"equally many tokens, whatever drafts; T {temperature}")
    require(all(row["tokens_per_step"] >= 1.0 for row in rows), "a step gives a token or more")
    answers.publish(rows, options)


def memory(drafter: Any) -> int:
    """Bytes of history that a drafter holds, those of a blend's parts together."""
    parts = getattr(drafter, "parts", [drafter])
    return sum(getattr(part, "nbytes", 0) for part in parts)


if __name__ == "__main__":
    main()
