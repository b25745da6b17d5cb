"""The form that every benchmark has: its options, its sanity checks, its result.

    options = read(parser(__doc__, traces=True), limit_tokens=2_000)
    ...
    require(rate >= 1.0, "a step gives at least one token")
    publish({"rows": rows}, options)

`--smoke` runs the whole script in seconds on input that it makes itself, to show that it works; its
figures mean nothing.
"""

from __future__ import annotations

import argparse
import atexit
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common.provenance import provenance
from benchmarks.common.tiny import tiny_traces


def parser(about: str | None, *, traces: bool = False) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark; traces: with those of recorded traces, too."""
    made = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    made.add_argument("--json", action="store_true", help="end with one JSON object")
    made.add_argument("--out", type=Path, help="write the JSON object to this file")
    made.add_argument("--smoke", action="store_true", help="seconds, on tiny input of its own")
    if traces:
        made.add_argument("--traces", nargs="+", type=Path, default=[], help="JSONL, .gz or .zst")
        made.add_argument("--tokenizer", type=Path, help="tokenizer.json or a folder that has one")
    return made


def read(made: argparse.ArgumentParser, *, optional: bool = False, **tiny: Any) -> Any:
    """The options of the command line.

    tiny: defaults that --smoke puts in the place of the usual ones. optional: traces may be
    missing without --smoke.
    """
    smoke = "--smoke" in sys.argv[1:]
    if smoke:
        made.set_defaults(**tiny)
    options = made.parse_args()
    if smoke and options.out:
        made.error("figures of --smoke mean nothing; leave --out away")
    if not hasattr(options, "traces"):
        return options
    if smoke and not options.traces:
        folder = TemporaryDirectory(prefix="draftwood-smoke-")
        atexit.register(folder.cleanup)
        options.traces, options.tokenizer = tiny_traces(Path(folder.name))
    if (not options.traces and not optional) or (options.traces and options.tokenizer is None):
        made.error("give --traces FILE... and --tokenizer PATH, or --smoke")
    return options


def require(holds: bool, what: str) -> None:
    """Stop with exit status 1 where a sanity check does not hold."""
    if not holds:
        raise SystemExit(f"{Path(sys.argv[0]).parent.name}: this should hold and does not: {what}")


def publish(
    result: dict[str, Any], options: Any, *, under: str | None = None, made_from: str | None = None
) -> None:
    """Add the provenance; print and write what the options ask for.

    under: the result's name in a file that keeps several. made_from: the commit, where the script
    runs from a copy that has no history of its own.
    """
    result["provenance"] = provenance()
    result["provenance"]["revision"] = made_from or result["provenance"]["revision"]
    if options.out:
        kept = result
        if under:
            others = json.loads(options.out.read_text()) if options.out.exists() else {}
            kept = others | {under: result}
        options.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(result), flush=True)
