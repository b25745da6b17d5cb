"""One name means one thing: no two modules define public classes or functions of the same name."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src" / "draftwood"
MIRRORS = ("testing/twins/",)
"""Slow twins of native structures bear the names of what they are compared with."""
COMMANDS = ("cli/",)
"""A command's function bears the name of the command."""
ENTRY = {"main"}
"""What a module does as a script."""


def public_definitions(path: Path) -> Iterator[str]:
    """Names of the classes and functions that a module defines at its top level."""
    for node in ast.parse(path.read_text()).body:
        named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if named and not node.name.startswith("_") and node.name not in ENTRY:
            yield node.name


def test_no_two_modules_define_one_public_name() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in sorted(SRC.rglob("*.py")):
        module = path.relative_to(SRC).as_posix()
        if not module.startswith(MIRRORS + COMMANDS):
            for name in public_definitions(path):
                homes[name].append(module)
    shared = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert not shared, f"give each its own name: {shared}"
