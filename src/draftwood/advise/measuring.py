"""Measures what a pass of a model of ours takes, by batch size and drafted tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from draftwood.budget.curve import BATCHES, DRAFTED, CostCurve, check_sizes, spread_of
from draftwood.draft import Draft, TokenIds
from draftwood.language_model.model import LanguageModel
from draftwood.load import load
from draftwood.protocols import BatchTarget, Target, Verdict


def measured_model(
    model: str,
    *,
    batches: Sequence[int] = BATCHES,
    drafted: Sequence[int] = DRAFTED,
    context: int = 256,
    repeats: int = 5,
    device: str | None = None,
    dtype: str | None = None,
    engine: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> CostCurve:
    """The curve of a model of ours on this machine: a folder, Hub id, .gguf file or `demo`.

    Passes over `batch` sequences of `context` tokens that verify chains of `drafted` tokens each;
    repeats are interleaved, so that a slow moment does not bend the curve, and medians are kept.

    Raises:
        InvalidOption: sizes below 1, or no point at 0 drafted tokens.
        DraftwoodError: what `load` raises for a model that cannot be loaded.
    """
    check_sizes(batches, drafted, context, repeats)
    with load(model, "none", cost="none", engine=engine, device=device, dtype=dtype) as llm:
        return curve_of(
            llm,
            batches=batches,
            drafted=drafted,
            context=context,
            repeats=repeats,
            progress=progress,
            about={
                "model": model,
                "engine": engine or "transformers",
                "device": device or "default",
                "dtype": dtype or "default",
            },
        )


def curve_of(
    llm: LanguageModel,
    *,
    batches: Sequence[int] = BATCHES,
    drafted: Sequence[int] = DRAFTED,
    context: int = 256,
    repeats: int = 5,
    progress: Callable[[float], None] | None = None,
    about: Mapping[str, Any] | None = None,
) -> CostCurve:
    """The same of a model that is loaded."""
    vocab = llm.prompts.vocab_size
    found: dict[int, list[tuple[int, float]]] = {}
    spreads = []
    for at, batch in enumerate(batches):
        passes = _Passes(llm.target, batch, context, vocab)
        try:
            passes.seconds(0)  # the first pass warms up
            times: dict[int, list[float]] = {n: [] for n in drafted}
            for _ in range(repeats):
                for n in drafted:
                    times[n].append(passes.seconds(n))
        finally:
            passes.close()
        found[batch] = [(n * batch, median(each)) for n, each in times.items()]
        spreads += [spread_of(each) for each in times.values()]
        if progress is not None:
            progress((at + 1) / len(batches))
    told = {**(about or {}), "how": "own passes", "context": context, "repeats": repeats}
    return CostCurve(found, max(spreads), told)


class _Passes:
    """Passes over the same sequences; all that is drafted is rejected, so that none gets long."""

    def __init__(self, target: Target, batch: int, context: int, vocab: int) -> None:
        self._random = np.random.default_rng(0)
        self._vocab = vocab
        prompts = [self._tokens(context) for _ in range(batch)]
        together = batch > 1 and isinstance(target, BatchTarget) and target.batches
        self._batch = target.open_batch(batch) if together else None  # type: ignore[attr-defined]
        opened = target if self._batch is None else self._batch
        self._sequences: list[Any] = [opened.open(each) for each in prompts]

    def seconds(self, drafted: int) -> float:
        """The time of a pass, until the last row's token is known."""
        drafts = [Draft.chain(self._tokens(drafted)) for _ in self._sequences]
        rejected = Verdict(np.empty(0, np.int32), int(self._tokens(1)[0]))
        start = perf_counter()
        if self._batch is not None:
            for rows in self._batch.score(self._sequences, drafts):
                rows.argmax()
        else:
            for cursor, draft in zip(self._sequences, drafts, strict=True):
                cursor.score(draft).argmax()
        taken = perf_counter() - start
        for sequence, draft in zip(self._sequences, drafts, strict=True):
            sequence.commit(draft, rejected)
        return taken

    def close(self) -> None:
        """Free the sequences."""
        for sequence in self._sequences:
            sequence.close()
        if self._batch is not None:
            self._batch.close()

    def _tokens(self, count: int) -> TokenIds:
        return self._random.integers(0, self._vocab, count, dtype=np.int32)
