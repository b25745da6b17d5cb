"""Writes the golden Recall file; run from the repository root, after a deliberate change only.

A file of a released version never changes: a new version adds a file beside the old one.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from draftwood.draft import Budget
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallPolicy, RecallStream

HERE = Path(__file__).parent
FINGERPRINT = bytes(range(32))
SEED = 0x0123456789ABCDEF
CAPACITY = 512
POEM = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4]
QUESTIONS: list[tuple[str, list[int]]] = [
    ("", POEM[:6]),
    ("", [50, 51, 52]),
    ("", [10, 540, 541]),
    ("", [76, 77, 78, 79]),
    ("", [40, 41]),
    ("", [151_642, 7]),
    ("tenant", [8, 4, 6]),
    ("tenant", POEM[:6]),
    ("nobody", POEM[:6]),
]
"""Namespaces and contexts whose drafts are kept beside the file."""


def fill(recall: Recall) -> None:
    """History that has gone round the ring, with all that a file may hold."""
    recall.add(list(range(200, 550)))  # its beginning is overwritten
    removed = recall.add([40, 41, 42, 40, 41, 43])
    recall.add(POEM, context=[11, 12, 13], namespace="tenant")
    recall.add(list(range(20, 20 + 130)))  # longer than a part may be
    recall.add([5, 151_642, 7, 2**31 - 1], context=list(range(60, 80)))
    for namespace in ("", "tenant", ""):
        policy = RecallPolicy(share=7)
        with closing(RecallStream(recall, POEM, namespace=namespace, policy=policy)) as stream:
            for at in range(0, 12, 3):
                stream.propose(Budget(8))
                stream.observe(POEM[at : at + 3])
    recall.remove(removed)


def drafts(recall: Recall) -> list[dict[str, Any]]:
    """What the file says to each question."""
    told = []
    for namespace, context in QUESTIONS:
        with closing(RecallStream(recall, context, namespace=namespace)) as stream:
            guess = stream.propose(Budget(8))
        told.append(
            {
                "namespace": namespace,
                "context": context,
                "tokens": guess.tokens.tolist(),
                "parents": guess.parents.tolist(),
                "confidence": [round(x * 65536) for x in guess.confidence.tolist()],
                "sources": guess.source.tolist(),
            }
        )
    return told


def main() -> None:
    path = HERE / "v2.recall"
    path.unlink(missing_ok=True)
    recall = Recall.open(path, max_tokens=CAPACITY, fingerprint=FINGERPRINT, seed=SEED)
    fill(recall)
    recall.flush()
    del recall
    rows = drafts(Recall.open(path, write=False))
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "v2.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
