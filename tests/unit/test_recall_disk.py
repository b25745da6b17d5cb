"""A Recall file on disks that are full, and under others that cut, replace or lock it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from draftwood.decode import decode
from draftwood.draft import Budget, Draft
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import HistoryBusy, HistoryReplaced, HistoryTruncated
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.protocols import Feedback
from draftwood.targets.replay import ReplayTarget
from draftwood.verify.greedy import Greedy


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can only be mounted by root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_an_error_at_open_and_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught:
        Recall.open(small_disk / "h.recall", max_tokens=1_000_000)
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []


def test_a_file_has_all_of_its_disk_from_the_beginning(small_disk: Path) -> None:
    recall = Recall.open(small_disk / "h.recall", max_tokens=150_000)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb") as file:
        file.write(bytes(8 << 20))
    recall.add(np.arange(140_000))
    recall.flush()
    assert recall.written > 140_000


def test_a_sparse_file_gets_its_disk_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    Recall.open(path, max_tokens=4096).close()
    header, size = path.read_bytes()[:4096], path.stat().st_size
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)
    Recall.open(path).close()
    assert path.stat().st_blocks * 512 >= size


def test_the_clean_flag_tells_how_the_last_writer_ended(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    recall = Recall.open(path, max_tokens=4096)
    assert not Recall.open(path, write=False).clean  # somebody writes
    recall.add([1, 2, 3])
    recall.close()
    assert Recall.open(path, write=False).clean
    child = os.fork()
    if child == 0:
        killed = Recall.open(path)
        killed.add([4, 5])
        os._exit(9)  # as a kill would
    os.waitpid(child, 0)
    assert not Recall.open(path, write=False).clean
    recall = Recall.open(path)
    assert not recall.clean
    recall.close()
    assert Recall.open(path).clean


def test_a_file_that_was_cut_is_told_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    recall = Recall.open(path, max_tokens=4096)
    os.truncate(path, 8192)
    with pytest.raises(HistoryTruncated, match="was cut"):
        recall.add([1, 2, 3])
    with pytest.raises(HistoryTruncated):
        recall.flush()


@pytest.mark.parametrize("removed", [True, False])
def test_a_file_that_was_replaced_is_told(tmp_path: Path, removed: bool) -> None:
    path = tmp_path / "h.recall"
    recall = Recall.open(path, max_tokens=4096)
    if removed:
        path.unlink()
    else:
        path.rename(tmp_path / "old")
        Recall.open(path, max_tokens=4096).close()
    with pytest.raises(HistoryReplaced):
        recall.add([1, 2, 3])
    with pytest.raises(HistoryReplaced):
        recall.flush()


def test_readers_are_told_when_they_open_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    Recall.open(path, max_tokens=4096).close()
    reader = Recall.open(path, write=False)
    RecallStream(reader, [1]).close()
    os.truncate(path, 4096)
    with pytest.raises(HistoryTruncated):
        RecallStream(reader, [1])


def in_a_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


CUT = """
import os, sys
from draftwood.draft import Budget
from draftwood.errors import HistoryTruncated
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream, propose_all
path, size, write = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
recall = Recall.open(path, write=write)
streams = [RecallStream(recall, [1, 2, 3]) for _ in range(20)]
tokens = streams[0].propose(Budget(8)).tokens.tolist()
os.truncate(path, size)
calls = [lambda: streams[1].propose(Budget(8)), lambda: propose_all(streams, [Budget(8)] * 20)]
if write:
    calls += [streams[2].close, lambda: recall.add([1]), lambda: recall.remove(1), recall.flush]
for call in calls:
    try:
        call()
    except HistoryTruncated as error:
        print("told", "was cut" in str(error))
    else:
        print("not touched")
recall.close() if not write else None
print(tokens)
"""


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("size", [0, 4096, 12_288, 40_000])
def test_a_file_that_is_cut_between_two_looks_at_it_ends_no_process(
    tmp_path: Path, size: int, write: bool
) -> None:
    path = tmp_path / "h.recall"
    with closing(Recall.open(path, max_tokens=4096)) as recall:
        recall.add(np.arange(3000))
    done = in_a_process(CUT, path, size, write)
    assert (done.returncode, done.stderr) == (0, "")
    *told, tokens = done.stdout.splitlines()
    assert tokens == "[4, 5, 6, 7, 8, 9, 10, 11]"
    assert "told True" in told[:2]
    assert all(line == "told True" for line in told[2:] if line != "not touched")


RACE = """
import os, sys, time
import numpy as np
from draftwood.draft import Budget
from draftwood.errors import HistoryError
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
path, ids, told = sys.argv[1], np.arange(3000, dtype=np.int32), 0
child = os.fork()
if child == 0:
    for cut in range(10**9):
        try:
            os.truncate(path, 4096 * (cut % 12))
            os.unlink(path)
        except FileNotFoundError:
            time.sleep(1e-4)
