"""How often the likeliest token depends on how many rows a pass has.

    python benchmarks/near_ties/run.py --model FOLDER_OR_HUB_ID [--count 12] [--rows 8 16] [--json]

Where two tokens are within rounding of one another, sums in another order may turn them around.
Each prompt is passed in pieces of 1 row and of `rows`, by the library's own pass and by ours; a
position whose likeliest token differs from that of pieces of one row is a flip. `own`: against the
same side's pieces of one row; `library`: ours against the library's pieces of one row.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from benchmarks.common.command import parser, publish, read, require
from benchmarks.real.run import encoded
from draftwood.draft import TokenIds
from draftwood.load import load
from draftwood.targets.transformers.cache import SequenceCache
from draftwood.targets.transformers.network import Network
from draftwood.targets.transformers.rows import most_likely

PROMPTS = Path(__file__).resolve().parents[1] / "real" / "prompts.jsonl"


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", default="demo", help="a folder or a Hub id")
    made.add_argument("--count", type=int, default=60, help="prompts, evenly of all kinds")
    made.add_argument("--rows", type=int, nargs="+", default=[2, 8, 16, 32])
    made.add_argument("--threads", type=int, default=1)
    options = read(made, count=1, rows=[8])
    torch.set_num_threads(options.threads)
    with load(options.model, "none", device="cpu") as model:
        prompts = encoded(model, PROMPTS, options.count)
        sides = {
            "library": Network(model.target.model, lean=False),
            "ours": Network(model.target.model),
        }
    require(sides["ours"].lean is not None, "the model has a bare pass")
    tokens = sum(map(len, prompts))
    alone = {
        name: [likeliest(side, prompt, 1) for prompt in prompts] for name, side in sides.items()
    }
    rows: list[dict[str, Any]] = []
    for name, side in sides.items():
        for count in (1, *options.rows):
            found = alone[name]
            if count > 1:
                found = [likeliest(side, prompt, count) for prompt in prompts]
            row = {"side": name, "rows": count, "tokens": tokens}
            row |= {"own": flips(found, alone[name]), "library": flips(found, alone["library"])}
            row["own_per_100k"] = round(1e5 * row["own"] / tokens, 1)
            rows.append(row)
            print(*(f"{key} {value}" for key, value in row.items()), flush=True)
    require(rows[0]["own"] == 0, "passes of one row agree with themselves")
    publish({"rows": rows}, options)


def likeliest(network: Network, prompt: TokenIds, count: int) -> TokenIds:
    """The likeliest token after each of a prompt's, in passes of `count` rows."""
    cache, found = SequenceCache(network.layers.count), []
    with torch.inference_mode():
        for end in range(count, len(prompt) + count, count):
            context = prompt[: min(end, len(prompt))]
            found.append(
                most_likely(network.forward(context, cache, keep=len(context) - cache.length))
            )
    return np.concatenate(found)


def flips(found: list[TokenIds], expected: list[TokenIds]) -> int:
    """Positions at which they differ."""
    return sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True))


if __name__ == "__main__":
    main()
