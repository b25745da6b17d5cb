"""Draftwood on a GPU: equal texts, what passes cost, the demo, and recorded traffic.

    python benchmarks/gpu/run.py --prepared .gpu [--seconds 400] [--out FILE] [--json]

`run.sh` installs and calls this on a machine without network. Each part has a share of the time;
what there was no time for is named in `skipped`, and the result is written after every part, so
that what is measured is kept whatever comes later. Without a GPU it runs on the CPU.

    equality   texts against `generate`, float32 and bfloat16
    curves     t(batch, rows) of random Llamas in bfloat16, by the library's pass and ours
    forced     recorded responses with those passes, by drafter and batch
    demo       the table of `draftwood demo`
"""

from __future__ import annotations

import platform
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.common.command import parser, publish, read, require
from benchmarks.common.tiny import tiny_traces
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.curves import ROUNDS, ROWS, curves, free_memory, peak_gb, start_memory
from benchmarks.gpu.equality import equality
from benchmarks.gpu.forced import REQUESTS, forced
from benchmarks.gpu.prepare import read_traffic
from benchmarks.gpu.shapes import VOCAB_SIZE, random_llama
from benchmarks.vllm.traffic import Traffic, recorded
from draftwood.demo.run import load_demo, run_demo
from draftwood.demo.workload import workload
from draftwood.targets.transformers.target import TransformersTarget
from draftwood.testing import FAMILIES

SHARES = {"equality": 0.27, "curves": 0.2, "forced": 0.45, "demo": 0.08}
"""Of the time, for each part; what one leaves over goes to those after it."""


LARGEST = {"8b": 16}
"""The largest batch of recorded traffic, by shape."""
DEMO = ("recall", "recall:cost=none", "suffix:mode=linear", "chain")
"""What stands beside plain decoding in the demo's table."""


