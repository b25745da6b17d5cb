"""What the pages name exists: files of this repository, and names of the package."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "draftwood"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md"])
ROOMS = "|".join(sorted(p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name[0] != "_"))
PATH = re.compile(
    rf"(?<![\w./-])((?:src|tests|benchmarks|docs|examples|native|{ROOMS})/[\w./-]*\w/?)(?![\w*])"
)
FILE = re.compile(r"`(\w+\.(?:py|h))`")
NAME = re.compile(r"`draftwood((?:\.\w+)+)`")


def _text(page: Path) -> str:
    """The page without code blocks, which have a test of their own, web links, and output files."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"https?://\S+|--out \S+", "", text)


def _stands(path: str) -> bool:
    """Whether there is such a file or folder, from the root or from the package's folder."""
    return any((base / path).exists() for base in (ROOT, PACKAGE, ROOT / "native"))


def _resolves(name: str) -> bool:
    """Whether `name` is a module, or attributes of one, below the package."""
    parts = ["draftwood", *name.strip(".").split(".")]
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    assert [path for path in PATH.findall(_text(page)) if not _stands(path)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_without_its_folder_exists(page: Path) -> None:
    known = {
        path.name
        for top in ("src", "native", "tests", "benchmarks", "examples")
        for path in (ROOT / top).rglob("*.*")
    }
    assert [name for name in FILE.findall(_text(page)) if name not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_the_package_that_a_page_names_exists(page: Path) -> None:
    assert [name for name in NAME.findall(_text(page)) if not _resolves(name)] == []


def test_a_name_that_does_not_exist_is_noticed() -> None:
    assert _stands("drafters/recall.py")
    assert not _stands("drafters/growth.py")
    assert _resolves(".drafters.catalog.make_drafter")
    assert not _resolves(".drafters.catalog.make_draftsman")
