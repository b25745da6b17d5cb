"""What texts that somebody chose cost, beside random ones: appending and drafting, in both indexes.

    python benchmarks/worst_cases/run.py [--tokens 100000] [--json]

`random` is text of random tokens of the whole vocabulary; `words` of a hundred words. The others
are what an index may stumble over: one token again and again, short and long periods, de Bruijn
sequences (every string of k tokens once), tokens that a well-known hash puts side by side, a token
before ten thousand others, and a request's own output, appended three tokens at a time as it is
generated while all of it is shared (`output`, of three thousand words; `random output`).

Figures are microseconds of one thread's time: a token appended, and the median draft of 16 nodes
after 64 tokens of the text. Their `times` are those of `random`, and of `random output` for what
comes in threes, since a call's own cost is in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from time import thread_time_ns
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from draftwood.draft import Budget, TokenIds
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.index.suffix_tree import SuffixPolicy, SuffixTree

VOCAB = 151_936
NODES, CONTEXT, DRAFTS = 16, 64, 100
OUTPUTS = ("random output", "output")
TREE = SuffixPolicy(4.0, 0.0, 0.0, "tree")


def texts(tokens: int) -> dict[str, TokenIds]:
    """Each text by its name, about `tokens` tokens."""
    random = np.random.default_rng(0)
    ids = np.arange(VOCAB, dtype=np.uint32)
    clustered = np.argsort(ids * np.uint32(0x9E3779B9))[: tokens // 2]
    others = random.permutation(VOCAB)[: min(10_000, tokens // 4)]
    found: dict[str, Any] = {
        "random": random.integers(0, VOCAB, tokens),
        "words": random.integers(0, 100, tokens),
        "one token": np.full(tokens, 5),
        "period 3": np.resize(np.arange(3), tokens),
        "period 65": np.resize(np.arange(65), tokens),
        "period 1000": np.resize(np.arange(1000), tokens),
        "de Bruijn of 2": np.resize(de_bruijn(2, 12), tokens),
        "de Bruijn of 40": np.resize(de_bruijn(40, 3), tokens),
        "clustered": np.resize(random.permutation(clustered), tokens),
        "one before many": np.resize(np.stack([np.full(len(others), 7), others], 1), tokens),
        "random output": random.integers(0, VOCAB, tokens),
        "output": random.integers(0, 3000, tokens),
    }
    return {name: text.astype(np.int32).ravel() for name, text in found.items()}


def de_bruijn(symbols: int, length: int) -> list[int]:
    """A cycle that holds every string of `length` symbols once (Fredricksen and Maiorana 1978)."""
    word, cycle = [0], [0]
    while True:
        word = [word[i % len(word)] for i in range(length)]
        while word and word[-1] == symbols - 1:
            word.pop()
        if not word:
            return cycle
        word[-1] += 1
        if length % len(word) == 0:
            cycle += word


def recall_costs(name: str, text: TokenIds) -> tuple[float, float]:
    """Microseconds a token and a draft of Recall."""
    recall = Recall(2 * len(text) + 1024, seed=1)
    stream = RecallStream(recall)
    with closing(stream):
        if name in OUTPUTS:
            begun = thread_time_ns()
            for at in range(0, len(text), 3):
                stream.observe(text[at : at + 3])
            append = thread_time_ns() - begun
            return append / len(text) / 1000, drafts(text, lambda _: stream.propose(Budget(NODES)))
    begun = thread_time_ns()
    recall.add(text)
    append = thread_time_ns() - begun

    def draft(context: TokenIds) -> None:
        with closing(RecallStream(recall, context)) as asked:
            asked.propose(Budget(NODES))

    return append / len(text) / 1000, drafts(text, draft)


def tree_costs(name: str, text: TokenIds) -> tuple[float, float]:
    """Microseconds a token and a draft of the suffix tree."""
    tree = SuffixTree(CONTEXT)
    sequence = tree.begin()
    step = 3 if name in OUTPUTS else len(text)
    begun = thread_time_ns()
    for at in range(0, len(text), step):
        tree.extend(sequence, text[at : at + step])
    append = thread_time_ns() - begun
    return append / len(text) / 1000, drafts(
        text, lambda context: tree.speculate(context, TREE, nodes=NODES)
    )


def drafts(text: TokenIds, draft: Callable[[TokenIds], object]) -> float:
    """The median of drafts after places all over a text."""
    costs = []
    for end in np.linspace(CONTEXT, len(text) - 1, DRAFTS).astype(int):
        context = text[end - CONTEXT : end]
        begun = thread_time_ns()
        draft(context)
        costs.append(thread_time_ns() - begun)
    return median(costs) / 1000


def main() -> None:
    options = _options()
    rows: list[dict[str, Any]] = []
    print(f"{'':28} append, us    times   draft, us    times")
    for index, costs in (("recall", recall_costs), ("suffix", tree_costs)):
        base = (1.0, 1.0)
        for name, text in texts(options.tokens).items():
            append, draft = costs(name, text)
            if name in ("random", "random output"):
                base = append, draft
            row = {
                "index": index,
                "text": name,
                "append_us": round(append, 3),
                "append_times": round(append / base[0], 2),
                "draft_us": round(draft, 1),
                "draft_times": round(draft / base[1], 2),
            }
            rows.append(row)
            print(
                f"{index:8} {name:19} {append:10.3f} {row['append_times']:8.2f} "
                f"{draft:11.1f} {row['draft_times']:8.2f}"
            )
    require(all(row["append_us"] > 0 for row in rows), "an appended token takes time")
    publish({"rows": rows, "tokens": options.tokens}, options)


def _options() -> Any:
    made = parser(__doc__)
    made.add_argument("--tokens", type=int, default=100_000, help="of each text")
    return read(made, tokens=3000)


if __name__ == "__main__":
    main()
