"""A Recall file on disks that are full, and under others that cut, replace or lock it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from draftwood.draft import Budget, Draft
from draftwood.drafters.recall import RecallDrafter
from draftwood.errors import HistoryBusy, HistoryReplaced, HistoryTruncated
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.protocols import Feedback


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
        assert stream.propose(2).tokens.tolist() == [3, 4]
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
