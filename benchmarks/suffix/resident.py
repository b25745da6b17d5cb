"""Resident bytes a stored token: each side in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common.provenance import ROOT
from benchmarks.suffix.costs_table import Row
from benchmarks.suffix.released import ReleasedTree
from draftwood.draft import TokenIds
from draftwood.index.suffix_tree import SuffixTree


def memory(texts: Sequence[TokenIds], *, depth: int, tokens: int) -> Row:
    """Resident bytes a stored token; each side in a process of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.npz"
        lengths = np.cumsum([len(text) for text in texts])
        keep = int(np.searchsorted(lengths, tokens)) + 1
        np.savez(path, flat=np.concatenate(texts[:keep]), ends=lengths[:keep])
        for side in ("ours", "peer"):
            command = [sys.executable, "-m", __spec__.name, side, str(depth), str(path)]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            found[side] = json.loads(done.stdout)
    return Row(
        "resident memory a stored token",
        "bytes",
        found["ours"],
        found["peer"],
        found["peer"] / found["ours"],
    )


def _resident() -> int:
    """Resident bytes of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no RssAnon in /proc/self/status; run this on Linux")


def _store_and_report(side: str, depth: int, path: Path) -> None:
    with np.load(path) as file:
        texts = np.split(file["flat"], file["ends"][:-1])
    tree = SuffixTree(depth) if side == "ours" else ReleasedTree(depth)
    before = _resident()
    for number, text in enumerate(texts):
        if isinstance(tree, SuffixTree):
            tree.finish(tree.begin(text))
        else:
            tree.extend_ndarray(number, text)
    print(json.dumps((_resident() - before) / sum(map(len, texts))))


if __name__ == "__main__":
    _store_and_report(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
