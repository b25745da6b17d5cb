"""`draftwood index`: build, info, merge, export, and one sentence for what goes wrong."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from tokenizers import Tokenizer, models, pre_tokenizers

from draftwood.cli.app import main
from draftwood.index.fingerprint import tokenizer_fingerprint
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.store import History

WORDS = {"SELECT": 0, "name": 1, "FROM": 2, "t": 3, "</s>": 4}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    made = Tokenizer(models.WordLevel(WORDS, unk_token="t"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["</s>"])
    made.save(str(folder / "tokenizer.json"))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["draftwood", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def jsonl(path: Path, *records: object) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def test_build_takes_responses_from_traces_of_text(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = jsonl(
        tmp_path / "trace.jsonl.gz",
        {"prompt": "name t", "response": "SELECT name FROM t", "session": "s1"},
        {"prompt": "t", "response": "name"},
    )
    out = tmp_path / "h.dw"
    code = run(
        monkeypatch, "index", "build", trace, "-o", out, "--tokenizer", tokenizer,
        "--namespace", "acme",
    )  # fmt: skip
    assert code == 0
    history = History.open(out, fingerprint=tokenizer_fingerprint(tokenizer))
    assert [tokens.tolist() for tokens in history] == [[0, 1, 2, 3, 4], [1, 4]]
    assert history.namespaces == ("acme",)
    assert history[0].metadata == {"source": "trace.jsonl.gz", "session": "s1"}


def test_build_takes_ids_and_texts(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = jsonl(tmp_path / "t.jsonl", {"prompt_tokens": [1], "response_tokens": [2, 4]})
    (tmp_path / "ids.tokens").write_text("0 1\n\n3,2\n")
    np.save(tmp_path / "array.npy", np.array([3, 3, 3]))
    (tmp_path / "query.sql").write_text("SELECT t")
    sources = [trace, *(tmp_path / name for name in ("ids.tokens", "array.npy", "query.sql"))]
    out = tmp_path / "h.dw"
    assert run(monkeypatch, "index", "build", *sources, "-o", out, "--tokenizer", tokenizer) == 0
    assert [tokens.tolist() for tokens in History.open(out)] == [
        [2, 4],
        [0, 1],
        [3, 2],
        [3, 3, 3],
        [0, 3],
    ]


def test_export_and_build_are_inverse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HistoryWriter(tmp_path / "a.dw") as out:
        out.add([1, 2], namespace="x", time=1.5, metadata={"k": "v"})
        out.add([])
    lines = tmp_path / "lines.jsonl"
    assert run(monkeypatch, "index", "export", tmp_path / "a.dw", "-o", lines) == 0
    assert run(monkeypatch, "index", "build", lines, "-o", tmp_path / "b.dw") == 0
    assert (tmp_path / "a.dw").read_bytes() == (tmp_path / "b.dw").read_bytes()


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_exported_histories_and_texts_may_be_compressed(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    compress = gzip.compress if ending == ".gz" else zstandard.ZstdCompressor().compress
    lines = tmp_path / f"lines.jsonl{ending}"
    lines.write_bytes(compress(b'{"tokens":[1]}\n') + compress(b'{"tokens":[1,2]}\n'))
    text = tmp_path / f"query.sql{ending}"
    text.write_bytes(compress(b"FROM t"))
    out = tmp_path / "h.dw"
    assert run(monkeypatch, "index", "build", lines, text, "-o", out, "--tokenizer", tokenizer) == 0
    assert [tokens.tolist() for tokens in History.open(out)] == [[1], [1, 2], [2, 3]]
    lines.write_bytes(compress(b'{"tokens":[1,2]}\n' * 99)[:-12])
    assert run(monkeypatch, "index", "build", lines, "-o", out) == 2


def test_info_tells_the_header_and_checks_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "h.dw"
    with HistoryWriter(path) as out:
        out.add([1, 2], namespace="x")
    assert run(monkeypatch, "index", "info", path) == 0
    told = capsys.readouterr().out
    assert "version 1.0" in told
    assert "1 sequences, 2 tokens, 1 namespace\n" in told
    assert "fingerprint unknown" in told
    assert run(monkeypatch, "index", "info", path, "--check", "--json") == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["tokens"] == 2
    assert fields["fingerprint"] is None
    assert fields["names"] == ["x"]
    path.write_bytes(path.read_bytes()[:4096] + b"\7" + path.read_bytes()[4097:])
    assert run(monkeypatch, "index", "info", path) == 0
    assert run(monkeypatch, "index", "info", path, "--check") == 2
    assert "TOKN does not match its checksum" in capsys.readouterr().err


def test_merge_joins_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        with HistoryWriter(tmp_path / name) as out:
            out.add([ord(name)])
    paths = [tmp_path / "a", tmp_path / "b"]
    assert run(monkeypatch, "index", "merge", *paths, "-o", tmp_path / "c") == 0
    assert [tokens.tolist() for tokens in History.open(tmp_path / "c")] == [[97], [98]]


def test_bad_lines_are_told_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "t.jsonl"
    trace.write_text('{"prompt": [1], "response": [2]}\nnonsense\n')
    assert run(monkeypatch, "index", "build", trace, "-o", tmp_path / "h.dw") == 2
    assert "t.jsonl:2: not JSON" in capsys.readouterr().err
    assert [tokens.tolist() for tokens in History.open(tmp_path / "h.dw")] == [[2]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.txt", b"SELECT", "--tokenizer"),
        ("text.jsonl", b'{"prompt": "a", "response": "b"}', "--tokenizer"),
        ("ids.tokens", b"1 2\nx\n", "ids.tokens:2"),
        ("ids.tokens", b"99999999999", "outside"),
        ("a.npy", b"no array", "flat array"),
        ("lines.jsonl", b'{"tokens": [-1]}', "lines.jsonl:1"),
        ("lines.jsonl", b'{"tokens": [1]}\n{"tokens": [1.5]}', "lines.jsonl:2"),
        ("lines.jsonl", b'{"tokens": [1], "metadata": [2]}', "no object"),
        ("t.jsonl.gz", b"not gzip", "t.jsonl.gz"),
    ],
)
def test_source_that_cannot_be_read_is_one_sentence_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    message: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    assert run(monkeypatch, "index", "build", tmp_path / name, "-o", tmp_path / "h.dw") == 2
    told = capsys.readouterr().err.strip()
    assert message in told
    assert "\n" not in told
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("command", ["build", "info", "merge", "export"])
def test_missing_files_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    output = ["-o", tmp_path / "h.dw"] if command in ("build", "merge") else []
    assert run(monkeypatch, "index", command, tmp_path / "none.jsonl", *output) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("draftwood: ")
    assert "none.jsonl" in told
    assert "No such file" in told
    assert list(tmp_path.iterdir()) == []
