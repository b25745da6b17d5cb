"""A bare pass in static shapes: what a GPU replays as one CUDA graph instead of calls by the score.

A GPU multiplies a few rows with a weight in the time that reading it takes, which for a small model
is less than launching the calls of a layer one by one. So the same pass is written over shapes that
come again and again (`static_rows.PassShape`), with no size and no place that changes from step to
step but in the arrays it reads:

    inputs      one array: cached tokens, ids, positions, and what rows see of one another
    keys        written to rows of one buffer (`static_slots`), read up to the shape's
    masks       made on the device, from the cached tokens and the draft's own
    attention   of all sequences at once; the query heads of a group are rows of one product

A shape that keeps coming is recorded (`torch.cuda.CUDAGraph`); until then, and on devices without
graphs, the same code runs call by call. Whether it is used at all is found out when a model is
loaded, by comparing its rows and its times with those of the bare pass.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from draftwood.draft import Draft
from draftwood.fork import fork_lock
from draftwood.targets.transformers.cache import SequenceCache
from draftwood.targets.transformers.lean import LeanPass, spread
from draftwood.targets.transformers.lean_layer import LeanLayer, Span, steady_attention
from draftwood.targets.transformers.static_rows import PassShape, StaticRows
from draftwood.targets.transformers.static_slots import StaticSlots

log = logging.getLogger(__name__)

_RECORDED_FROM = 3
"""Uses of a shape from which on it is recorded: recording takes the time of several passes."""
_COVER = 4
"""Rows, as a multiple of those needed, of a recorded shape that serves for one that is not yet."""
_MOST = 96
"""Shapes that are recorded for one buffer; the oldest is forgotten for a new one."""
_SPARE = 1 / 16
"""Of a GPU's memory: buffers that are kept for the next sequences, with what was recorded."""
_ROUNDS = 7
"""Passes of each kind that the self-test times."""


