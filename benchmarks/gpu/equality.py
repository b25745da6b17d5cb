"""Whether text on a device is `model.generate`'s, token for token, whatever is drafted.

Random models of every family, and the bundled one; chains, trees, nonsense, alone and in batches. A
text that differs is put down to a near tie where, at its first other token, the logits that
`generate` computed for the two are closer to one another than rounding can tell: within twice what
the row is off from that of the same weights in a wider dtype.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.clock import Clock
from draftwood.batch import Request, decode_batch
from draftwood.decode import decode
from draftwood.demo.workload import workload
from draftwood.draft import Budget, TokenIds, as_tokens
from draftwood.drafters.none import NoDraft
from draftwood.load import load
from draftwood.protocols import Drafter
from draftwood.targets.transformers.target import TransformersTarget
from draftwood.testing import FAMILIES, oracle, random_trees, tiny_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

VOCAB_SIZE = 61
WIDER = {torch.float32: torch.float64, torch.bfloat16: torch.float32}
"""By the dtype of a model, the one that tells how far its logits are rounded."""
LIBRARY_S = ("gpt2", "gemma2")
"""Families whose passes are all the library's."""
SMALLER: dict[torch.dtype, dict[str, Any]] = {
    torch.float32: {},
    torch.bfloat16: {"initializer_range": 0.15},
}
"""Weights of random models: with the usual ones, bfloat16 rounds everything away."""
PROMPTS = (
    [7],
    [(3 + 7 * i * i) % VOCAB_SIZE for i in range(70)],
    [(5 + 11 * i) % VOCAB_SIZE for i in range(23)],
)


@dataclass
class Tally:
    """Texts of one model and dtype, compared.

    gaps: of the near ties, in standard deviations of the row. roundings: what rows were off there.
    """

    texts: int = 0
    equal: int = 0
    tokens: int = 0
    gaps: list[float] = field(default_factory=list)
    roundings: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, expected: Expected, found: Sequence[int]) -> None:
        """Compare a text, up to its first other token."""
        self.texts += 1
        pairs = enumerate(zip(expected.tokens, found, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), None)
        if at is None and len(found) == len(expected.tokens):
            self.equal += 1
            self.tokens += len(found)
            return
        if at is None:
            self.wrong[f"{what}: {len(found)} tokens for {len(expected.tokens)}"] += 1
            return
        self.tokens += at
        gap, rounding = expected.gap(at, found[at]), expected.rounding(at)
        if gap <= 2 * rounding:
            self.gaps.append(round(gap, 6))
            self.roundings.append(round(rounding, 6))
        else:
            self.wrong[f"{what}: gap {gap:.3g}, rounding {rounding:.3g}, at token {at}"] += 1

    def as_dict(self) -> dict[str, Any]:
        """A row of the result."""
        return {
            "texts": self.texts,
            "equal": self.equal,
            "tokens": self.tokens,
            "near_tie_flips": len(self.gaps),
            "largest_gap": max(self.gaps, default=None),
            "largest_rounding": max(self.roundings, default=None),
            "wrong": dict(self.wrong),
        }


@dataclass
class Expected:
    """What `generate` says after a prompt. logits: [n, V], before each of its tokens.

    wider: the same weights in a wider dtype.
    """

    prompt: Sequence[int]
    tokens: list[int]
    logits: torch.Tensor
    wider: Any

    @classmethod
    def of(
        cls, model: Any, wider: Any, prompt: Sequence[int], count: int, **options: Any
    ) -> Expected:
        """The greedy text after a prompt."""
        ids = torch.tensor([list(prompt)], device=model.device)
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
            **options,
        )
        text = made.sequences[0, len(prompt) :].tolist()
        return cls(prompt, text, torch.cat(made.logits).double(), wider)

    def gap(self, at: int, other: int) -> float:
        """How far below the chosen token another one is, in standard deviations of the row."""
        row = self.logits[at]
        return float((row[self.tokens[at]] - row[other]) / row.std())

    @torch.inference_mode()
    def rounding(self, at: int) -> float:
        """How far the row is off from that of the wider dtype, in the same unit."""
        ids = torch.tensor([[*self.prompt, *self.tokens[:at]]], device=self.logits.device)
        row = self.wider(input_ids=ids, use_cache=False).logits[0, -1].double()
        return float((row - self.logits[at]).abs().max() / self.logits[at].std())


def widened(model: Any) -> Any:
    """A copy of a model with the same numbers in a wider dtype."""
    return copy.deepcopy(model).to(WIDER[model.dtype])


def equality(device: torch.device, clock: Clock, families: Sequence[str] = FAMILIES) -> list[Any]:
    """A row for each model and dtype."""
    rows: list[dict[str, Any]] = []
    ours = [family for family in families if family not in LIBRARY_S]
    ways = [("demo", None), *((family, True) for family in ours)]
    ways += [*((family, None) for family in LIBRARY_S if family in families)]
    ways += [(family, False) for family in ours]
    kinds = [(dtype, *way) for way in ways for dtype in WIDER]
    named = ((f"{kind[1]} {str(kind[0])[6:]} static={kind[2]}", kind) for kind in kinds)
    for name, (dtype, family, static) in clock.each(named):
        row: dict[str, Any] = {"model": family, "dtype": str(dtype)[6:]}
        try:
            if family == "demo":
                row |= _demo(device, dtype, row).as_dict()
            else:
                row |= _family(family, device, dtype, row, static).as_dict()
        except Exception as error:  # one family must not cost the others
            row |= {"error": f"{type(error).__name__}: {error}"[:300]}
        rows.append(row)
        print(f"equality {name}: {row}", flush=True)
    return rows


