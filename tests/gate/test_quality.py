"""Lint, format, types and import directions, as parts of the test run: one command is the gate."""

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]

CHECKS = {
    "ruff check": [sys.executable, "-m", "ruff", "check", "."],
    "ruff format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "mypy --strict": [sys.executable, "-m", "mypy", "--strict", "src", "benchmarks"],
    "import-linter": [str(Path(sys.executable).parent / "lint-imports")],
}


@pytest.mark.parametrize("name", CHECKS)
def test_sources_pass(name: str) -> None:
    done = subprocess.run(CHECKS[name], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}:\n{done.stdout}{done.stderr}"


def test_the_committed_stub_is_what_the_build_generates() -> None:
    import draftwood._native as native

    installed = Path(native.__file__).parent / "_native.pyi"
    assert installed.read_text() == (REPO / "src/draftwood/_native.pyi").read_text()
