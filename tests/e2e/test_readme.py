"""What README says of its commands holds; tests/gate/test_docs.py runs the code of all pages."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from draftwood.cli import app as command_line

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

REPO = Path(__file__).parents[2]


def blocks(page: str, language: str, *, within: str = "") -> list[str]:
    """The code blocks of a page, or of one of its sections."""
    text = (REPO / page).read_text(encoding="utf-8")
    if within:
        text = text.partition(f"## {within}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_readmes_commands_build_a_history_that_saves_steps(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    lines = [
        line
        for block in blocks("README.md", "bash", within="Use it")
        for line in block.splitlines()
    ]
    commands = [line for line in lines if "demo" in line]
    assert len(commands) == 3
    steps = []
    for line in commands:
        command, _, into = line.partition(" > ")
        words = shlex.split(command, comments=True)
        if "generate" in words:
            words += ["--cost", "none"]  # so that the clock has no part in the number of steps
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            command_line.main()
        assert not left.value.code
        out, err = capsys.readouterr()
        if into:
            Path(into.strip()).write_text(out)
        steps += [int(found) for found in re.findall(r"tokens in (\d+) steps", err)]
    first, warm = steps
    assert warm < first
