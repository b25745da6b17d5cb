"""What a pass takes by a roofline: an estimate for hardware that is not at hand.

A pass reads all weights and the keys and values of its sequences once, and multiplies every row
with the weights (Williams, Waterman and Patterson, 2009). Where one of the two takes far longer,
that is its time; where both take about as long, kernels hide only a part of the one behind the
other, so that the corner is rounded. Real kernels reach a part of both limits, and a pass has an
overhead of its own. Measure before you rely
on it: `draftwood measure`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from draftwood.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Machine:
    """A device. bandwidth: bytes a second; flops: of dense bfloat16 products; memory: bytes.

    reached: the parts of bandwidth and FLOP/s that kernels reach; overhead: seconds a pass.
    """

    name: str
    bandwidth: float
    flops: float
    memory: float
    reached: tuple[float, float] = (0.75, 0.55)
    overhead: float = 1e-3


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """What a model costs. weights: parameters that a token multiplies with; weight_bytes: of all.

    cache_bytes: keys and values of one token in all layers; attention: FLOP of one row with one
    token before it.
    """

    name: str
    weights: float
    weight_bytes: float
    cache_bytes: float
    attention: float

    @classmethod
    def dense(
        cls, name: str, weights: float, layers: int, hidden: int, cached: int, bits: int = 16
    ) -> NetworkShape:
        """A dense transformer. cached: key-value heads x their size."""
        return cls(name, weights, weights * bits / 8, 4.0 * layers * cached, 4.0 * layers * hidden)


MACHINES: Final[Mapping[str, Machine]] = {
    each.name: each
    for each in (
        Machine("b200", 8.0e12, 2250e12, 180e9),
        Machine("h200", 4.8e12, 989e12, 141e9),
        Machine("h100", 3.35e12, 989e12, 80e9),
        Machine("mi300x", 5.3e12, 1307e12, 192e9),
        Machine("a100", 2.04e12, 312e12, 80e9),
        Machine("l40s", 0.864e12, 362e12, 48e9),
        Machine("a10", 0.6e12, 125e12, 24e9),
        Machine("l4", 0.3e12, 121e12, 24e9),
        Machine("rtx4090", 1.008e12, 165e12, 24e9),
        Machine("rtx3090", 0.936e12, 71e12, 24e9),
    )
}
SHAPES: Final[Mapping[str, NetworkShape]] = {
    each.name: each
    for each in (
        NetworkShape.dense("0.5b", 0.5e9, 24, 896, 128),
        NetworkShape.dense("1b", 1.2e9, 16, 2048, 512),
        NetworkShape.dense("3b", 3.2e9, 28, 3072, 1024),
        NetworkShape.dense("8b", 8.0e9, 32, 4096, 1024),
        NetworkShape.dense("14b", 14.8e9, 40, 5120, 1024),
        NetworkShape.dense("32b", 32.8e9, 64, 5120, 1024),
        NetworkShape.dense("70b", 70.6e9, 80, 8192, 1024),
    )
}
_PRESET = re.compile(r"(?:(?P<count>\d+)x)?(?P<machine>\w+):(?P<size>[\d.]+b)(?:-(?P<form>\w+))?")
_FORMS: Final[Mapping[str, tuple[float, float]]] = {
    "bf16": (1.0, 1.0),
    "fp8": (0.5, 2.0),
    "int4": (0.25, 1.0),
}
"""Bytes of the weights and speed of products, beside bfloat16."""
_CORNER: Final = 2.0
"""How round the corner is; the larger it is, the sharper (`benchmarks/roofline`)."""
_CONTEXT: Final = 2048
"""Tokens of a sequence where a caller does not know them."""


@dataclass(frozen=True, slots=True)
class RooflineCost:
    """An estimate of t(batch, drafted tokens), in seconds.

    `preset` makes one by name. context: tokens of a sequence that passes do not name. corner: the
    power whose norm makes one time of the two.
    """

    machine: Machine
    shape: NetworkShape
    context: int = _CONTEXT
    corner: float = _CORNER

    @classmethod
    def preset(cls, name: str) -> RooflineCost:
        """By a name such as `h100:8b`, `2xh100:70b`, `l4:8b-int4`; forms: bf16, fp8, int4.

        Raises:
            InvalidOption: an unknown machine, size or form, or weights that do not fit.
        """
        found = _PRESET.fullmatch(name.lower())
        machine = found and MACHINES.get(found["machine"])
        shape = found and SHAPES.get(found["size"])
        form = found and _FORMS.get(found["form"] or "bf16")
        if found is None or machine is None or shape is None or form is None:
            raise InvalidOption(
                f"no preset is named {name!r}; use MACHINE:SIZE, such as h100:8b, 2xh100:70b or "
                f"l4:8b-int4; machines: {', '.join(MACHINES)}; sizes: {', '.join(SHAPES)}; forms: "
                f"{', '.join(_FORMS)}"
            )
        count = int(found["count"] or 1)
        shape = replace(shape, name=name.lower(), weight_bytes=shape.weight_bytes * form[0])
        if shape.weight_bytes > 0.95 * machine.memory * count:
            raise InvalidOption(
                f"{name}: {shape.weight_bytes / 1e9:.0f} GB of weights do not fit into "
                f"{machine.memory * count / 1e9:.0f} GB; use several machines (2xh100:70b) or a "
                "smaller form (-fp8, -int4)"
            )
        together = replace(
            machine,
            bandwidth=machine.bandwidth * count,
            flops=machine.flops * form[1] * count,
            overhead=machine.overhead * (1.0 if count == 1 else 1.5),
        )
        return cls(together, shape)

    def seconds(self, drafted: int, *, batch: int = 1, context: int = 0) -> float:
        """A pass over `batch` sequences that verifies `drafted` tokens in all."""
        tokens, rows = context or self.context, batch + drafted
        share = self.machine.reached
        moved = self.shape.weight_bytes + batch * tokens * self.shape.cache_bytes
        products = rows * (2.0 * self.shape.weights + tokens * self.shape.attention)
        reading = moved / (share[0] * self.machine.bandwidth)
        computing = products / (share[1] * self.machine.flops)
        longer, shorter = max(reading, computing), min(reading, computing)
        rounded = math.pow(1.0 + math.pow(shorter / longer, self.corner), 1.0 / self.corner)
        return self.machine.overhead + longer * rounded
