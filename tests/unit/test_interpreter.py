"""Native calls and the interpreter: Ctrl-C in long ones, and its end while threads are in them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from draftwood import _native
from draftwood.draft import Budget
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.index.suffix_tree import SuffixPolicy, SuffixTree

EXIT = """
import threading, numpy as np
from draftwood.draft import Budget
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.index.suffix_tree import SuffixTree
ids = np.random.default_rng(1).integers(0, 50, 30_000).astype(np.int32)
def work(seed):
    recall, tree = Recall(1 << 16), SuffixTree(16)
    while True:
        recall.add(ids)
        tree.finish(tree.begin(ids[:300]))
        stream = RecallStream(recall, ids[:100])
        for _ in range(20):
            stream.propose(Budget(32))
for seed in range(4):
    threading.Thread(target=work, args=(seed,), daemon=True).start()
import time
time.sleep(0.2)
keep = [[] for _ in range(400_000)]  # takes a while to end, and threads come back meanwhile
"""


HELD = """
import time, {module} as threads
from draftwood.index.recall import Recall
started = []
def hold():
    recall = Recall(1024)
    started.append(recall.capacity)
    time.sleep(1000)
{start}
while not started:
    time.sleep(0.01)
"""
STARTS = {
    "threading": "threads.Thread(target=hold, daemon=True).start()",
    "_thread": "threads.start_new_thread(hold, ())",
}


def ended(script: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_the_interpreter_ends_well_while_threads_are_in_native_calls() -> None:
    for _ in range(3):
        assert ended(EXIT) == (0, "")


@pytest.mark.parametrize("module", STARTS)
def test_the_interpreter_ends_quietly_while_a_thread_holds_a_native_object(module: str) -> None:
    assert ended(HELD.format(module=module, start=STARTS[module])) == (0, "")


class Interrupted(Exception):
    """What the handler raises here instead of KeyboardInterrupt."""


SIGNALS = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}


def interrupted(call: Callable[[], object], timer: int = signal.ITIMER_PROF) -> None:
    """`call`, which takes much longer, gets a signal when 20 ms of processor time have passed.

    timer: ITIMER_REAL for a call that gives its processor away again and again: the other timer is
    looked at by a clock whose ticks such a call may miss.
    """

    def handle(*_: object) -> None:
        raise Interrupted

    def come_to_the_end() -> None:
        signal.setitimer(timer, 0.02)
        call()
        raise AssertionError("the call came to its end")

    before = signal.signal(SIGNALS[timer], handle)
    try:
        with pytest.raises(Interrupted):
            come_to_the_end()
    finally:
        signal.setitimer(timer, 0)
        signal.signal(SIGNALS[timer], before)


IDS = np.random.default_rng(5).integers(0, 30_000, 400_000).astype(np.int32)


def test_ctrl_c_ends_a_long_add_to_a_suffix_tree() -> None:
    tree, text = SuffixTree(64), np.tile(IDS, 5)
    sequence = tree.native.begin()
    interrupted(lambda: tree.native.extend(sequence, text))
    assert tree.tokens < len(text)


def test_ctrl_c_ends_a_long_prompt() -> None:
    tree, text = _native.SuffixTree(64), np.tile(IDS, 5)
    policy = SuffixPolicy().native()
    interrupted(lambda: _native.SuffixStream(tree, text, policy, []))
    assert tree.sequences == 0


def test_ctrl_c_ends_a_long_add_to_recall() -> None:
    recall, text = Recall(1 << 20), np.tile(IDS, 50)
    sequence = recall.native.begin()
    interrupted(lambda: recall.native.add(sequence, 0, IDS[:0], text))
    assert recall.written < len(text)


def request(prompt: np.ndarray) -> _native.RecallRequest:
    recall = _native.Recall(1 << 10)
    options = {"name": 0, "chain": False, "floor": 0.0, "share": 256, "predictions": []}
    return _native.RecallRequest(recall, prompt, **options)


def test_ctrl_c_ends_a_long_prompt_to_recall() -> None:
    text = np.tile(IDS, 15)
    interrupted(lambda: request(text))


def test_ctrl_c_ends_a_long_move_of_a_request() -> None:
    asked, text = request(IDS[:4]), np.tile(IDS, 15)
    interrupted(lambda: asked.observe(text))
    assert asked.length < len(text)


def test_ctrl_c_ends_a_long_removal_which_can_be_repeated() -> None:
    recall = Recall(1 << 21)
    for _ in range(7):
        recall.add(IDS[:250_000])
    interrupted(lambda: recall.remove_namespace(""), signal.ITIMER_REAL)
    recall.remove_namespace("")
    with closing(RecallStream(recall, IDS[:2])) as stream:
        assert len(stream.propose(Budget(4))) == 0


def test_ctrl_c_ends_a_long_removal_from_a_suffix_tree() -> None:
    tree = SuffixTree(64)
    sequence = tree.begin(np.tile(IDS, 3))
    interrupted(lambda: tree.native.remove(sequence), signal.ITIMER_REAL)
    tree.native.remove(sequence)
    assert (tree.tokens, tree.native.check()) == (0, "")


def test_ctrl_c_ends_a_long_write_and_leaves_nothing(tmp_path: Path) -> None:
    writer, text = HistoryWriter(tmp_path / "h.dw"), np.tile(IDS, 200)
    interrupted(lambda: writer._writer.add(text, b"", _native.NO_TIME, b""))
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_check_of_a_large_file(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path / "h.dw") as out:
        out.add(np.tile(IDS, 200))
    path = bytes(tmp_path / "h.dw")
    interrupted(lambda: _native.History.open(path, True, None))


def test_a_text_added_by_slices_lies_in_recall_as_a_whole() -> None:
    whole, parts = Recall(4096), Recall(4096)
    text = IDS[:2000]
    whole.add(text)
    # 246: a margin of 256 slots, less the marks and the context
    native, first, context = parts.native, parts.native.begin(), IDS[:0]
    for part in np.split(text, range(246, 2000, 246)):
        native.add(first, 0, context, part)
        context = part
    assert whole.written == parts.written
