"""Docstrings are read by tools, too: what a function raises stands one exception a line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src" / "draftwood"
ENTRY = re.compile(r"^[A-Za-z][A-Za-z.]*: \S")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def raised(docstring: str) -> Iterator[str]:
    """The entries of a docstring's `Raises:` section, each by its first line."""
    lines = iter(docstring.splitlines())
    for line in lines:
        if line.strip() == "Raises:":
            for entry in lines:
                if entry.strip() and indent(entry) <= indent(line):
                    break
                if entry.strip() and indent(entry) == indent(line) + 4:
                    yield entry.strip()


def wrong(source: str) -> list[str]:
    """Entries that are not one exception, a colon and when it is raised."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED))
    entries = (entry for node in nodes for entry in raised(ast.get_docstring(node) or ""))
    return [entry for entry in entries if not ENTRY.match(entry)]


def test_each_exception_has_a_line_of_its_own() -> None:
    files = sorted(SRC.rglob("*.py"))
    found = {path.relative_to(SRC).as_posix(): wrong(path.read_text()) for path in files}
    bad = {name: entries for name, entries in found.items() if entries}
    assert files
    assert not bad


def test_entries_of_two_names_or_two_lines_are_found() -> None:
    two = '"""A.\n\nRaises:\n    A, B: x.\n    C: y,\n        and z.\n    D when\n    E: v.\n"""\n'
    assert wrong(two) == ["A, B: x.", "D when"]
