"""The code that README and the docs show runs: Python blocks, and `draftwood` command lines.

A page's blocks run in order, Python ones in one namespace, in a folder of its own, offline. What a
reader puts in for a name such as PATH is the bundled model's here. A block that begins with
"```python needs NAME" runs where that package is installed, and one with "```python no-run" never;
there are to be few of both.
"""

import glob
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from draftwood.cli import app as command_line
from draftwood.demo.model import drafter_path, target_path
from draftwood.index.fingerprint import tokenizer_fingerprint
from draftwood.index.history_writer import HistoryWriter

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
MOST_NOT_RUN = 3

TOKENIZER = target_path() / "tokenizer.json"
PLACEHOLDERS = {
    "path/or/hub-id-of-a-small-model": drafter_path(),
    "path/or/hub-id": target_path(),
    "path/to/tokenizer.json": TOKENIZER,
    "PATH_OR_ID": target_path(),
    "TARGET": target_path(),
    "SMALL": drafter_path(),
    "PATH": TOKENIZER,
}


@dataclass(frozen=True)
class Block:
    """A fenced block. info: what follows the fence, such as "python"; line: its first one's."""

    info: str
    line: int
    text: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Block(found[1].strip(), text.count("\n", 0, found.start()) + 2, found[2])


def filled(text: str) -> str:
    """The text with what a reader puts in."""
    names = "|".join(map(re.escape, PLACEHOLDERS))
    return re.sub(rf"(?<![\w/])({names})(?![\w/])", lambda found: str(PLACEHOLDERS[found[0]]), text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    records = [{"prompt": "SELECT the", "response": "SELECT name FROM people"}] * 3
    lines = "\n".join(map(json.dumps, records))
    for name in ("trace.jsonl", "history.jsonl", "traces/one.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(lines)
    (tmp_path / "notes.txt").write_text("The names of people are in people.")
    (tmp_path / "curve.json").write_text('{"batches": {"1": [[0, 1], [16, 1.3]], "16": [[0, 2]]}}')
    for name in ("a.dw", "b.dw"):
        with HistoryWriter(tmp_path / name, fingerprint=tokenizer_fingerprint(TOKENIZER)) as out:
            out.add([1, 2, 3])
    return tmp_path


def commands(block: Block) -> Iterator[tuple[list[str], str]]:
    """The arguments of every `draftwood` command of a block, and the file for its output."""
    for line in block.text.replace("\\\n", " ").splitlines():
        command, _, into = filled(line).partition(" > ")
        words = shlex.split(command, comments=True)
        if words[:1] == ["draftwood"]:
            found = [sorted(glob.glob(word)) if "*" in word else [word] for word in words[1:]]
            yield [word for some in found for word in some], into.strip()


def draftwood(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["draftwood", *arguments])
    with pytest.raises(SystemExit) as left:
        command_line.main()
    return int(left.value.code or 0)


def is_at_hand(block: Block) -> bool:
    """Whether the package is installed that the block needs."""
    _, marked, package = block.info.partition("python needs ")
    return bool(marked) and find_spec(package) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page, folder, monkeypatch, capsys):
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.info == "python" or is_at_hand(block):
            exec(compile(filled(block.text), where, "exec"), names)
        elif block.info in ("bash", "console"):
            for arguments, into in commands(block):
                code = draftwood(arguments, monkeypatch)
                out, err = capsys.readouterr()
                assert code == 0, f"{where}: {arguments}\n{err}"
                if into:
                    (folder / into).write_text(out)


def test_few_blocks_are_marked_as_not_to_be_run():
    infos = [block.info for page in PAGES for block in blocks(page)]
    marked = [info for info in infos if re.fullmatch(r"python (no-run|needs \w+)", info)]
    never = infos.count("python no-run")
    print(f"{infos.count('python')} Python blocks run, {len(marked) - never} where a package is")
    shown = {"", "bash", "console", "json", "text", "sh", "ini", "dockerfile", "promql", "yaml"}
    assert set(infos) <= {"python", *shown, *marked}
    assert infos.count("python") >= 8
    assert never <= MOST_NOT_RUN
