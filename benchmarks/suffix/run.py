"""Our suffix tree against the released SuffixDecoding: equal drafts, and what they cost.

The peer is built from its source distribution beside the torch that is installed. It needs no GPU;
the virtual environment must be active, since the build asks CMake for its Python:

    python3 -m venv peers && . peers/bin/activate
    pip install torch==2.13.0 setuptools wheel ninja cmake
    pip install nanobind==2.9.2 protobuf==5.29.6 grpcio-tools
    pip install --no-build-isolation --no-deps --no-binary arctic-inference arctic-inference==0.3.0
    pip install --no-deps . && pip install numpy tokenizers zstandard typer rich
    python benchmarks/suffix/run.py --traces traces/*.jsonl.gz --tokenizer tokenizer.json --json

It prints tables, then (with --json) one JSON object as its last line: `contexts` compared and
`equal_drafts` among them; ratios peer / ours under `d24` and `d64`, each the lower of the sizes
stored; our `batch256_ms`, `prompt128k_open_ms`, `prompt128k_close_ms`, `worst_evict_ms` (a whole
response of the traces), `worst_evict_call_ms` (the longest call while one of 32 k tokens leaves),
each the worst of the depths and sizes. `settings`, `tables` and `provenance` hold the rest.

Where the peer is not installed, --smoke runs with a stand-in made of our own tree, and only then.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import islice, repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from benchmarks.suffix.cost import FULL, SMALL, Load, measure
from benchmarks.suffix.costs_table import Table
from benchmarks.suffix.equal import EXPLAINED, SETTINGS, Comparison, compare, compare_evicting
from benchmarks.suffix.released import INSTALLED
from benchmarks.suffix.resident import memory
from benchmarks.suffix.serving import measure_requests
from draftwood.draft import TokenIds
from draftwood.logs.call import Record
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer

DEPTHS = (24, 64)
EVICTING = 4
"""Traces and depths on which the trees are compared while old responses leave them, too."""
RATIOS = {
    "append_ratio": "append",
    "memory_ratio": "memory",
    "speculate_matched_ratio": "speculate_matched",
    "speculate_unmatched_ratio": "speculate_unseen",
}


def main() -> None:
    options = _options()
    tokenizer = TraceTokenizer.load(options.tokenizer)
    traces = {path.name.split(".")[0]: path for path in options.traces}
    equal = _equality(traces, options.tokenizer, options.contexts, options.jobs)
    for line in _told(equal):
        print(line)
    tables: list[Table] = []
    if options.sizes:
        tables = _costs(traces, tokenizer, options.sizes, SMALL if options.smoke else FULL)
        for table in tables:
            print(f"\n{table.depth} tokens deep, {table.tokens:,} tokens stored")
            print(f"  {'':38}{'ours':>12}{'peer':>12}{'peer / ours':>14}")
            for row in table.rows.values():
                print(
                    f"  {row.what + ', ' + row.unit:36}{row.ours:12.3f}{row.peer:12.3f}"
                    f"{row.ratio:14.2f}"
                )
    result = _summary(equal, tables)
    require(result["contexts"] > 0, "drafts are compared")
    require(result["unexplained"] == 0, "drafts differ by nothing but known differences")
    publish(result, options)


def _options() -> Any:
    made = parser(__doc__, traces=True)
    made.add_argument("--contexts", type=int, default=200_000, help="to compare, in all")
    made.add_argument(
        "--sizes", nargs="*", type=int, default=[1_000_000, 5_000_000], help="tokens to store"
    )
    made.add_argument("--jobs", type=int, default=2, help="processes that compare drafts")
    options = read(made, contexts=400, sizes=[20_000])
    if not (INSTALLED or options.smoke):
        made.error("arctic-inference is not installed; this script's first lines say how it is")
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _equality(
    traces: dict[str, Path], tokenizer: Path, contexts: int, jobs: int
) -> dict[str, Comparison]:
    """Every trace at both depths, the same share of the contexts each; in `jobs` processes."""
    turns = [(name, depth) for name in traces for depth in DEPTHS]
    share = -(-contexts // len(turns))
    work = [(name, traces[name], depth, share, False) for name, depth in turns]
    work += [(name, traces[name], depth, contexts // 20, True) for name, depth in turns[:EVICTING]]
    found: dict[str, Comparison] = {}
    with ProcessPoolExecutor(jobs) as pool:
        for name, compared in pool.map(_compared, repeat(tokenizer), work):
            found[name] = compared
            _say(f"{name}: {compared.contexts:,} contexts, {dict(compared.kinds)}")
    return found


def _compared(tokenizer: Path, work: tuple[str, Path, int, int, bool]) -> tuple[str, Comparison]:
    """One trace at one depth; with old responses leaving the trees, or with all kept."""
    name, path, depth, contexts, evicting = work
    trace = Log(path, TraceTokenizer.load(tokenizer))
    if not evicting:
        records = _enough(trace, contexts)
        return f"{name} d{depth}", compare(name, records, depth=depth, contexts=contexts)
    texts = [record.response for record in _enough(trace, 2 * contexts)]
    compared = compare_evicting(name, texts, depth=depth, contexts=contexts)
    return f"{name} d{depth}, evicting", compared


def _enough(records: Iterable[Record], contexts: int) -> list[Record]:
    """Records with some more steps than `contexts`: a step generates 2.5 tokens on average."""
    taken: list[Record] = []
    tokens = 0
    for record in records:
        taken.append(record)
        tokens += len(record.response)
        if tokens > 3 * contexts + 20_000:
            break
    return taken


def _told(equal: dict[str, Comparison]) -> Iterator[str]:
    kinds: Counter[str] = Counter()
    by_setting: Counter[str] = Counter()
    for each in equal.values():
        kinds += each.kinds
        by_setting += each.by_setting
    contexts = sum(each.contexts for each in equal.values())
    drafts = sum(kinds.values())
    yield f"{contexts:,} contexts under {len(SETTINGS)} settings each, {drafts:,} drafts"
    for kind, count in kinds.most_common():
        yield f"  {count:10,}  {kind}"
    yield from (f"  {count:10,}  {setting}" for setting, count in by_setting.most_common())
    gap = max(each.largest_gap for each in equal.values())
    yield f"  largest difference between probabilities of equal drafts: {gap:g}"
    for each in equal.values():
        for kind, shown in islice(each.examples.items(), 3):
            if kind not in EXPLAINED:
                yield f"  {kind}: {shown[0]}"


def _costs(
    traces: dict[str, Path], tokenizer: TraceTokenizer, sizes: Sequence[int], load: Load
) -> list[Table]:
    texts, unseen = _texts(traces, tokenizer, max(sizes) + load.spare)
    tables = []
    for depth in DEPTHS:
        measured = measure(
            texts, unseen, depth=depth, sizes=sorted(sizes), load=load, progress=_say
        )
        for table in measured:
            table.add("memory", memory(texts, depth=depth, tokens=table.tokens))
        requests = measure_requests(
            texts, depth=depth, tokens=min(sizes), prompts=load.prompts, progress=_say
        )
        measured[0].rows |= requests.rows
        tables += measured
    return tables


def _texts(
    traces: dict[str, Path], tokenizer: TraceTokenizer, tokens: int
) -> tuple[list[TokenIds], list[TokenIds]]:
    """Responses to store, and one in twenty that is not.

    Where the traces hold too few, they follow again with the vocabulary permuted: the same
    structure, no common text.
    """
    texts: list[TokenIds] = []
    for path in traces.values():
        texts += [record.response for record in Log(path, tokenizer)]
    random = np.random.default_rng(1)
    texts = [texts[i] for i in random.permutation(len(texts)) if len(texts[i])]
    unseen, kept = texts[: len(texts) // 20], texts[len(texts) // 20 :]
    stored = list(kept)
    while sum(map(len, stored)) < tokens:
        other = random.permutation(tokenizer.vocab_size).astype(np.int32)
        stored += [other[text] for text in kept]
    return stored, unseen


def _summary(equal: dict[str, Comparison], tables: list[Table]) -> dict[str, Any]:
    kinds: Counter[str] = sum((each.kinds for each in equal.values()), Counter())
    by_setting: Counter[str] = sum((each.by_setting for each in equal.values()), Counter())
    result: dict[str, Any] = {
        "contexts": sum(each.contexts for each in equal.values()),
        "equal_drafts": sum(each.equal_contexts for each in equal.values()),
        "settings": [str(setting) for setting in SETTINGS],
        "drafts": dict(kinds),
        "differences": dict(by_setting),
        "explained": EXPLAINED,
        "unexplained": sum(n for kind, n in kinds.items() if kind not in {*EXPLAINED, "equal"}),
    }
    if tables:
        for key, row in RATIOS.items():
            result[key] = {
                f"d{depth}": round(min(t.rows[row].ratio for t in tables if t.depth == depth), 3)
                for depth in DEPTHS
            }
        for key, row in {
            "batch256_ms": "batch256",
            "prompt128k_open_ms": "open_128k",
            "prompt128k_close_ms": "close_128k",
            "worst_evict_ms": "evict_worst",
            "worst_evict_call_ms": "evict_long",
        }.items():
            result[key] = round(max(t.rows[row].ours for t in tables if row in t.rows), 3)
        result["tables"] = [asdict(table) for table in tables]
    return result


if __name__ == "__main__":
    main()
