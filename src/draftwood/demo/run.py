"""The demo: agent traffic, answered plain and with each drafter, side by side.

Every call is answered by all sides in turn, each time another one first, so that whatever else
the machine does disturbs all alike. A side's time is the wall clock of its whole calls, prompts
included; its speed-up is the plain side's time over its own, and since all give the same text,
that is the ratio of their tokens a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from draftwood.demo.workload import AgentRequest
from draftwood.draft import TokenIds
from draftwood.load import Generation, LanguageModel, load
from draftwood.stats import Stats

PLAIN = "plain"
SMALL_MODEL = {
    "chain": "chain:model=demo-small",
    "specinfer": "specinfer:model=demo-small,widths=2x1x1x1x1x1x1x1",
    "gsd": "gsd:model=demo-small",
    "blend": "blend:first=recall,other=bestfirst:model=demo-small",
}
"""Drafters of the bundled small model: what the demo calls them, and their specs."""

DRAFTERS = (
    "recall",
    "recall:cost=none",
    "suffix:mode=linear",
    "suffix:mode=tree,alpha=4,floor=0,nodes=32",
    "lookup",
    *SMALL_MODEL,
)
"""What stands beside plain decoding where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Side:
    """One way to decode, and what it took.

    seconds: wall clock of all calls; speedup: the plain side's over these. equal_outputs: the
    share of calls with the plain side's tokens.
    """

    drafter: str
    seconds: float
    speedup: float
    calls: int
    equal_outputs: float
    stats: Stats

    def as_dict(self) -> dict[str, Any]:
        """A row of `demo --json`."""
        return {
            "drafter": self.drafter,
            "tokens_per_second": self.stats.tokens / self.seconds,
            "speedup": self.speedup,
            "tokens_per_step": self.stats.tokens_per_step,
            "acceptance_rate": self.stats.acceptance_rate,
            "equal_outputs": self.equal_outputs,
            "drafted_per_step": self.stats.drafted_per_step,
            "tokens": self.stats.tokens,
            "steps": self.stats.steps,
            "calls": self.calls,
            "seconds": self.seconds,
        }


def load_demo(*, threads: int = 1, device: str = "cpu") -> LanguageModel:
    """The bundled target model, without a drafter, on a device. threads: CPU threads of PyTorch.

    One thread is the default: a model this small gains little from more, and loses that
    wherever the machine has other work.

    Raises:
        MissingExtra: torch or transformers is not installed.
    """
    try:
        import torch
        from transformers.utils import logging
    except ImportError:
        pass  # `load` says what is missing
    else:
        torch.set_num_threads(threads)
        logging.disable_progress_bar()  # it would flash up for a model of a few megabytes
    return load("demo", "none", device=device)


def run_demo(
    model: LanguageModel,
    requests: Iterable[AgentRequest],
    drafters: Sequence[str] = DRAFTERS,
    *,
    max_tokens: int = 96,
    progress: Callable[[int], None] | None = None,
) -> list[Side]:
    """Answer all calls of `requests` (one or more) on every side, plain decoding first.

    drafters: specs or names of `SMALL_MODEL`, a side each. model: its target and tokenizer serve
    all sides; its own drafter is not asked. progress: told the requests done.

    Raises:
        InvalidSpec: for an unknown drafter or option.
    """
    specs = {PLAIN: "none", **{name: spec_of(name) for name in drafters}}
    models = {name: _with_drafter(model, spec) for name, spec in specs.items()}
    seconds = dict.fromkeys(models, 0.0)
    equal = dict.fromkeys(models, 0)
    names = list(models)
    calls = 0
    for done, request in enumerate(requests, 1):
        answers: list[str] = []
        for call in request.calls:
            prompt = model.encode(call.prompt(answers), chat=False)
            if not calls:
                model.generate(prompt, max_tokens=4)  # a process's first passes are slow ones
            given: dict[str, Generation] = {}
            for name in names:
                given[name], took = _timed(models[name], prompt, max_tokens)
                seconds[name] += took
            for name in names:
                equal[name] += given[name].tokens.tolist() == given[PLAIN].tokens.tolist()
            answers.append(given[PLAIN].text)
            names.append(names.pop(0))
            calls += 1
        if progress is not None:
            progress(done)
    return [
        Side(
            name,
            seconds[name],
            seconds[PLAIN] / seconds[name],
            calls,
            equal[name] / calls,
            models[name].stats,
        )
        for name in models
    ]


def spec_of(name: str) -> str:
    """The spec of a side: itself, or that of a drafter of the bundled small model."""
    return SMALL_MODEL.get(name, name)


def _with_drafter(model: LanguageModel, spec: str) -> LanguageModel:
    return LanguageModel(model.target, model.tokenizer, spec, cost="auto")


def _timed(model: LanguageModel, prompt: TokenIds, max_tokens: int) -> tuple[Generation, float]:
    start = perf_counter()
    generation = model.generate(prompt, max_tokens=max_tokens)
    return generation, perf_counter() - start