class Run:
    """One run: its options, and what was found so far."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self.device = torch.device(options.device or _best_device())
        self.traffic, self.about = _traffic(options)
        self.models: dict[str, Any] = {}
        self.result: dict[str, Any] = {
            "device": _device(self.device),
            "equality": [],
            "curves": [],
            "forced": [],
            "demo": [],
            "memory": [],
            "seconds": {},
            "skipped": [],
            "errors": [],
        }

    def model(self, shape: str) -> Any:
        """The random model of a shape; one at a time is kept."""
        if shape not in self.models:
            self.models.clear()
            free_memory(self.device)
            vocab_size = 2048 if shape == "tiny" else VOCAB_SIZE
            self.models[shape] = random_llama(shape, self.device, vocab_size=vocab_size)
        return self.models[shape]

    def equality(self, clock: Clock) -> None:
        """Texts against `generate`."""
        self.result["equality"] = equality(self.device, clock, self.options.families)

    def curves(self, clock: Clock) -> None:
        """What passes take, the smaller shape's first."""
        for share, shape in self._shapes(clock):
            sizes = {batch: ROWS.get(batch, (1, 4)) for batch in self.options.batches}
            rows = curves(
                shape,
                self.model(shape),
                share,
                context=self.options.context,
                batches=sizes,
                rounds=self.options.rounds,
            )
            for row in rows:
                self.result["curves"].append(row)
                print(f"curves: {row}", flush=True)

    def forced(self, clock: Clock) -> None:
        """Recorded traffic."""
        for share, shape in self._shapes(clock):
            target = TransformersTarget(self.model(shape))
            for batch in self.options.forced_batches:
                if batch > LARGEST.get(shape, batch):
                    continue
                for traffic in self.traffic:
                    start_memory(self.device)
                    count = self.options.requests or REQUESTS.get(batch, 2 * batch)
                    self.result["forced"] += forced(shape, target, traffic, batch, share, count)
                    self._peak(f"forced {shape} {traffic.name} batch {batch}")
            target.close()

    def demo(self, clock: Clock) -> None:
        """The table of `draftwood demo`, as many requests as there is time for."""
        with load_demo(device=str(self.device)) as model:
            start = perf_counter()
            run_demo(model, workload(7, 1), DEMO)  # first passes, and what a request takes
            each = perf_counter() - start
            count = max(1, min(self.options.requests or 10, int(clock.left / each)))
            rows = [side.as_dict() for side in run_demo(model, workload(0, count), DEMO)]
        self.result["demo"] = [row | {"requests": count} for row in rows]
        for row in rows:
            print(f"demo: {row}", flush=True)

    def all(self) -> None:
        """Run the parts that are asked for, and keep what each one finds."""
        end = perf_counter() + self.options.seconds
        left = sum(SHARES[name] for name in self.options.parts)
        parts: dict[str, Callable[[Clock], None]] = {
            "equality": self.equality,
            "curves": self.curves,
            "forced": self.forced,
            "demo": self.demo,
        }
        for name in self.options.parts:
            clock = Clock((end - perf_counter()) * SHARES[name] / left)
            left -= SHARES[name]
            start = perf_counter()
            start_memory(self.device)
            try:
                parts[name](clock)
            except Exception as error:  # what the other parts find is kept
                self.result["errors"].append({"part": name, "error": _told(error)})
                print(traceback.format_exc(), file=sys.stderr, flush=True)
            self._peak(name)
            self.result["seconds"][name] = round(perf_counter() - start, 1)
            self.result["skipped"] += clock.skipped
            self.publish(last=False)

    def publish(self, *, last: bool) -> None:
        """Write what is there."""
        options = Namespace(out=self.options.out, json=self.options.json and last)
        publish(self.result, options, made_from=self.about.get("revision"))

    def _shapes(self, clock: Clock) -> Iterator[tuple[Clock, str]]:
        """The shapes, each with its part of the time."""
        shapes = self.options.shapes
        for at, shape in enumerate(shapes):
            share = Clock(clock.left / (len(shapes) - at))
            yield share, shape
            clock.skipped += share.skipped

    def _peak(self, what: str) -> None:
        self.result["memory"].append({"what": what, "peak_gb": peak_gb(self.device)})


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--prepared", type=Path, help="the folder that prepare.py made")
    made.add_argument("--device", help="cuda where there is one, else cpu")
    made.add_argument("--seconds", type=float, default=400.0, help="for all parts together")
    made.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    made.add_argument("--shapes", nargs="+", default=["0.5b", "8b"])
    made.add_argument("--families", nargs="+", default=list(FAMILIES))
    made.add_argument("--batches", nargs="+", type=int, default=list(ROWS), help="of the curves")
    made.add_argument("--forced-batches", nargs="+", type=int, default=list(REQUESTS))
    made.add_argument("--requests", type=int, help="of recorded traffic and of the demo")
    made.add_argument("--context", type=int, default=480, help="tokens, of the curves")
    made.add_argument("--rounds", type=int, default=ROUNDS)
    options = read(
        made,
        shapes=["tiny"],
        families=["llama"],
        batches=[1, 2],
        forced_batches=[1, 2],
        requests=1,
        context=40,
        rounds=2,
    )
    run = Run(options)
    run.all()
    run.publish(last=True)
    require(not run.result["errors"], "every part runs to its end")
    wrong = [row for row in run.result["equality"] if row.get("wrong") or "error" in row]
    require(not wrong, f"texts equal those of generate but for near ties: {wrong}")


def _told(error: Exception) -> str:
    """Where an error came from and what it says; files by name, as folders are the machine's."""
    frames = traceback.extract_tb(error.__traceback__)
    at = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
    return "\n".join([*at, f"{type(error).__name__}: {error}".rstrip()])


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(device: torch.device) -> dict[str, Any]:
    """What it is that figures are of."""
    found: dict[str, Any] = {"type": device.type, "torch_cuda": torch.version.cuda}
    found |= {"name": platform.processor() or platform.machine()}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        found |= {"name": about.name, "memory_gb": round(about.total_memory / 1e9, 1)}
        found |= {"multiprocessors": about.multi_processor_count}
    return found


def _traffic(options: Any) -> tuple[list[Traffic], dict[str, Any]]:
    """Recorded requests, and where they come from; in a smoke run, the demo's few."""
    if options.prepared:
        return read_traffic(options.prepared)
    if not options.smoke:
        return [], {}
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="draftwood-smoke-") as folder:
        traces, tokenizer = tiny_traces(Path(folder))
        return recorded(traces[-1:], tokenizer, records=4, prompt=40, answer=24), {}


if __name__ == "__main__":
    main()
