"""Traces of a few kilobytes for `--smoke`: the demo's agent traffic with its right answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from draftwood.demo.model import target_path
from draftwood.demo.world import episode

EPISODES = 12


def tiny_traces(folder: Path) -> tuple[list[Path], Path]:
    """Two traces of different texts, written to `folder`; and a tokenizer for them."""
    traces = []
    for name, records in {"chat-tiny": _chat(), "sql-tiny": _sql()}.items():
        traces.append(folder / f"{name}.jsonl")
        traces[-1].write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return traces, target_path() / "tokenizer.json"


def _sql() -> Iterator[dict[str, str]]:
    """All answers of an episode's requests as one long response."""
    for number in range(EPISODES):
        exchanges = [
            exchange
            for request in episode(0, number, split="held-out").requests
            for exchange in request.exchanges
        ]
        answers = "\n".join(exchange.response for exchange in exchanges)
        yield {"prompt": exchanges[0].prompt, "response": answers, "session": str(number % 3)}


def _chat() -> Iterator[dict[str, str]]:
    """Questions instead of queries."""
    for number in range(EPISODES):
        made = [episode(0, 4 * number + at, split="held-out") for at in range(4)]
        questions = [request.question.text for each in made for request in each.requests]
        yield {"prompt": questions[0], "response": "\n".join(questions[1:] * 2)}
