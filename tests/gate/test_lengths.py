"""Files are one noun each, and short: what is longer than a few screens is split, or named here."""

from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
LIMIT = 350
ROOMS = ("src/draftwood", "benchmarks", "examples")
LONGER = {
    "src/draftwood/testing/twins/recall.py": "follows the native file, call by call",
    "src/draftwood/testing/twins/prediction.py": "follows the native file, call by call",
}
"""Files beyond the limit, each with the reason; tests and native code are not held to it."""


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_is_longer_than_a_few_screens(room: str) -> None:
    found = {path.relative_to(REPO).as_posix(): path for path in (REPO / room).rglob("*.py")}
    assert found
    longer = {name: lines_of(path) for name, path in found.items() if lines_of(path) > LIMIT}
    unnamed = {name: count for name, count in longer.items() if name not in LONGER}
    assert not unnamed, f"more than {LIMIT} lines; split them by noun: {unnamed}"


@pytest.mark.parametrize("name", LONGER)
def test_whoever_is_named_is_there(name: str) -> None:
    assert (REPO / name).is_file()
