"""Seconds that show whether CUDA graphs work here at all: `run.sh` stops where they do not.

    python benchmarks/gpu/check.py

A tiny random Llama, float32 and bfloat16: the static pass, recorded and replayed, beside the bare
pass and the library's; trees of several sequences, before and after a commit. Errors are shown
whole, which the self-test at load would put in one line.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from benchmarks.gpu.shapes import random_llama
from draftwood.draft import ROOT, Draft, as_tokens
from draftwood.protocols import Verdict
from draftwood.targets.transformers.batch import TransformersBatch
from draftwood.targets.transformers.cursor import TransformersCursor
from draftwood.targets.transformers.network import Network
from draftwood.targets.transformers.static_pass import StaticPass

TREE = Draft.tree([7, 8, 9, 10], [ROOT, ROOT, 0, 1])
PROMPTS = [as_tokens([(3 + 7 * i * i) % 61 for i in range(count)]) for count in (5, 1, 70)]


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for dtype, allowed in ((torch.float32, 1e-3), (torch.bfloat16, 0.1)):
        model = random_llama("tiny", device, vocab_size=2048).to(dtype)
        bare = Network(model, static=False)
        if bare.lean is None:
            raise SystemExit(f"check {dtype}: the model has no bare pass")
        static = StaticPass(bare.lean, bare.layers.windows, graphs=device.type == "cuda")
        off, faster = static.difference(), static.is_faster()
        print(f"check {device} {dtype}: off by {off:.2g}, faster {faster}", flush=True)
        if not off <= allowed:
            raise SystemExit(f"check {dtype}: the static pass is off by {off:.2g}")
        off = difference(Network(model, static=True), Network(model, lean=False))
        print(f"check {device} {dtype}: trees of a batch are off by {off:.2g}", flush=True)
        if not off <= allowed:
            raise SystemExit(f"check {dtype}: trees of a batch are off by {off:.2g}")


def difference(network: Network, library: Network) -> float:
    """How far rows of a batch are off those of each sequence by the library's pass."""
    if network.static is None:
        raise SystemExit("check: there is no static pass")
    batch = TransformersBatch(network, 4)
    seats = [batch.open(prompt) for prompt in PROMPTS]
    cursors = [TransformersCursor(library, library.admit(prompt)) for prompt in PROMPTS]
    largest = 0.0
    for _ in range(4):  # from the third on, a shape is recorded
        drafts = [TREE, Draft.empty(), Draft.chain([11, 12])]
        scored = batch.score(seats, drafts)
        for seat, cursor, draft, rows in zip(seats, cursors, drafts, scored, strict=True):
            expected = cursor.score(draft)
            for row in range(len(draft) + 1):
                off = np.abs(rows.logits(row) - expected.logits(row)).max()
                largest = max(largest, float(off / expected.logits(row).std()))
            verdict = Verdict(draft.path(3) if draft is TREE else draft.path(len(draft) - 1), 21)
            seat.commit(draft, verdict)
            cursor.commit(draft, verdict)
    batch.close()
    return largest


if __name__ == "__main__":
    main()
