"""Writers of both kinds of files, killed by SIGKILL at any moment, again and again.

    python benchmarks/kills/run.py [--kills 1000] [--json]

A child writes until it is killed, after up to `--milliseconds` of work: `recall` adds to a Recall
file, removes from it and flushes it; `history` replaces a history file by longer ones. After each
kill the parent does what a next process would do. It opens the file, which must hold all that was
there before, whole: a history's checksums and tokens are read through, and drafts of Recall must
follow the text's rule (each token says which one comes next). Then the next child begins, which
must not find the file locked.

Counted are kills and faults: files that did not open, lost something, drafted something else, were
locked, or called the end of a killed writer a good one; and how often a history's writer left an
unfinished file behind, which the next one removes. It ends with exit status 1 where there was a
fault.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from draftwood.draft import Budget, TokenIds
from draftwood.index.history import History
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream

PRIME = 4093  # tokens; each is followed by the one that `text` says
SLOTS = 1 << 14  # of a Recall file: its ring goes round while it is written


def text(first: int, tokens: int) -> TokenIds:
    """Each token is five times the one before, plus one, modulo a prime."""
    ids = [first % PRIME]
    while len(ids) < tokens:
        ids.append((5 * ids[-1] + 1) % PRIME)
    return np.array(ids, np.int32)


def write_recall(path: Path, begun: Callable[[], None]) -> None:
    """Add, remove and flush, until somebody ends this process."""
    with closing(Recall.open(path, max_tokens=SLOTS)) as recall:
        begun()
        number = recall.written
        while True:
            sequence = recall.add(text(number, 50 + number % 200), namespace=str(number % 3))
            if number % 5 == 0:
                recall.remove(sequence)
            if number % 7 == 0:
                recall.flush()
            number += 1


def check_recall(path: Path, before: int) -> int:
    """The tokens ever written, which are as many as before or more.

    Raises:
        AssertionError, DraftwoodError, OSError: where something is wrong.
    """
    with closing(Recall.open(path)) as recall:
        if recall.written < before:
            raise AssertionError(f"{recall.written} tokens were written, and {before} before")
        for first in range(0, PRIME, 401):
            context = text(first, 9)
            with closing(RecallStream(recall, context, namespace=str(first % 3))) as stream:
                draft = stream.propose(Budget(24))
                last = [int(context[-1]), *draft.tokens.tolist()]
                for token, parent in zip(
                    draft.tokens.tolist(), draft.parents.tolist(), strict=True
                ):
                    if token != (5 * last[parent + 1] + 1) % PRIME:
                        raise AssertionError(f"{last[parent + 1]} is followed by {token}")
                stream.abandon()
        if recall.clean and recall.written > before:
            raise AssertionError("the file says that a writer that was killed ended well")
        return recall.written


def write_history(path: Path, begun: Callable[[], None]) -> None:
    """Replace a history by one that has a sequence more, until somebody ends this process."""
    size = len(History.open(path)) if path.exists() else 0
    begun()
    while True:
        size += 1
        with HistoryWriter(path) as out:
            for number in range(size):
                out.add(text(number, 30 + number % 90), namespace=str(number % 3))


def check_history(path: Path, before: int) -> int:
    """The sequences of the history, which are as many as before or more.

    Raises:
        AssertionError, DraftwoodError, OSError: where something is wrong.
    """
    if not path.exists() and not before:
        return 0
    history = History.open(path)
    for number, entry in enumerate(history.entries()):
        if not np.array_equal(entry.tokens, text(number, 30 + number % 90)):
            raise AssertionError(f"sequence {number} is another one")
    if len(history) < before:
        raise AssertionError(f"{len(history)} sequences are there, {before} were")
    return len(history)


FORMATS = {"recall": (write_recall, check_recall), "history": (write_history, check_history)}


def kill_again_and_again(name: str, kills: int, milliseconds: float) -> dict[str, Any]:
    """One format's row."""
    write, check = FORMATS[name]
    chance, held, unfinished, faults = random.Random(0), 0, 0, 0
    with TemporaryDirectory(prefix="draftwood-kills-") as place:
        folder = Path(place)
        for _ in range(kills):
            child = _Child(lambda begun: write(folder / name, begun))
            if not child.begins():
                faults += 1
            time.sleep(chance.random() * milliseconds / 1000)
            child.kill()
            beside = [file for file in folder.iterdir() if file.name != name]
            unfinished += bool(beside)
            faults += len(beside) > 1
            try:
                held = check(folder / name, held)
            except Exception as error:
                faults += 1
                print(f"{name}: {type(error).__name__}: {error}", flush=True)
            if name == "history" and held > 200:  # begin anew, or each takes longer and longer
                (folder / name).unlink()
                held = 0
    return {"format": name, "kills": kills, "unfinished": unfinished, "faults": faults}


class _Child:
    """A process that works until it is killed."""

    def __init__(self, work: Callable[[Callable[[], None]], None]) -> None:
        self._reads, writes = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(writes)
            return
        try:
            work(lambda: _write(writes))
        finally:
            os._exit(1)

    def begins(self) -> bool:
        """Wait until it works; False where it ends instead."""
        return os.read(self._reads, 1) == b"b"

    def kill(self) -> None:
        """End it at once, whatever it does."""
        os.close(self._reads)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _write(pipe: int) -> None:
    os.write(pipe, b"b")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--kills", type=int, default=1000, help="of each format's writers")
    made.add_argument("--milliseconds", type=float, default=20, help="that a writer works at most")
    options = read(made, kills=12)
    rows = []
    for name in FORMATS:
        row = kill_again_and_again(name, options.kills, options.milliseconds)
        rows.append(row)
        print(
            f"{name:8} {row['kills']:6} kills, {row['unfinished']:6} files left unfinished, "
            f"{row['faults']:4} faults",
            flush=True,
        )
    require(not any(row["faults"] for row in rows), "no kill does harm")
    publish({"rows": rows}, options)


if __name__ == "__main__":
    main()