def _family(
    family: str,
    device: torch.device,
    dtype: torch.dtype,
    row: dict[str, Any],
    static: bool | None,
    count: int = 16,
) -> Tally:
    attention = "eager" if family == "gemma2" else "sdpa"
    model = tiny_model(family, attention=attention, **SMALLER[dtype]).to(device, dtype)
    target, tally = TransformersTarget(model, static=static), Tally()
    row |= {"trees": target.trees, "batches": target.batches} | passes_of(target)
    wider = widened(model)
    expected = [Expected.of(model, wider, prompt, count) for prompt in PROMPTS]
    texts = [[*prompt, *each.tokens] for prompt, each in zip(PROMPTS, expected, strict=True)]
    for prompt, text, told in zip(PROMPTS, texts, expected, strict=True):
        for what, drafter in _drafters(text):
            found = _alone(target, drafter, prompt, count)
            tally.add(f"alone, {what}", told, found)
    for what, drafter in _drafters_of_all(texts):
        found_all = _together(target, drafter, len(PROMPTS) - 1, count)
        for told, found in zip(expected, found_all, strict=True):
            tally.add(f"batch, {what}", told, found)
    return tally


def passes_of(target: TransformersTarget) -> dict[str, Any]:
    """Which pass makes the target's short passes."""
    network = target.network
    return {"bare": network.lean is not None, "static": network.static is not None}


def _drafters(text: Sequence[int]) -> Iterator[tuple[str, Drafter]]:
    yield "none", NoDraft()
    yield "half-right chains", oracle(text, vocab_size=VOCAB_SIZE, errors=0.3)
    yield "trees with decoys", oracle(text, vocab_size=VOCAB_SIZE, decoys=2, errors=0.1)
    yield "nonsense trees", random_trees(VOCAB_SIZE)


def _drafters_of_all(texts: Sequence[Sequence[int]]) -> Iterator[tuple[str, Drafter]]:
    chains = [oracle(text, vocab_size=VOCAB_SIZE, errors=0.2) for text in texts]
    yield "chains", _EachItsOwn(chains)
    trees = [oracle(text, vocab_size=VOCAB_SIZE, decoys=2, errors=0.1) for text in texts]
    yield "trees with decoys", _EachItsOwn(trees)
    yield "nonsense trees", random_trees(VOCAB_SIZE)


class _EachItsOwn:
    """A drafter for each of `PROMPTS`."""

    def __init__(self, drafters: Sequence[Drafter]) -> None:
        self._drafters = drafters

    def open(self, prompt: TokenIds, *, namespace: str = "", prediction: Any = ()) -> Any:
        return self._drafters[PROMPTS.index(prompt.tolist())].open(prompt)

    def close(self) -> None:
        """Nothing to give back."""


def _alone(target: Any, drafter: Drafter, prompt: Sequence[int], count: int) -> list[int]:
    steps = decode(target, drafter, Greedy(), prompt, budget=Budget(24), stop=Stop(count))
    return [token for step in steps for token in step.tokens.tolist()]


def _together(target: Any, drafter: Drafter, size: int, count: int) -> list[list[int]]:
    asked = [Request(as_tokens(prompt), Greedy(), Stop(count)) for prompt in PROMPTS]
    found: list[list[int]] = [[] for _ in asked]
    steps = decode_batch(target, drafter, asked, max_batch=size, budget=Budget(16))
    for number, step in steps:
        found[number] += step.tokens.tolist()
    return found


def _demo(
    device: torch.device, dtype: torch.dtype, row: dict[str, Any], requests: int = 1
) -> Tally:
    """The bundled model's answers to agent requests, by the options that users have."""
    tally = Tally()
    specs = ("none", "recall:cost=none", "suffix:mode=tree,alpha=4,floor=0,nodes=32", "lookup")
    with load("demo", "none", device=str(device), dtype=str(dtype)[6:]) as model:
        prompts: list[TokenIds] = []
        for request in workload(3, requests, databases=requests):
            answers: list[str] = []
            for call in request.calls:
                prompts.append(model.encode(call.prompt(answers), chat=False))
                answers.append(model.generate(prompts[-1], max_tokens=48).text)
        ends, own = sorted(model.end_tokens), model.target.model
        target: Any = model.target
        row |= passes_of(target)
        wider = widened(own)
        expected = [
            Expected.of(own, wider, prompt.tolist(), 48, eos_token_id=ends) for prompt in prompts
        ]
        for spec in specs:
            for prompt, told in zip(prompts, expected, strict=True):
                found = model.generate(prompt, max_tokens=48, drafter=spec).tokens
                tally.add(f"alone, {spec}", told, np.asarray(found).tolist())
            together = model.generate(prompts, max_tokens=48, drafter=spec)
            for told, made in zip(expected, together, strict=True):
                tally.add(f"batch, {spec}", told, np.asarray(made.tokens).tolist())
    return tally
