"""Make the folder that `run.sh` takes to a machine without network: token ids, and a wheel.

    python benchmarks/gpu/prepare.py --traces T/*.gz --tokenizer PATH --to .gpu [--wheel FILE]

Traces that begin with `sqlagent-` and `agentcode-` are SQL agents' and coding agents'. Prompts keep
their last tokens, answers their first. `about.json` says from which commit it was made.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.command import parser, read
from benchmarks.common.provenance import provenance
from benchmarks.vllm.traffic import Request, Traffic, recorded

TRAFFIC = "traffic.json.gz"
ABOUT = "about.json"


def main() -> None:
    made = parser(__doc__, traces=True)
    made.add_argument("--to", type=Path, required=True, help="the folder")
    made.add_argument("--wheel", type=Path, help="of this commit, for the machine's Python")
    made.add_argument("--records", type=int, default=320, help="of each trace, at most")
    made.add_argument("--prompt", type=int, default=480, help="tokens of each, its last")
    made.add_argument("--answer", type=int, default=160, help="tokens of each, its first")
    options = read(made)
    sets = recorded(
        options.traces,
        options.tokenizer,
        records=options.records,
        prompt=options.prompt,
        answer=options.answer,
    )
    options.to.mkdir(parents=True, exist_ok=True)
    for old in options.to.glob("*.whl"):
        old.unlink()
    if options.wheel:
        shutil.copy(options.wheel, options.to)
    write_traffic(options.to, sets)
    for each in sets:
        print(f"{each.name}: {len(each.requests)} served, {len(each.history)} as history")


def write_traffic(folder: Path, sets: list[Traffic]) -> None:
    """Write sets of requests and where they come from."""
    content: list[dict[str, Any]] = [asdict(each) for each in sets]
    with gzip.open(folder / TRAFFIC, "wt", encoding="utf-8") as file:
        json.dump(content, file)
    (folder / ABOUT).write_text(json.dumps(provenance(), indent=1) + "\n", encoding="utf-8")


def read_traffic(folder: Path) -> tuple[list[Traffic], dict[str, Any]]:
    """The sets, and where they come from."""
    with gzip.open(folder / TRAFFIC, "rt", encoding="utf-8") as file:
        content = json.load(file)
    for each in content:
        for name in ("requests", "history"):
            each[name] = [Request(**request) for request in each[name]]
    about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    return [Traffic(**each) for each in content], about


if __name__ == "__main__":
    main()