end = time.monotonic() + 2.0
drafts = 0
while time.monotonic() < end:
    try:
        recall = Recall.open(path, max_tokens=4096)
        for at in range(0, 3000, 100):
            recall.add(ids[at : at + 100])
            stream = RecallStream(recall, ids[:4])
            for _ in range(4):
                drafts += len(stream.propose(Budget(8))) > 0
                stream.observe(ids[4:8])
            stream.close()
    except (HistoryError, FileNotFoundError):
        told += 1
os.kill(child, 9)
os.waitpid(child, 0)
print(told, drafts)
"""


def test_a_file_that_another_process_cuts_all_the_time_ends_no_process(tmp_path: Path) -> None:
    done = in_a_process(RACE, tmp_path / "h.recall")
    assert (done.returncode, done.stderr) == (0, "")
    told, drafts = map(int, done.stdout.split())
    assert told > 5
    assert drafts > 5


OTHERS = """
import faulthandler, mmap, os, sys
if sys.argv[3] == "before":
    faulthandler.enable()
from draftwood.index.recall import Recall
Recall.open(sys.argv[1], max_tokens=4096).close()
with open(sys.argv[2], "w+b") as file:
    file.write(bytes(8192))
    file.flush()
    mapped = mmap.mmap(file.fileno(), 8192)
    file.truncate(0)
if sys.argv[3] == "sent":
    os.kill(os.getpid(), 7)
print(mapped[5000])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the number of SIGBUS is Linux's")
@pytest.mark.parametrize("how", ["touched", "before", "sent"])
def test_other_mappings_that_are_cut_end_a_process_as_ever(tmp_path: Path, how: str) -> None:
    done = in_a_process(OTHERS, tmp_path / "h.recall", tmp_path / "other", how)
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "")
    assert ("Fatal Python error: Bus error" in done.stderr) == (how == "before")


def test_a_file_that_is_cut_costs_drafts_in_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    drafter = RecallDrafter(path=str(path), max_tokens=4096)
    drafter.recall.add(np.arange(1000))
    target = ReplayTarget(np.arange(2, 30))
    steps = []
    for step in decode(target, drafter, Greedy(), np.array([0, 1]), stop=target.stop()):
        steps.append(step)
        if len(steps) == 1:
            os.truncate(path, 4096)
    assert np.concatenate([step.tokens for step in steps]).tolist() == list(range(2, 30))
    assert len(steps[0].tokens) > 1


def test_a_lost_file_can_be_closed_and_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    recall = Recall.open(path, max_tokens=4096)
    path.unlink()
    with pytest.raises(HistoryReplaced):
        recall.close()
    again = Recall.open(path, max_tokens=4096)
    again.add([1, 2])
    again.close()


def test_a_header_that_is_changed_under_a_reader_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    recall = Recall.open(path, max_tokens=4096)
    recall.add([1, 2, 3, 4])
    with path.open("r+b") as file:  # file bytes and capacity
        file.seek(16)
        file.write(b"\xff" * 12)
    with closing(RecallStream(recall, [1, 2])) as stream:
        assert stream.propose(Budget(2)).tokens.tolist() == [3, 4]
    recall.add(np.arange(9000))
    assert recall.capacity == 4096


def test_a_lost_file_costs_drafts_in_the_stream_that_shares(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    drafter = RecallDrafter(path=str(path), max_tokens=4096, share=8)
    stream = drafter.open(np.array([1, 2, 3, 1, 2], dtype=np.int32))
    path.unlink()
    with pytest.raises(HistoryReplaced):  # the loop goes on without the drafter
        stream.observe(Feedback.of(Draft.empty(), np.arange(9, dtype=np.int32)))
    assert len(stream.propose(Budget(4))) >= 0


def test_busy_is_said_of_a_file_that_another_has_locked(tmp_path: Path) -> None:
    path = tmp_path / "h.recall"
    recall = Recall.open(path, max_tokens=4096)
    with pytest.raises(HistoryBusy, match="another process"):
        Recall.open(path)
    recall.close()
    Recall.open(path).close()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files without a name are Linux's")
def test_a_file_without_a_name_is_not_taken_for_a_removed_one() -> None:
    file = os.memfd_create("recall")
    recall = Recall.open(f"/proc/self/fd/{file}", max_tokens=4096)
    recall.add([1, 2, 3])
    recall.close()
    os.close(file)
