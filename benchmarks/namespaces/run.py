"""What many namespaces cost: a request of each, one after the other, in both indexes.

    python benchmarks/namespaces/run.py [--namespaces 100000] [--json]

Every request brings a namespace of its own, a prompt and an answer of random tokens; its answer is
shared, drafts are asked for at each step, and the request ends. Microseconds of one thread a
request, by tenth of the run, so that a cost that grows with the number of namespaces would show;
and the most bytes that the history ever held between two requests. One namespace
that all requests share is timed as well, in the same run.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from time import thread_time_ns

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from draftwood.draft import Budget, TokenIds
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.suffix import SuffixDrafter

VOCAB, PROMPT, ANSWER, STEP = 32_000, 32, 32, 4
TOKENS = 1_000_000  # of the shared history of Recall
LOOK = 997  # requests between two looks at the bytes
BUDGET = Budget(16)


Histories = RecallDrafter | SuffixDrafter


def drafter_of(index: str, max_bytes: int) -> Histories:
    """A drafter; Recall's history takes its bytes at once, and a suffix history up to so many."""
    if index == "recall":
        return RecallDrafter(max_tokens=TOKENS, share=STEP, seed=1)
    return SuffixDrafter(max_bytes=max_bytes)


def serve(drafter: Histories, namespace: str, prompt: TokenIds, answer: TokenIds) -> int:
    """One request, from its prompt to its end; nanoseconds."""
    begun = thread_time_ns()
    with closing(drafter.open(prompt, namespace=namespace)) as stream:
        for at in range(0, len(answer), STEP):
            stream.propose(BUDGET)
            stream.observe(answer[at : at + STEP])
    return thread_time_ns() - begun


def serve_all(drafter: Histories, requests: int, *, apart: bool) -> tuple[list[float], int]:
    """Microseconds a request by tenth of the run, and the most bytes held between two of them."""
    random = np.random.default_rng(0)
    tenths: list[float] = []
    most = 0
    for tenth in range(10):
        spent = 0
        numbers = range(tenth * requests // 10, (tenth + 1) * requests // 10)
        for number in numbers:
            text = random.integers(0, VOCAB, PROMPT + ANSWER).astype(np.int32)
            name = f"tenant {number}" if apart else ""
            spent += serve(drafter, name, text[:PROMPT], text[PROMPT:])
            if number % LOOK == 0:  # it asks every tree, so that it takes long itself
                most = max(most, drafter.nbytes)
        tenths.append(round(spent / len(numbers) / 1000, 1))
    return tenths, most


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--namespaces", type=int, default=100_000)
    made.add_argument("--max-bytes", type=int, default=32_000_000, help="of a suffix history")
    options = read(made, namespaces=200, max_bytes=2_000_000)
    rows = []
    print(f"{'':8} {'namespaces':>10}  us a request, by tenth of the run{'':26} most bytes")
    for name in ("recall", "suffix"):
        for apart in (True, False):
            with closing(drafter_of(name, options.max_bytes)) as drafter:
                tenths, most = serve_all(drafter, options.namespaces, apart=apart)
            row = {
                "index": name,
                "namespaces": options.namespaces if apart else 1,
                "us_a_request": tenths,
                "last_over_first": round(tenths[-1] / tenths[0], 2),
                "most_bytes": most,
                "max_bytes": options.max_bytes if name == "suffix" else None,
            }
            rows.append(row)
            costs = " ".join(f"{cost:6.1f}" for cost in tenths)
            print(
                f"{name:8} {options.namespaces if apart else 1:10}  {costs}  {most:11}", flush=True
            )
            require(name == "recall" or most <= options.max_bytes, "a history stays in its limit")
    publish({"rows": rows, "namespaces": options.namespaces}, options)


if __name__ == "__main__":
    main()
