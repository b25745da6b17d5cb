"""The layers of a bare pass in native code: float32 on a CPU, weights read as they are stored.

    library       a product reads the weight once for every row or two
    native        a few outputs' weights are read once for all rows of the pass, while those of the
                  next outputs are on their way from memory (`native/include/draftwood/decoder.h`)

Nothing is copied or laid out anew: arrays are views of the model's own parameters. A row's sums are
taken in one order whatever other rows a pass has, so the rows of a chain are to the bit those of
passes over one token each.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from draftwood import _native
from draftwood.targets.transformers.cache import BatchCache, SequenceCache
from draftwood.targets.transformers.lean_layer import LeanLayer, RmsNorm, Span

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Linear = tuple[Floats, Floats | None]

_TIMED = 1 << 22
"""Numbers of a weight of which at most is timed: a part costs per number what the whole does."""

_ROUNDS = 5
"""How often each side is timed, in turns; the quickest counts."""

_FEW = 8
"""Rows of a pass that verifies a draft."""

_SMALL = 1 << 24
"""Numbers in all layers up to which whole passes are timed, since products are not all there."""


class NativeLayers:
    """The layers and the head of one model. Shared by any number of caches.

    Raises:
        ValueError: for layers that the native code does not know: weights on another device, of
            another dtype or not stored output by output, other activations.
        TypeError: for a module whose parts are of other types.
    """

    def __init__(self, layers: Sequence[LeanLayer], norm: RmsNorm, head: Any) -> None:
        self._layers = layers
        self._kinds = list(dict.fromkeys(layer.kind for layer in layers))
        self._norm, self._head = norm, head
        linears = [head, *(linear for layer in layers for linear in layer.linears())]
        self._owned = [
            (linear._parameters, name)  # looked up each time: a module's own way takes longer
            for linear in linears
            for name in ("weight", "bias")
            if linear._parameters[name] is not None
        ]
        self._read()

    @classmethod
    def of(cls, layers: Sequence[LeanLayer], norm: RmsNorm, head: Any) -> NativeLayers | None:
        """The layers, where the native code knows them and is faster at few rows."""
        try:
            native = cls(layers, norm, head)
        except (TypeError, ValueError) as error:
            log.info("PyTorch's operators make the bare pass: %s", error)
            return None
        if native.numbers <= _SMALL:
            return native if native.passes_faster() else None
        return native if native.is_faster(layers[0].down.weight) else None

    def __call__(
        self,
        x: torch.Tensor,
        turns: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
        spans: Sequence[Span],
        cache: SequenceCache | BatchCache,
    ) -> torch.Tensor:
        """Pass x [rows, hidden] through all layers, in place; the rows are cached then."""
        rows, first = x.numpy(), self._layers[0]
        by_kind = [turns[kind] for kind in self._kinds]
        self._decoder.run(
            rows,
            [(cosine[:, 0].numpy(), sine[:, 0].numpy()) for cosine, sine in by_kind],
            [
                (span.slot, span.rows, span.end, [_mask(span, kind) for kind in self._kinds])
                for span in spans
            ],
            [layer.reserve(first.groups, first.size, len(x)) for layer in cache.layers],
            torch.get_num_threads(),
        )
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [rows, V] of rows that went through all layers."""
        return self._multiply(x, self._matrix, self._scaled)

    def is_current(self) -> bool:
        """Whether the arrays are those of the model still, read anew where it has others now."""
        if self._addresses != self._found():
            try:
                self._read()
            except (TypeError, ValueError):
                return False
        return True

    @torch.inference_mode()
    def is_faster(self, weight: torch.Tensor) -> bool:
        """Whether products with `weight` [outputs, inputs] are faster than PyTorch's.

        Takes milliseconds: a part of the weight is timed at one row and at eight, on one thread.
        """
        part = weight[: max(1, _TIMED // weight.shape[1])]
        matrix = (_array(part), None)
        one, few = [float("inf")] * 2, [float("inf")] * 2
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a pass wakes its threads once, not for each product
        try:
            for best, rows in ((one, 1), (few, _FEW)):
                x = torch.ones((rows, weight.shape[1]))
                for _ in range(_ROUNDS):
                    start = perf_counter()
                    functional.linear(x, part)
                    middle = perf_counter()
                    self._multiply(x, matrix, None)
                    best[0] = min(best[0], middle - start)
                    best[1] = min(best[1], perf_counter() - middle)
        finally:
            torch.set_num_threads(threads)
        return few[1] < 0.9 * few[0] and one[1] - one[0] < few[0] - few[1]

    @property
    def numbers(self) -> int:
        """Numbers in the weights of all layers."""
        return sum(part.weight.numel() for layer in self._layers for part in layer.linears())

    @torch.inference_mode()
    def passes_faster(self) -> bool:
        """Whether whole passes are faster than PyTorch's, at one row and at eight.

        Takes ten passes of each kind.
        """
        first = self._layers[0]
        for rows in (1, _FEW):
            x = torch.ones((rows, len(first.heads_out.weight)))
            turn = torch.ones((rows, 1, first.size)), torch.zeros((rows, 1, first.size))
            spans, best = [Span(0, rows, rows, None)], [float("inf")] * 2
            for _ in range(_ROUNDS):
                caches = SequenceCache(len(self._layers)), SequenceCache(len(self._layers))
                start, y = perf_counter(), x.clone()
                for layer, cached in zip(self._layers, caches[0].layers, strict=True):
                    y = layer(y, turn, spans, [None], cached)
                middle = perf_counter()
                self(x.clone(), dict.fromkeys(self._kinds, turn), spans, caches[1])
                best[0] = min(best[0], middle - start)
                best[1] = min(best[1], perf_counter() - middle)
            if best[1] > best[0]:
                return False
        return True

    def _multiply(
        self, x: torch.Tensor, matrix: Linear, norm: tuple[Floats, float] | None
    ) -> torch.Tensor:
        out = torch.empty((len(x), len(matrix[0])))
        threads = torch.get_num_threads()
        self._decoder.multiply(x.numpy(), matrix, norm, out.numpy(), threads)
        return out

    def _read(self) -> None:
        """Take the arrays of the model's weights as they are now."""
        first = self._layers[0]
        gelu = _is_gelu(first.activation)
        if any(layer.scale != first.scale for layer in self._layers):
            raise ValueError("its layers differ in the scale of their attention")
        self._decoder = _native.Decoder(
            hidden=len(first.heads_out.weight),
            heads=first.heads,
            groups=first.groups,
            size=first.size,
            inner=int(first.down.weight.shape[1]),
            scale=first.scale,
            gelu=gelu,
        )
        for layer in self._layers:
            attended, fed = layer.after or (None, None)
            query, key = layer.head_norms or (None, None)
            self._decoder.add(
                kind=self._kinds.index(layer.kind),
                before=_scale(layer.before),
                heads_in=[_linear(part) for part in layer.heads_in.parts],
                heads_out=_linear(layer.heads_out),
                attended=_scale(attended),
                between=_scale(layer.between),
                gate_up=[_linear(part) for part in layer.gate_up.parts],
                down=_linear(layer.down),
                fed=_scale(fed),
                query=_scale(query),
                key=_scale(key),
            )
        self._matrix, self._scaled = _linear(self._head), _scale(self._norm)
        self._addresses = self._found()

    def _found(self) -> list[int]:
        """Where the weights lie now."""
        return [owned[name].data_ptr() for owned, name in self._owned]


def _array(weight: torch.Tensor) -> Floats:
    """A float32 weight of a CPU, as it lies there.

    Raises:
        ValueError: for another one.
    """
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or not weight.is_contiguous():
        raise ValueError(f"a weight is {weight.dtype} on {weight.device}, or laid out otherwise")
    array: Floats = weight.detach().numpy()
    return array


def _linear(layer: Any) -> Linear:
    return _array(layer.weight), None if layer.bias is None else _array(layer.bias)


def _scale(norm: RmsNorm | None) -> tuple[Floats, float] | None:
    return None if norm is None else (_array(norm.weight), norm.epsilon)


def _mask(span: Span, kind: str) -> NDArray[np.uint8] | None:
    if span.visible is None:
        return None
    return np.ascontiguousarray(span.visible[kind]).view(np.uint8)


def _is_gelu(activation: Any) -> bool:
    """Whether an activation is GELU by tanh; False: it is SiLU.

    Raises:
        ValueError: where it is neither.
    """
    x = torch.linspace(-6, 6, 97)
    y = activation(x)
    if torch.allclose(y, functional.silu(x), atol=1e-5):
        return False
    if torch.allclose(y, functional.gelu(x, approximate="tanh"), atol=1e-5):
        return True
    raise ValueError("its activation is neither SiLU nor GELU by tanh")
