"""One product of few rows with a large weight, by every door to a layout that suits it, on a CPU.

    python benchmarks/doors/run.py [--weights 4096x768 7168x1280 32000x768] [--json]

The doors: PyTorch's own product of the weight as stored; other strides (`packed.py`); oneDNN's
packed weights, by PyTorch's private operators; `torch.compile` with the weight frozen into the
program; AOTInductor, which compiles ahead; the native product (`native_layers.py`). Weights lie in
memory and not in the cache: the copies of a weight take turns, and the doors do. One thread,
medians, float32. `start_s` is what a door spends before it is ready for all row counts, in seconds
of processors, on an empty cache of compiled programs; `compiled` how many programs it made for
them; `extra_bytes` what it keeps of its own beside the weight. Doors that need a C++ compiler are
left out where there is none.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch.nn import functional

from benchmarks.common.command import parser, publish, read, require
from draftwood import _native
from draftwood.targets.transformers.packed import in_by_out

Product = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Door:
    """Products of x [rows, inputs] with each copy of a weight [outputs, inputs]."""

    name: str
    products: Sequence[Product]
    extra_bytes: int = 0
    compiled: Callable[[], int] = int


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--weights", nargs="+", default=["4096x768", "7168x1280", "32000x768"])
    made.add_argument("--rows", type=int, nargs="+", default=[1, 8, 16, 32])
    made.add_argument("--rounds", type=int, default=9)
    made.add_argument("--bytes", type=int, default=1 << 28, help="of all copies of a weight")
    options = read(made, weights=["64x32"], rows=[1, 8], rounds=2, bytes=1 << 14)
    torch.set_num_threads(1)

    rows: list[dict[str, Any]] = []
    cache = tempfile.TemporaryDirectory(prefix="draftwood-doors-")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name
    with cache, torch.inference_mode():
        for shape in options.weights:
            outputs, inputs = map(int, shape.split("x"))
            copies = max(2, options.bytes // (4 * outputs * inputs))
            weights = [torch.randn(outputs, inputs) for _ in range(copies)]
            for found in measured(weights, options.rows, options.rounds):
                row = {"weight": shape} | found
                rows.append(row)
                print(*(f"{name} {value}" for name, value in row.items()), flush=True)
    require(all(row["microseconds"] > 0 for row in rows), "products take time")
    publish({"rows": rows}, options)


def measured(weights: list[torch.Tensor], counts: list[int], rounds: int) -> list[dict[str, Any]]:
    """Every door's row of figures at each row count."""
    inputs = [torch.randn(rows, weights[0].shape[1]) for rows in counts]
    doors: list[Door] = []
    starts: dict[str, float] = {}
    for open_door in DOORS:
        start = spent()
        door = open_door(weights)
        if door is None:
            continue
        for x in inputs:
            given, due = door.products[0](x), functional.linear(x, weights[0])
            require(torch.allclose(given, due, rtol=1e-3, atol=1e-3), f"{door.name} is exact")
        starts[door.name] = spent() - start
        doors.append(door)
    found = []
    for x in inputs:
        times: dict[str, list[float]] = {door.name: [] for door in doors}
        for counted in range(-1, rounds):
            for at in range(len(weights)):
                for door in doors:
                    start = perf_counter()
                    door.products[at](x)
                    if counted >= 0:
                        times[door.name].append(perf_counter() - start)
        for door in doors:
            row = {
                "door": door.name,
                "rows": len(x),
                "microseconds": round(1e6 * median(times[door.name]), 1),
                "start_s": round(starts[door.name], 3),
                "compiled": door.compiled(),
                "extra_bytes": door.extra_bytes,
            }
            found.append(row)
    return found


def spent() -> float:
    """Seconds of processors that this process took so far, compilers that it called included."""
    return sum(os.times()[:4])


def stored(weights: Sequence[torch.Tensor]) -> Door:
    """PyTorch's product of a weight as a linear layer has it."""
    return Door("stored", [_linear(weight) for weight in weights])


def strides(weights: Sequence[torch.Tensor]) -> Door:
    """The same product of a weight that lies input by input."""
    return Door("strides", [_linear(in_by_out([weight])) for weight in weights])


def onednn(weights: Sequence[torch.Tensor]) -> Door | None:
    """oneDNN's own layout, which PyTorch reaches by operators that it does not promise to keep."""
    if not torch._C._has_mkldnn:
        return None
    make, take = torch.ops.mkldnn._reorder_linear_weight, torch.ops.mkldnn._linear_pointwise

    def product(weight: torch.Tensor) -> Product:
        packed = make(weight, 8)
        return lambda x: take(x, packed, None, "none", [], "")

    return Door("onednn", [product(weight) for weight in weights], weights[0].nbytes)


def frozen(weights: Sequence[torch.Tensor]) -> Door | None:
    """`torch.compile` with freezing: the weight becomes a constant that is laid out as it likes."""
    if which(os.environ.get("CXX", "g++")) is None:
        return None
    from torch._dynamo.utils import counters

    before = counters["stats"]["unique_graphs"]
    layer = _module(weights[0])
    make = torch.compile(layer, dynamic=True, options={"freezing": True})
    return Door(
        "compile",
        [make] * len(weights),  # one program: a second copy would be compiled anew
        weights[0].nbytes,
        lambda: counters["stats"]["unique_graphs"] - before,
    )


def ahead(weights: Sequence[torch.Tensor]) -> Door | None:
    """AOTInductor: exported with any number of rows, compiled to a library, loaded."""
    if which(os.environ.get("CXX", "g++")) is None:
        return None
    x = torch.ones(8, weights[0].shape[1])
    exported = torch.export.export(
        _module(weights[0]), (x,), dynamic_shapes=({0: torch.export.Dim("rows", min=1, max=64)},)
    )
    with tempfile.TemporaryDirectory() as folder:
        package = torch._inductor.aoti_compile_and_package(
            exported,
            package_path=str(Path(folder) / "product.pt2"),
            inductor_configs={"freezing": True},
        )
        loaded = torch._inductor.aoti_load_package(package)
    return Door("ahead", [loaded] * len(weights), weights[0].nbytes, lambda: 1)


def native(weights: Sequence[torch.Tensor]) -> Door:
    """The product of the native layers, of a weight as a linear layer has it."""
    decoder = _native.Decoder(hidden=64, heads=1, groups=1, size=64, inner=64, scale=1, gelu=False)

    def product(weight: torch.Tensor) -> Product:
        matrix = (weight.numpy(), None)

        def multiply(x: torch.Tensor) -> torch.Tensor:
            out = torch.empty((len(x), len(weight)))
            decoder.multiply(x.numpy(), matrix, None, out.numpy(), 1)
            return out

        return multiply

    return Door("native", [product(weight) for weight in weights])


DOORS: list[Callable[[Sequence[torch.Tensor]], Door | None]] = [
    stored,
    strides,
    onednn,
    frozen,
    ahead,
    native,
]


def _linear(weight: torch.Tensor) -> Product:
    return lambda x: functional.linear(x, weight)


def _module(weight: torch.Tensor) -> torch.nn.Linear:
    """A linear layer of a weight, without bias."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False).eval()
    layer.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
    return layer


if __name__ == "__main__":
    main()
