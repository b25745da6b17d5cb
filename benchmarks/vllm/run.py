"""Draftwood inside vLLM beside vLLM's own `suffix` method and no speculation.

    python benchmarks/vllm/run.py --traces T/*.gz --tokenizer PATH --batch 1 8 [--json]

Engines of one process take turns on the same chunks of requests, each turn another one first, with
prompts in the prefix cache; figures are of CPU seconds on one thread, so that other work on the
machine disturbs less, and of ratios of each chunk's. Recorded responses are forced: the logit of
the recorded next token is set high before vLLM's own sampler, for every row of a draft, so that
passes of a random Llama cost what they cost and acceptance is real; both drafters begin with the
same history. The demo's traffic and, with --model, everyday prompts are answered by their models.
Where vLLM is not installed, it says so, and has no rows. draft_ms is the drafter's CPU time a
step, adapter included, the median of chunks' medians. over_none and over_suffix are medians of
chunks' ratios. "suffix" needs arctic-inference. The budget learns from wall clock: publish figures
of a quiet machine only.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.command import parser, publish, read, require
from benchmarks.vllm.traffic import Request, Traffic, chunks, demo, prompts, recorded


@dataclass(frozen=True)
class Turns:
    """What engines took, by name.

    chunks: of each timed one CPU seconds, tokens, rows, drafted tokens and ms of drafting. equal:
    whether the engine said what the first one did.
    """

    chunks: dict[str, list[tuple[float, int, int, int, float]]]
    equal: dict[str, bool]


def main() -> None:
    """Run, and print the table."""
    made = parser(__doc__, traces=True)
    made.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    made.add_argument("--engines", default="none,suffix,draftwood", help="also: scheduler")
    made.add_argument("--chunks", type=int, default=6, help="timed ones of each row")
    made.add_argument("--warm", type=int, default=2, help="chunks before those")
    made.add_argument("--tokens", type=int, default=96, help="of each answer, at most")
    made.add_argument("--prompt", type=int, default=384, help="of each prompt, at most")
    made.add_argument("--records", type=int, default=400, help="of each trace, at most")
    made.add_argument("--hidden", type=int, default=576)
    made.add_argument("--layers", type=int, default=24)
    made.add_argument("--demo", type=int, default=0, help="requests of the demo's traffic")
    made.add_argument("--model", type=Path, help="a folder with a chat model for plain prompts")
    options = read(
        made,
        optional=True,
        batch=[2],
        engines="none,draftwood",
        chunks=1,
        warm=1,
        tokens=12,
        records=12,
        hidden=192,
        layers=2,
        demo=4,
    )
    rows: list[dict[str, Any]] = []
    if find_spec("vllm") is None:
        print("vLLM is not installed: nothing is measured (pip install 'draftwood[vllm]')")
    else:
        for traffic in _sets(options):
            for batch in options.batch:
                rows += _row(traffic, batch, options)
    publish({"rows": rows, "over_suffix": _means(rows), "settings": _settings(options)}, options)


def _sets(options: Any) -> list[Traffic]:
    found = []
    if options.traces:
        found += recorded(
            options.traces,
            options.tokenizer,
            records=options.records,
            prompt=options.prompt,
            answer=options.tokens,
        )
    if options.demo:
        found.append(demo(options.demo))
    if options.model:
        found.append(prompts(options.model, 3 * max(options.batch) * 2))
    require(bool(found), "there is a set: give --traces, --demo or --model")
    return found


_models: dict[tuple[int, int, int], Path] = {}
_kept: list[Any] = []
"""Engines; one that is dropped tears down the process groups of all."""


def names_of(engines: str) -> list[str]:
    """The engines that can be measured here."""
    names = engines.split(",")
    if find_spec("arctic_inference") is None and "suffix" in names:
        print("arctic-inference is not installed: no row for suffix")
        names.remove("suffix")
    return names


def _row(traffic: Traffic, batch: int, options: Any) -> list[dict[str, Any]]:
    names = names_of(options.engines)
    served = chunks(traffic.requests, batch, options.warm + options.chunks)
    return figures_of(traffic.name, batch, names, turns(traffic, names, served, options))


def turns(
    traffic: Traffic, names: Sequence[str], served: Sequence[Sequence[Request]], options: Any
) -> Turns:
    """Every engine serves every chunk, each time another one first."""
    from benchmarks.vllm import engines

    engines.prepare()
    model = traffic.model
    if model is None:
        key = traffic.vocab_size, options.hidden, options.layers
        if key not in _models:
            _models[key] = engines.random_model(
                key[0], hidden=options.hidden, layers=options.layers
            )
        model = _models[key]
    longest = max(len(each.prompt) for chunk in served for each in chunk)
    limit, batch = longest + options.tokens + 8, len(served[0])
    sides = {name: engines.Engine(name, model, traffic, batch=batch, limit=limit) for name in names}
    _kept.extend(sides.values())
    found = Turns({name: [] for name in names}, dict.fromkeys(names, True))
    for turn, chunk in enumerate(served):
        said = {}
        first = turn % len(names)
        for name in [*names[first:], *names[:first]]:
            side = sides[name]
            seconds, said[name] = side.serve(chunk, options.tokens)
            if turn >= options.warm:
                found.chunks[name].append(
                    (seconds, sum(map(len, said[name])), side.rows, side.drafted, side.draft_ms())
                )
        if turn >= options.warm:
            print(_progress(traffic.name, batch, names, found.chunks), flush=True)
        for name in names:
            found.equal[name] &= said[name] == said[names[0]]
            if traffic.model is None:
                require(
                    all(
                        list(text) == each.answer[: len(text)]
                        for text, each in zip(said[name], chunk, strict=True)
                    ),
                    f"{name} says what is forced",
                )
    return found


def figures_of(
    traffic: str, batch: int, names: Sequence[str], found: Turns
) -> list[dict[str, Any]]:
    """A row for each engine."""
    rows = [_figures(traffic, batch, name, found.chunks, found.equal[name]) for name in names]
    for row in rows:
        print(_shown(row), flush=True)
    return rows


def _figures(
    traffic: str, batch: int, name: str, found: dict[str, list[Any]], equal: bool
) -> dict[str, Any]:
    def over(other: str) -> float | None:
        if other not in found:
            return None
        pairs = zip(found[name], found[other], strict=True)
        return float(median((own[1] / own[0]) / (base[1] / base[0]) for own, base in pairs))

    seconds, tokens, rows, drafted, drafting = zip(*found[name], strict=True)
    return {
        "set": traffic,
        "batch": batch,
        "engine": name,
        "tokens_per_cpu_second": sum(tokens) / sum(seconds),
        "over_none": over("none"),
        "over_suffix": over("suffix"),
        "tokens_per_row": sum(tokens) / sum(rows),
        "drafted_per_row": sum(drafted) / sum(rows),
        "draft_ms": median(drafting),
        "equal": equal,
    }


def _progress(traffic: str, batch: int, names: Sequence[str], found: dict[str, list[Any]]) -> str:
    """Of the last chunk: tokens a CPU second of each engine."""
    speeds = (f"{name} {found[name][-1][1] / found[name][-1][0]:.1f}" for name in names)
    return f"{traffic}, batch {batch}, tokens a CPU second: {', '.join(speeds)}"


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Geometric means of draftwood over suffix, by batch size, over the recorded sets."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["engine"] == "draftwood" and row["over_suffix"]:
            found.setdefault(str(row["batch"]), []).append(math.log(row["over_suffix"]))
    return {batch: math.exp(sum(logs) / len(logs)) for batch, logs in found.items()}


def _shown(row: dict[str, Any]) -> str:
    return "  ".join(
        f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"
        for key, value in row.items()
    )


def _settings(options: Any) -> dict[str, Any]:
    names = ("engines", "chunks", "warm", "tokens", "prompt", "records", "hidden", "layers")
    return {name: vars(options)[name] for name in names}


if __name__ == "__main__":
    main()
