"""Muon for the hidden matrices, AdamW for the rest, in float32 on any device.

`torch.optim.Muon` orthogonalizes in bfloat16, which processors without bfloat16 arithmetic run
several times slower than float32; hence this one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients (Keller Jordan's Muon): fast, to about 0.7..1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized updates: all directions of a matrix learn at one rate.

    The update is scaled to the size that AdamW's would have (0.2 a coordinate), so that learning
    rates carry over.
    """

    def __init__(
        self, matrices: Iterable[Tensor], *, lr: float, momentum: float = 0.95, decay: float = 0.0
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all matrices, those of one shape together."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes[matrix.shape].append(matrix)
            for shape, matrices in shapes.items():
                pushed = torch.stack([self._push(m, group["momentum"]) for m in matrices])
                scale = group["lr"] * 0.2 * max(shape) ** 0.5
                for matrix, update in zip(matrices, orthogonalize(pushed), strict=True):
                    matrix.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-scale)

    def _push(self, matrix: Tensor, momentum: float) -> Tensor:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        assert matrix.grad is not None
        state["momentum"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(state["momentum"], momentum)  # Nesterov


def orthogonalize(stack: Tensor, steps: int = 5) -> Tensor:
    """About the nearest orthogonal matrix to each matrix of a stack [s, rows, columns]."""
    turned = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if turned else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    found: Tensor = x.mT if turned else x
    return found
