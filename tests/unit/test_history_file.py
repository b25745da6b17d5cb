"""History files: what is written is read back, and what is wrong is told by name."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from draftwood.errors import (
    HistoryCorrupt,
    HistoryError,
    HistoryMalformed,
    HistoryTooNew,
    HistoryTruncated,
    InvalidOption,
    InvalidTokens,
    NotAHistory,
    TokenizerMismatch,
)
from draftwood.index.history_writer import HistoryWriter, merge
from draftwood.index.store import History, HistoryInfo, export

GOLDEN = Path(__file__).parents[1] / "golden" / "history"
FINGERPRINT = bytes(range(32))


def write(path: Path, *sequences: list[int], fingerprint: bytes | None = None) -> Path:
    with HistoryWriter(path, fingerprint=fingerprint) as out:
        for tokens in sequences:
            out.add(tokens)
    return path


def test_sequences_come_back_with_what_is_known_about_them(tmp_path: Path) -> None:
    path = tmp_path / "history.dw"
    with HistoryWriter(path, fingerprint=FINGERPRINT) as out:
        out.add([3, 1, 4], namespace="a", time=1.5, metadata={"model": "ü"})
        out.add([])
        out.add(np.array([1, 5], dtype=np.int64), namespace="a")
        assert (out.sequences, out.tokens) == (3, 5)
    history = History.open(path, fingerprint=FINGERPRINT)
    assert [tokens.tolist() for tokens in history] == [[3, 1, 4], [], [1, 5]]
    first, last = history[0], history[-1]
    assert (first.namespace, first.time, first.metadata) == ("a", 1.5, {"model": "ü"})
    assert (last.namespace, last.time, last.metadata) == ("a", None, {})
    assert history.namespaces == ("a", "")
    assert [entry.tokens.tolist() for entry in history.entries(namespace="")] == [[]]
    assert len(history) == history.info.sequences == 3
    with pytest.raises(IndexError):
        history[3]


def test_arrays_stand_in_the_mapping_and_outlive_the_history(tmp_path: Path) -> None:
    tokens = History.open(write(tmp_path / "h", [7, 8], [9])).tokens
    assert tokens.tolist() == [7, 8, -1, 9, -1]
    assert tokens.dtype == np.int32
    assert not tokens.flags.owndata
    assert tokens.ctypes.data % 4096 == 0
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 1


def test_header_alone_tells_what_a_file_is(tmp_path: Path) -> None:
    path = write(tmp_path / "h", [4, 2], [9], fingerprint=FINGERPRINT)
    info = HistoryInfo.read(path)
    assert info == History.open(path).info
    assert (info.version, info.sequences, info.tokens, info.namespaces) == ((1, 0), 2, 3, 1)
    assert (info.token_limit, info.fingerprint) == (10, FINGERPRINT)
    assert info.file_bytes == path.stat().st_size
    with path.open("r+b") as file:  # damage behind the header is for open() to find
        file.seek(4096)
        file.write(b"\xff")
    assert HistoryInfo.read(path) == info
    with pytest.raises(HistoryCorrupt, match="TOKN"):
        History.open(path)
    assert len(History.open(path, check_tokens=False)) == 2


def test_block_that_raises_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = write(tmp_path / "h", [1])
    with pytest.raises(InvalidTokens), HistoryWriter(path) as out:
        out.add([-1])
    assert [tokens.tolist() for tokens in History.open(path)] == [[1]]
    assert os.listdir(tmp_path) == ["h"]


def test_writer_killed_at_any_point_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "h", [1])
    script = (
        "import os, sys; from draftwood.index.history_writer import HistoryWriter\n"
        "out = HistoryWriter(sys.argv[1]); out.add(range(1_000_000)); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    assert [tokens.tolist() for tokens in History.open(path)] == [[1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"namespace": "n" * 1025}, "1025 bytes"),
        ({"namespace": "\ud800"}, "no UTF-8 form"),
        ({"metadata": {"text": "x" * 65536}}, "at most 65536"),
        ({"metadata": {"value": {1}}}, "not JSON"),
        ({"metadata": {"value": float("nan")}}, "not JSON"),
        ({"time": float("inf")}, "time inf"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_writer_goes_on(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with HistoryWriter(tmp_path / "h") as out:
        with pytest.raises(InvalidOption, match=message):
            out.add([1], **arguments)  # type: ignore[arg-type]
        out.add([2])
    assert [tokens.tolist() for tokens in History.open(tmp_path / "h")] == [[2]]


def test_files_that_cannot_be_opened_are_os_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        History.open(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        HistoryInfo.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        HistoryWriter(tmp_path / "missing" / "h")


def test_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAHistory, match="not a regular file"):
        History.open(tmp_path / "pipe")


def test_other_tokenizers_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "h", [1], fingerprint=FINGERPRINT)
    with pytest.raises(TokenizerMismatch, match="00010203"):
        History.open(path, fingerprint=bytes(reversed(FINGERPRINT)))
    unknown = write(tmp_path / "u", [1])
    with pytest.raises(TokenizerMismatch, match="unknown"):
        History.open(unknown, fingerprint=FINGERPRINT)


def test_metadata_that_is_no_object_is_told_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "h"
    out = HistoryWriter(path)
    for text in (b"[1]", b"{", b"[" * 60_000):
        out._add(np.empty(0, dtype=np.int32), b"", 0, text)
    out.finish()
    history = History.open(path)
    for i in range(3):
        with pytest.raises(HistoryMalformed, match=f"sequence {i}"):
            history[i]


def test_merge_keeps_order_namespaces_times_and_metadata(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path / "a") as out:
        out.add([1], namespace="x", time=5.0)
        out.add([2])
    with HistoryWriter(tmp_path / "b") as out:
        out.add([3], metadata={"k": 1})
        out.add([4], namespace="x")
    info = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "a")
    history = History.open(tmp_path / "a")
    assert info == history.info
    assert [(e.tokens.tolist(), e.namespace) for e in history.entries()] == [
        ([1], "x"),
        ([2], ""),
        ([3], ""),
        ([4], "x"),
    ]
    assert (history[0].time, history[2].metadata) == (5.0, {"k": 1})


@pytest.mark.parametrize("output", ["a", "b", "link to b"])
def test_a_merge_that_fails_leaves_its_inputs_as_they_were(tmp_path: Path, output: str) -> None:
    write(tmp_path / "a", *([n] for n in range(1024)))
    write(tmp_path / "b", [7])
    (tmp_path / "link to b").symlink_to(tmp_path / "b")
    inputs = [tmp_path / "a", tmp_path / "b"]
    before = [path.read_bytes() for path in inputs]

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(inputs, tmp_path / output, progress=stop)
    assert [path.read_bytes() for path in inputs] == before
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "link to b"]
    assert merge(inputs, tmp_path / output).sequences == 1025
    assert len(History.open(tmp_path / output)) == 1025


def test_merge_refuses_files_of_different_tokenizers(tmp_path: Path) -> None:
    write(tmp_path / "a", [1], fingerprint=FINGERPRINT)
    write(tmp_path / "b", [1])
    with pytest.raises(TokenizerMismatch, match="one tokenizer"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    with pytest.raises(InvalidOption, match="at least 1"):
        merge([], tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_golden_file_of_each_version_reads_as_it_was_written() -> None:
    history = History.open(GOLDEN / "v1.0.dw", fingerprint=FINGERPRINT)
    lines = io.StringIO()
    assert export(history, lines) == 4
    assert lines.getvalue() == (GOLDEN / "v1.0.jsonl").read_text(encoding="utf-8")
    assert len(History.open(GOLDEN / "v1.0-empty.dw")) == 0


def test_writer_gives_the_golden_file_byte_for_byte(tmp_path: Path) -> None:
    with HistoryWriter(tmp_path / "h", fingerprint=FINGERPRINT) as out:
        for line in (GOLDEN / "v1.0.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            out.add(entry.pop("tokens"), **entry)
    assert (tmp_path / "h").read_bytes() == (GOLDEN / "v1.0.dw").read_bytes()


def test_files_from_the_future_are_read_as_far_as_the_format_promises() -> None:
    minor = History.open(GOLDEN / "v1.9-optional-section.dw")
    assert minor.info.version == (1, 9)
    assert [len(tokens) for tokens in minor] == [4, 0, 3, 1]
    with pytest.raises(HistoryTooNew, match="XTRA"):
        History.open(GOLDEN / "v1.9-required-section.dw")
    for read in (History.open, HistoryInfo.read):
        with pytest.raises(HistoryTooNew, match=r"2\.0"):
            read(GOLDEN / "v2.0.dw")


def test_every_damaged_byte_of_the_golden_file_has_a_named_error(tmp_path: Path) -> None:
    good = (GOLDEN / "v1.0.dw").read_bytes()
    path = tmp_path / "h"
    for at in [*range(400), *range(4090, len(good))]:
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(HistoryError, match=str(path)):
            History.open(path)
        path.write_bytes(good[:at])
        with pytest.raises(NotAHistory if at < 8 else HistoryTruncated):
            History.open(path)
