"""What a child of fork() does with its parent's indexes; it never waits for their locks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from draftwood.draft import Budget, Draft
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.errors import HistoryBusy, InvalidOption
from draftwood.fork import fork_lock
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.index.store import History
from draftwood.protocols import Feedback

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_child(work: Callable[[], None]) -> str:
    """What `work` says in a child: its error, or nothing. Fails if the child does not end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    killer = threading.Timer(30, os.kill, (child, 9))
    killer.start()
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    killer.cancel()
    assert status == 0, "the child hung or crashed"
    return said


def test_a_child_that_ends_leaves_its_parents_writer_alone(tmp_path: Path) -> None:
    script = f"""
import os, sys
from draftwood.index.history_writer import HistoryWriter
writer = HistoryWriter({str(tmp_path / "h.dw")!r})
writer.add([1, 2, 3])
if os.fork() == 0:
    sys.exit(0)
os.wait()
writer.add([4])
print(writer.finish().tokens)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "4\n"
    assert [tokens.tolist() for tokens in History.open(tmp_path / "h.dw")] == [[1, 2, 3], [4]]


def test_a_child_cannot_write_to_its_parents_writer(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "h.dw")
    writer.add([1])
    assert "parent process" in in_child(lambda: writer.add([2]))
    assert "parent process" in in_child(lambda: writer.finish() and None)
    assert in_child(writer.abandon) == ""
    assert writer.finish().tokens == 1


def test_a_child_reads_the_parents_recall_file_and_does_not_write_it(tmp_path: Path) -> None:
    recall = Recall.open(tmp_path / "h.recall", max_tokens=4096)
    recall.add([1, 2, 3, 4, 5])

    def work() -> None:
        assert not recall.writable
        before = recall.written
        with closing(RecallStream(recall, [1, 2])) as stream:
            assert stream.propose(Budget(3)).tokens.tolist() == [3, 4, 5]
            stream.observe(np.arange(600, dtype=np.int32))
        recall.flush()
        assert recall.written == before
        recall.add([9])

    assert in_child(work).startswith(InvalidOption.__name__)
    recall.add([6, 7])
    assert recall.writable


def test_memory_is_the_childs_own(tmp_path: Path) -> None:
    recall = Recall(4096)
    recall.add([1, 2, 3])
    written = recall.written

    def work() -> None:
        recall.add([1, 2, 4])
        assert recall.written > written

    assert in_child(work) == ""
    assert recall.written == written


def test_a_child_does_not_hold_the_lock_of_its_parents_file(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    recall = Recall.open(path, max_tokens=4096)
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(wait, 1)
        os._exit(0)
    try:
        assert "HistoryBusy" in in_child(lambda: Recall.open(path) and None)
        recall.close()
        Recall.open(path).close()  # the child lives, and has the file open no more
    finally:
        os.close(go)
        os.close(wait)
        os.waitpid(child, 0)
    first = Recall.open(path)
    with pytest.raises(HistoryBusy):
        Recall.open(path)
    first.close()


def test_a_lock_that_another_thread_holds_is_free_in_a_child() -> None:
    lock, held, done = fork_lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def work() -> None:
        assert lock.acquire(timeout=5)

    assert in_child(work) == ""
    assert lock.locked()
    done.set()
    thread.join()


def limited(threads: int) -> SuffixDrafter:
    return SuffixDrafter(threads=threads, max_tokens=2000, max_bytes=1 << 20)


@pytest.mark.parametrize("make", [SuffixDrafter, RecallDrafter, limited])
def test_a_child_made_while_threads_draft_drafts_on(
    make: Callable[..., SuffixDrafter | RecallDrafter],
) -> None:
    drafter = make(threads=2)
    stop = threading.Event()
    text = np.tile(np.arange(50, dtype=np.int32), 40)

    def feedback() -> Feedback:
        return Feedback.of(Draft.empty(), text[:400])

    def work() -> None:
        while not stop.is_set():
            streams = [drafter.open(text[:60]) for _ in range(16)]
            drafter.propose_all(streams, [Budget(8)] * 16)  # type: ignore[arg-type]
            drafter.observe_all(streams, [feedback()] * 16)  # type: ignore[arg-type]
            for stream in streams:
                stream.close()

    def child() -> None:
        streams = [drafter.open(text[:60]) for _ in range(16)]
        drafts = drafter.propose_all(streams, [Budget(8)] * 16)  # type: ignore[arg-type]
        assert all(len(draft) for draft in drafts)
        drafter.observe_all(streams, [feedback()] * 16)  # type: ignore[arg-type]
        for stream in streams:
            stream.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert [in_child(child) for _ in range(12)] == [""] * 12
    finally:
        stop.set()
        for thread in threads:
            thread.join()
