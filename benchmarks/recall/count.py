"""Instructions that Recall and the suffix trees execute a token, counted by callgrind.

A driver runs under valgrind, one for each side, and forks: after the import, after history is
stored, and for decoding with a draft of 16 nodes a step, with that draft twice, and with an empty
draft beside it. Differences between the children's totals are what an appended and a drafted token
cost, without Python's share.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.provenance import ROOT
from benchmarks.recall.cost import NODES, STEP, Table, Work
from benchmarks.recall.sides import PEER_INSTALLED, PeerSide, RecallSide, SuffixSide, size_of
from draftwood.draft import TokenIds

STORED = 200_000
REQUESTS = 40
STEPS = 12
SIDES = ("recall", "suffix", *(("arctic",) if PEER_INSTALLED else ()))


def counts(work: Work) -> Table | None:
    """Of each side `instructions_append` and `instructions_draft`, a token; None: no valgrind."""
    if shutil.which("valgrind") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        _save(work, Path(folder))
        return {side: _count(side, Path(folder)) for side in SIDES}


def _save(work: Work, folder: Path) -> None:
    asked = [record for record in work.asked if len(record.response) > STEPS * STEP][:REQUESTS]
    parts: dict[str, Any] = {
        "stored": np.concatenate(list(work.texts(STORED)))[-STORED:],
        "prompts": np.stack([np.resize(record.prompt[-200:], 200) for record in asked]),
        "responses": np.stack([record.response[: STEPS * STEP] for record in asked]),
    }
    np.savez(folder / "work.npz", **parts)


def _count(side: str, folder: Path) -> dict[str, float]:
    out = folder / side
    out.mkdir()
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}/%p", "--quiet"]
    done = subprocess.run(
        [*valgrind, sys.executable, "-m", __spec__.name, side, str(folder / "work.npz")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    total, drafted = {}, 0
    for line in done.stdout.splitlines():
        name, process, tokens = line.split()
        total[name] = _total(out / process)
        drafted = max(drafted, int(tokens))
    return {
        "instructions_append": (total["stored"] - total["empty"]) / STORED,
        "instructions_draft": (total["twice"] - total["beside"]) / drafted,
        "instructions_drafted": drafted,
    }


def _total(path: Path) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(("summary:", "totals:")):
            return int(line.split()[1])
    raise SystemExit(f"{path.name} holds no totals; is this callgrind's output?")


def _drive(name: str, path: str) -> None:
    """The driver: what runs under valgrind."""
    with np.load(path) as file:
        stored, prompts, responses = file["stored"], file["prompts"], file["responses"]
    makers: dict[str, Callable[[], Any]] = {
        "recall": _recall,
        "suffix": SuffixSide,
        "arctic": PeerSide,
    }
    side = makers[name]()
    parts = [stored[at : at + 500] for at in range(0, STORED, 500)]
    _child("empty")
    for part in parts:
        side.add(part)
    _child("stored")
    for mode in ("twice", "beside"):
        if os.fork() == 0:
            drafted = sum(_decode(side, prompts, responses, 0 if mode == "beside" else NODES))
            _say(mode, drafted)
            os._exit(0)
        os.wait()


def _recall() -> RecallSide:
    return RecallSide(STORED + STORED // 50)


def _child(name: str) -> None:
    if os.fork() == 0:
        _say(name, 0)
        os._exit(0)
    os.wait()


def _say(name: str, tokens: int) -> None:
    os.write(1, f"{name} {os.getpid()} {tokens}\n".encode())


def _decode(
    side: RecallSide | SuffixSide | PeerSide, prompts: TokenIds, responses: TokenIds, second: int
) -> Iterator[int]:
    """Drafted tokens of every step; `second`: nodes of the draft beside."""
    for prompt, response in zip(prompts, responses, strict=True):
        request = side.open(prompt)
        for at in range(0, len(response), STEP):
            request.draft(second)
            yield size_of(request.draft(NODES))
            request.append(response[at : at + STEP])
        request.close()


if __name__ == "__main__":
    _drive(*sys.argv[1:])
