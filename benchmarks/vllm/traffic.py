"""What is served: recorded responses that are forced, the demo's requests, and plain prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from draftwood.demo.model import target_path
from draftwood.demo.world import episode
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer

KINDS = {
    "sqlagent": "SQL agents",
    "agentcode": "coding agents",
    "reason": "reasoning",
    "chat": "chat",
}
"""How the names of traces begin, and the set that they belong to."""


@dataclass(frozen=True)
class Request:
    """One request. answer: what is forced; empty: the model says what it says."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True)
class Traffic:
    """A set. model: a folder; None: the random shape. history: answers that both sides know."""

    name: str
    model: Path | None
    requests: list[Request]
    history: list[Request]
    vocab_size: int


def recorded(
    paths: Sequence[Path],
    tokenizer: Path,
    *,
    records: int,
    prompt: int,
    answer: int,
    served: int = 4,
) -> list[Traffic]:
    """Traces by kind: every `served`-th response is served, the others are history.

    records: of each set. prompt, answer: the most tokens of each; of a prompt its last.
    """
    reader = TraceTokenizer.load(tokenizer)
    found: dict[str, list[Request]] = {}
    for path in paths:
        kind = KINDS.get(path.name.partition("-")[0], path.name.partition("-")[0])
        kept = found.setdefault(kind, [])
        for number, record in enumerate(Log(path, reader)):
            if number >= records:
                break
            if len(record.response) > 8 and len(record.prompt):
                kept.append(
                    Request(record.prompt[-prompt:].tolist(), record.response[:answer].tolist())
                )
    highest = max(max(each.prompt + each.answer) for kept in found.values() for each in kept)
    return [
        Traffic(
            kind,
            None,
            kept[served - 1 :: served],
            [each for at, each in enumerate(kept) if at % served != served - 1],
            highest + 1,
        )
        for kind, kept in found.items()
        if len(kept) >= served
    ]


def demo(count: int) -> Traffic:
    """Requests of the demo's agents to its bundled model, which answers them itself."""
    reader = TraceTokenizer.load(target_path() / "tokenizer.json")
    requests = [
        Request(_tokens(reader, exchange.prompt), [])
        for number in range(-(-count // 8))
        for asked in episode(0, number, split="held-out").requests
        for exchange in asked.exchanges
    ]
    return Traffic("demo traffic", target_path(), requests[:count], [], 2048)


def prompts(model: Path, count: int) -> Traffic:
    """Edits, extraction and SQL, answered by a model of the caller's, such as SmolLM2-135M."""
    reader = TraceTokenizer.load(model / "tokenizer.json")
    asked = [_EDIT, _EXTRACT, _SQL]
    texts = [asked[at % 3](at // 3) for at in range(count)]
    requests = [
        Request(
            _tokens(reader, f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"),
            [],
        )
        for text in texts
    ]
    return Traffic("edits, extraction, SQL", model, requests, [], 1)


_NAMES = ("price", "count", "total", "score", "weight", "height", "amount", "rate")
_PEOPLE = ("Ada Byron", "Alan Turing", "Grace Hopper", "Emmy Noether", "Kurt Goedel")


def _EDIT(at: int) -> str:  # noqa: N802
    name, other = _NAMES[at % 8], _NAMES[(at + 3) % 8]
    code = (
        f"def mean_{name}(items):\n    total = 0.0\n    for item in items:\n"
        f"        total += item.{name}\n    if not items:\n        return 0.0\n"
        f"    return total / len(items)\n"
    )
    return f"Rename {name} to {other} in this function and print the whole function:\n\n{code}"


def _EXTRACT(at: int) -> str:  # noqa: N802
    people = [_PEOPLE[(at + step) % 5] for step in range(3)]
    text = "; ".join(
        f"{name}, born {1815 + 7 * at + 20 * step}, engineer" for step, name in enumerate(people)
    )
    return f"List every person as 'name: NAME, born: YEAR, job: JOB', one a line:\n\n{text}"


def _SQL(at: int) -> str:  # noqa: N802
    name, other = _NAMES[at % 8], _NAMES[(at + 5) % 8]
    return (
        "Tables: products(id, name, price, weight), orders(id, product_id, amount, day).\n"
        f"Write a SQL query that joins orders with products and gives name, {name} and {other} "
        f"of the orders with the ten largest {name}."
    )


def _tokens(reader: TraceTokenizer, text: str) -> list[int]:
    return [int(token) for token in reader.encode([text])[0]]


def chunks(requests: Sequence[Request], size: int, count: int) -> list[list[Request]]:
    """`count` chunks of `size` requests, taken in a fixed random order, over and over."""
    order = np.random.default_rng(1).permutation(len(requests)).tolist()
    repeated = order * (-(-size * count // len(order)))
    return [
        [requests[at] for at in repeated[size * number : size * (number + 1)]]
        for number in range(count)
    ]
