"""What `draftwood index` writes over, and what it leaves alone."""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from draftwood.cli.app import main
from draftwood.errors import HistoryError, InvalidOption, NotAHistory, SourceError
from draftwood.index import source
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.output import replacing
from draftwood.index.recall import Recall
from draftwood.index.store import History, HistoryInfo


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["draftwood", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def history(path: Path, *sequences: list[int]) -> Path:
    with HistoryWriter(path) as out:
        for tokens in sequences:
            out.add(tokens)
    return path


def log(path: Path, *responses: list[int]) -> Path:
    lines = (json.dumps({"prompt": [1], "response": each}) for each in responses)
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("alias", ["same", "hard", "soft"])
@pytest.mark.parametrize("command", ["build", "merge", "export"])
def test_no_command_writes_over_an_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    alias: str,
) -> None:
    if command == "build":
        given = log(tmp_path / "in.jsonl", [1, 2])
    else:
        given = history(tmp_path / "in.dw", [1, 2])
    output = given if alias == "same" else tmp_path / "other"
    if alias == "hard":
        output.hardlink_to(given)
    elif alias == "soft":
        output.symlink_to(given)
    before = given.read_bytes()
    assert run(monkeypatch, "index", command, given, "-o", output) == 2
    told = capsys.readouterr().err.strip()
    assert "is an input as well" in told
    assert "\n" not in told
    assert given.read_bytes() == before


def test_a_log_that_cannot_be_read_does_not_replace_a_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = history(tmp_path / "h.dw", [1, 2, 3])
    before = good.read_bytes()
    for content in ("", "nonsense\n", '{"prompt": [1], "response": []}\n'):
        (tmp_path / "log.jsonl").write_text(content)
        assert run(monkeypatch, "index", "build", tmp_path / "log.jsonl", "-o", good) == 2
        assert "is left as it was" in capsys.readouterr().err
        assert good.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["h.dw", "log.jsonl"]


def test_a_log_that_is_read_in_part_replaces_a_history_only_when_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = history(tmp_path / "h.dw", [1, 2, 3])
    trace = tmp_path / "log.jsonl"
    trace.write_text('{"prompt": [1], "response": [7]}\nnonsense\n')
    assert run(monkeypatch, "index", "build", trace, "-o", good) == 2
    assert "--partial" in capsys.readouterr().err
    assert [tokens.tolist() for tokens in History.open(good)] == [[1, 2, 3]]
    assert run(monkeypatch, "index", "build", trace, "-o", good, "--partial") == 2
    assert [tokens.tolist() for tokens in History.open(good)] == [[7]]


def test_a_merge_of_nothing_does_not_replace_a_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, empty = history(tmp_path / "h.dw", [1]), history(tmp_path / "empty.dw")
    assert run(monkeypatch, "index", "merge", empty, "-o", good) == 2
    assert len(History.open(good)) == 1


@pytest.mark.parametrize("command", ["build", "merge"])
def test_a_file_that_is_no_history_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    given = log(tmp_path / "in.jsonl", [1]) if command == "build" else history(tmp_path / "a", [1])
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    assert run(monkeypatch, "index", command, given, "-o", notes) == 2
    assert notes.read_text() == "mine"


def test_an_export_does_not_replace_a_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = history(tmp_path / "a.dw", [1]), history(tmp_path / "b.dw", [2])
    assert run(monkeypatch, "index", "export", one, "-o", other) == 2
    assert [tokens.tolist() for tokens in History.open(other)] == [[2]]


def test_an_export_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as file:
            file.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["lines.jsonl"]


def test_files_take_the_mode_of_those_they_replace_and_new_ones_are_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    path = history(tmp_path / "h.dw", [1])
    assert mode(path) == 0o600
    path.chmod(0o640)
    history(path, [2])
    assert mode(path) == 0o640
    lines = tmp_path / "lines.jsonl"
    assert run(monkeypatch, "index", "export", path, "-o", lines) == 0
    assert mode(lines) == 0o600
    assert run(monkeypatch, "index", "export", path, "-o", lines) == 0


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    history(tmp_path / "real.dw", [1])
    link = tmp_path / "link.dw"
    link.symlink_to("real.dw")
    history(link, [2])
    assert link.is_symlink()
    assert [tokens.tolist() for tokens in History.open(tmp_path / "real.dw")] == [[2]]


def test_what_dead_writers_left_goes_and_what_living_ones_write_stays(tmp_path: Path) -> None:
    path = tmp_path / "h.dw"
    child = os.fork()
    if child == 0:
        writer = HistoryWriter(path)
        writer.add([1])
        os._exit(9)  # as a kill would: nothing is cleaned up
    os.waitpid(child, 0)
    assert len(list(tmp_path.glob(".h.dw.*.writing"))) == 1
    mine, other = tmp_path / ".h.dw.notes.writing", tmp_path / ".x.dw.0123456789abcdef.writing"
    mine.touch()
    other.touch()
    first = HistoryWriter(path)
    second = HistoryWriter(path)
    second.add([2])
    second.finish()
    first.add([3])
    first.finish()
    assert [tokens.tolist() for tokens in History.open(path)] == [[3]]
    assert {each.name for each in tmp_path.iterdir()} == {path.name, mine.name, other.name}


def test_arbitrary_files_are_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("README.md", "README", "h.dw", "notes.md.gz", "picture.png"):
        (tmp_path / name).write_bytes(b"Some words.")
        assert run(monkeypatch, "index", "build", tmp_path / name, "-o", tmp_path / "o.dw") == 2
        told = capsys.readouterr().err.strip()
        assert ".jsonl" in told
        assert ".tokens" in told
        assert "\n" not in told
        assert not (tmp_path / "o.dw").exists()


@pytest.mark.parametrize("name", ["pipe.jsonl", "pipe.txt", "folder.jsonl"])
def test_pipes_and_folders_are_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    os.mkfifo(path) if name.startswith("pipe") else path.mkdir()
    with pytest.raises(SourceError):
        source.require_file(path)
    assert run(monkeypatch, "index", "build", path, "-o", tmp_path / "o.dw") == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda path: HistoryWriter(path),
        lambda path: History.open(path),
        lambda path: HistoryInfo.read(path),
        lambda path: Recall.open(path),
        lambda path: Recall.open(path, write=False),
    ],
    ids=["write", "open", "info", "recall", "recall-read"],
)
class TestPaths:
    def test_a_zero_byte_is_one_error_and_makes_no_file(self, tmp_path: Path, call) -> None:
        with pytest.raises(InvalidOption, match="zero byte"):
            call(f"{tmp_path}/a\0b")
        assert list(tmp_path.iterdir()) == []

    def test_an_empty_path_is_one_error(self, call) -> None:
        with pytest.raises(InvalidOption, match="empty"):
            call("")

    def test_a_folder_is_an_os_error(self, tmp_path: Path, call) -> None:
        with pytest.raises(IsADirectoryError):
            call(tmp_path)

    def test_a_pipe_is_refused_at_once(self, tmp_path: Path, call) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises((OSError, NotAHistory)):
            call(tmp_path / "pipe")
        assert [each.name for each in tmp_path.iterdir()] == ["pipe"]

    def test_a_name_need_not_be_utf8(self, tmp_path: Path, call) -> None:
        path = os.fsdecode(bytes(tmp_path) + b"/\xff\xfe.dw")
        with suppress(FileNotFoundError):  # who reads finds nothing
            call(path)
        Path(path).touch()
        with suppress(HistoryError):  # who reads finds no history
            call(path)