def static_pass(
    lean: LeanPass, windows: Mapping[str, int | None], *, wanted: bool | None
) -> StaticPass | None:
    """The static pass beside a bare one; None where it is not wanted, not right or not faster.

    windows: of each type of layer. wanted: None: on a GPU, where it is faster.
    """
    device = lean.device
    if wanted is False or (wanted is None and device.type != "cuda"):
        return None
    try:
        static = StaticPass(lean, windows, graphs=device.type == "cuda")
        off = static.difference()
        if not off <= lean.allowed:
            log.warning("the static pass is off by %.2g standard deviations: it is not used", off)
            return None
        if wanted is None and not static.is_faster():
            log.info("the bare pass is as fast as its CUDA graphs, which are not used")
            return None
    except Exception as error:  # a GPU or a PyTorch that cannot record it
        log.warning("the static pass cannot be used: %s", error)
        return None
    return static


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A pass that can be replayed: it reads `inputs`, and `rows` are what went through it."""

    graph: Any
    inputs: torch.Tensor
    rows: torch.Tensor


class StaticPass:
    """The static passes of one model, shared by all its sequences. Thread-safe.

    windows: of each type of layer, None: it sees all. graphs: whether to record CUDA graphs.
    """

    def __init__(self, lean: LeanPass, windows: Mapping[str, int | None], *, graphs: bool) -> None:
        self._lean, self._windows, self._graphs = lean, windows, graphs
        self._pool: Any = None
        self._keeper: Any = None  # a pool ends with the last graph in it, and is not to end
        self._reach = 0
        self._turns: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._spare: list[StaticSlots] = []
        self._spare_bytes = _spare_bytes(lean.device)
        self._lock = fork_lock()
        self._weights = self._addresses()

    def slots(self, size: int) -> StaticSlots:
        """Caches for `size` sequences; those of an earlier call that were given back, if any."""
        with self._lock:
            for at, spare in enumerate(self._spare):
                if spare.size == size:
                    return self._spare.pop(at)
        lean, layer = self._lean, self._lean.layers[0]
        weight = lean.embedding.weight
        return StaticSlots(len(lean.layers), size, layer.groups, layer.size, weight)

    def give_back(self, slots: StaticSlots) -> None:
        """Keep caches, and what was recorded for them, for the next sequences."""
        with self._lock:
            self._spare.insert(0, slots)
            while sum(spare.nbytes() for spare in self._spare) > self._spare_bytes:
                self._spare.pop()

    @torch.inference_mode()
    def __call__(
        self, rows: StaticRows, slots: StaticSlots, *, record: bool = False
    ) -> torch.Tensor:
        """Logits [n, V] of the wanted rows; keys and values of all rows are in the slots then.

        record: now, not once the shape has come a few times.
        """
        shape = rows.shape
        slots.reserve(shape.keys)
        inputs = torch.from_numpy(rows.inputs)
        with self._lock, steady_attention(self._lean.device):
            self._keep_current(shape.keys, slots)
            found = slots.recorded.get(shape)
            wanted = record or slots.uses.get(shape, 0) >= _RECORDED_FROM
            if found is None and self._graphs and wanted:
                found = self._recorded(inputs, shape, slots, must=record)
            if found is None:
                x = self._through(inputs.to(self._lean.device), shape, slots)
            else:
                found.inputs.copy_(inputs)
                found.graph.replay()
                x = found.rows
            if rows.wanted is not None:
                x = x[torch.from_numpy(rows.wanted).to(x.device)]
            return self._lean.logits(x)

    def shape(self, needed: PassShape, slots: StaticSlots) -> PassShape:
        """The shape to pass `needed` in: itself, or a larger one that is recorded already.

        A pass that is not recorded costs several that are; a larger one costs a little more.
        """
        if needed in slots.recorded or not self._graphs:
            return needed
        uses = slots.uses[needed] = slots.uses.get(needed, 0) + 1
        limit = _COVER * needed.slots * needed.rows
        larger = [
            each
            for each in slots.recorded
            if each.slots * each.rows <= limit
            and all(has >= needs for has, needs in zip(each, needed, strict=True))
        ]
        if uses >= _RECORDED_FROM or not larger:
            return needed
        return min(larger, key=lambda each: each.slots * each.rows * each.keys)

    def difference(self) -> float:
        """How far its logits are from the bare pass's, in standard deviations of these."""
        expected, found = self._both(_probe(self._lean, 3))
        return float((found.float() - expected.float()).abs().max() / expected.float().std())

    def is_faster(self) -> bool:
        """Whether passes of one row and of eight are faster than the bare pass's."""
        return all(self._times(drafted) for drafted in (0, 7))

    def _times(self, drafted: int) -> bool:
        taken: tuple[list[float], list[float]] = ([], [])
        probe = _probe(self._lean, drafted)
        for turn in range(_ROUNDS + 2):
            for seconds, passed in zip(taken, (self._by_lean, self._by_static), strict=True):
                start = perf_counter()
                passed(probe).argmax(-1).cpu()
                if turn >= 2:
                    seconds.append(perf_counter() - start)
        return median(taken[1]) < median(taken[0])

    def _both(self, draft: Draft) -> tuple[torch.Tensor, torch.Tensor]:
        return self._by_lean(draft), self._by_static(draft)

    @torch.inference_mode()
    def _by_lean(self, draft: Draft) -> torch.Tensor:
        """The bare pass over a token and a chain after it."""
        tokens = np.append(np.zeros(1, np.int32), draft.tokens).astype(np.int64)
        count = len(tokens)
        cache = SequenceCache(len(self._lean.layers))
        sees = np.tri(count, dtype=np.bool_)
        span = Span(0, count, count, dict.fromkeys(self._windows, sees))
        return self._lean(tokens, np.arange(count), [span], cache)

    def _by_static(self, draft: Draft) -> torch.Tensor:
        """The static pass over the same rows, recorded where it can be."""
        slots = self.slots(1)
        shape = PassShape.holding(1, 1 + len(draft), 0, size=1)
        rows = StaticRows.of([np.zeros(1, np.int32)], [draft], lambda tokens: tokens, shape)
        logits = self(rows, slots, record=True)
        self.give_back(slots)
        return logits

    def _through(self, inputs: torch.Tensor, shape: PassShape, slots: StaticSlots) -> torch.Tensor:
        """Rows [slots * rows, hidden] after all layers, from int32 [slots, ...] `inputs`."""
        lean, (count, rows, _) = self._lean, shape
        past, ids = inputs[:, :1].long(), inputs[:, 1 : 1 + rows].long()
        positions = inputs[:, 1 + rows : 1 + 2 * rows].long()
        sees = inputs[:, 1 + 2 * rows :].reshape(count, rows, rows).bool()
        steps = torch.arange(rows, device=inputs.device)
        at = torch.arange(count, device=inputs.device)[:, None], past + steps
        masks = self._masks(past, positions, sees, shape)
        turns = {
            kind: (cosine[positions.flatten()], sine[positions.flatten()])
            for kind, (cosine, sine) in self._turns.items()
        }
        x: torch.Tensor = lean.embedding(ids.flatten())
        for layer, cached in zip(lean.layers, slots.buffer, strict=True):
            x = _layer(layer, x, turns[layer.kind], masks[layer.kind], cached, at, shape)
        return x

    def _masks(
        self, past: torch.Tensor, positions: torch.Tensor, sees: torch.Tensor, shape: PassShape
    ) -> dict[str, torch.Tensor]:
        """What is added to the scores of each row, [slots, 1, each * rows, keys], by kind."""
        count, rows, keys = shape
        places = torch.arange(keys, device=past.device)
        node = (places - past).clamp(-1, rows)  # [slots, keys], -1: cached, rows: free
        within = node.clamp(0, rows - 1)
        own = sees.gather(2, within[:, None].expand(count, rows, keys))
        visible = (node < 0)[:, None] | (own & (node < rows)[:, None])
        key_at = torch.where(node < 0, places, positions.gather(1, within))
        each, found = self._lean.layers[0].each, {}
        for kind, window in self._windows.items():
            seen = visible
            if window is not None and keys > window:
                seen = visible & (positions[:, :, None] - key_at[:, None] < window)
            mask = torch.zeros(seen.shape, dtype=self._lean.dtype, device=seen.device)
            mask.masked_fill_(~seen, -torch.inf)
            found[kind] = mask.repeat(1, each, 1)[:, None]
        return found

    def _recorded(
        self, inputs: torch.Tensor, shape: PassShape, slots: StaticSlots, *, must: bool
    ) -> _Recorded | None:
        """A pass, recorded; None where that fails: passes are made call by call from then on.

        must: raise instead.
        """
        try:
            return self._record(inputs, shape, slots)
        except RuntimeError as error:
            if must:
                raise
            log.warning("a pass cannot be recorded, and none is from now on: %s", error)
            self._graphs = False
            return None

    def _record(self, inputs: torch.Tensor, shape: PassShape, slots: StaticSlots) -> _Recorded:
        """Record the pass of a shape; it is made once before, with these inputs."""
        device = self._lean.device
        kept = inputs.to(device)
        cuda: Any = torch.cuda  # its streams have no types
        stream = cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            self._through(kept, shape, slots)
        torch.cuda.current_stream(device).wait_stream(stream)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        with torch.cuda.graph(
            graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
        ):
            rows = self._through(kept, shape, slots)
        self._keeper = self._keeper or graph
        if len(slots.recorded) >= _MOST:
            del slots.recorded[next(iter(slots.recorded))]
        found = slots.recorded[shape] = _Recorded(graph, kept, rows)
        return found

    def _keep_current(self, keys: int, slots: StaticSlots) -> None:
        """Forget what was recorded with other weights or shorter tables of positions."""
        weights = self._addresses()
        if weights != self._weights or keys > self._reach:
            self._weights = weights
            self._reach = max(4096, 2 * keys, self._reach)
            self._turns = {kind: self._lean.table(kind, self._reach - 1) for kind in self._windows}
        current = (self, weights, self._reach)
        if slots.made_for != current:
            slots.recorded.clear()
            slots.made_for = current

    def _addresses(self) -> tuple[int, ...]:
        """Where some of the weights lie; they move together."""
        lean = self._lean
        last = lean.layers[-1]
        weights = (lean.embedding.weight, last.heads_out.weight, last.down.weight)
        return tuple(weight.data_ptr() for weight in weights)


