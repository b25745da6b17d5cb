"""Docstrings are read by tools, too: an entry of `Raises:` begins with the names of exceptions."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src" / "draftwood"
NAME = r"[A-Za-z_][\w.]*"
ENTRY = re.compile(rf"^{NAME}(, {NAME})*: \S")
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
    """Entries that do not begin with exceptions by name, a colon and when they are raised."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED))
    entries = (entry for node in nodes for entry in raised(ast.get_docstring(node) or ""))
    return [entry for entry in entries if not ENTRY.match(entry)]


def test_each_entry_names_what_is_raised_on_its_first_line() -> None:
    files = sorted(SRC.rglob("*.py"))
    found = {path.relative_to(SRC).as_posix(): wrong(path.read_text()) for path in files}
    bad = {name: entries for name, entries in found.items() if entries}
    assert files
    assert not bad


def test_names_over_two_lines_and_remarks_among_names_are_found() -> None:
    doc = "A.\n\nRaises:\n    A, B: x.\n    c.D: y,\n        and z.\n    E, F,\n    G (often): v.\n"
    assert wrong(f'"""{doc}"""\n') == ["E, F,", "G (often): v."]