def _spare_bytes(device: torch.device) -> int:
    """Bytes of the buffers that may be kept; 256 MB where the device is no GPU."""
    if device.type != "cuda":
        return 1 << 28
    return int(_SPARE * torch.cuda.get_device_properties(device).total_memory)


def _probe(lean: LeanPass, drafted: int) -> Draft:
    """A chain of tokens of the model's."""
    return Draft.chain(spread(int(lean.embedding.weight.shape[0]), drafted))


def _layer(
    layer: LeanLayer,
    x: torch.Tensor,
    turns: tuple[torch.Tensor, ...],
    mask: torch.Tensor,
    cached: torch.Tensor,
    at: tuple[torch.Tensor, torch.Tensor],
    shape: PassShape,
) -> torch.Tensor:
    """Rows after one layer, whose keys and values are in `cached` then, at slots and places."""
    count, rows, keys = shape
    groups, each, size = layer.groups, layer.each, layer.size
    query, key, value = layer.project(x, turns)
    slots, places = at
    cached[0][slots, :, places] = key.view(count, rows, groups, size)
    cached[1][slots, :, places] = value.reshape(count, rows, groups, size)
    grouped = query.reshape(count, rows, groups, each, size).permute(0, 2, 3, 1, 4)
    seen = functional.scaled_dot_product_attention(
        grouped.reshape(count, groups, each * rows, size),
        cached[0, :count, :, :keys],
        cached[1, :count, :, :keys],
        mask,
        scale=layer.scale,
    )
    seen = seen.reshape(count, groups, each, rows, size).permute(0, 3, 1, 2, 4)
    return layer.finish(x, seen.reshape(count * rows, -1))
