"""Every benchmark runs: its `--smoke`, and the commands that README and the docs show."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
FOLDERS = sorted(
    folder
    for folder in (REPO / "benchmarks").iterdir()
    if folder.is_dir() and folder.name not in {"common", "__pycache__"}
)
PAGES = [REPO / "README.md", REPO / "benchmarks/README.md", *sorted((REPO / "docs").glob("*.md"))]
SECTIONS = dict(
    re.findall(
        r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGES[1].read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
)
"""By benchmark: what benchmarks/README.md says of it."""


def run(script: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *options],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_smoke_run_ends_with_the_documented_fields(folder):
    documented = SECTIONS[folder.name].partition("\nJSON: ")[2]
    fields = set(re.findall(r"`(\w+)`", documented))
    done = run(folder / "run.py", "--smoke", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert fields
    assert fields | {"provenance"} <= set(result)


def commands(page: Path) -> list[list[str]]:
    """The arguments after `python` of every benchmark command on a page."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    found = re.findall(r"python (benchmarks/[^`\n#]*)", text)
    return [shlex.split(command.replace("[", " ").replace("]", " ")) for command in found]


def mentioned(page: Path) -> list[str]:
    """Every path in benchmarks/ that a page names."""
    paths = re.findall(r"benchmarks/[\w./-]+", page.read_text("utf-8"))
    return [path.rstrip(".") for path in paths]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_what_a_page_names_in_benchmarks_is_there(page):
    missing = [path for path in mentioned(page) if not (REPO / path).exists()]
    assert missing == []


def options_of(script: str) -> set[str]:
    """The options that a script's parser is given, in the script or in `common`."""
    source = (REPO / script).read_text("utf-8")
    imported = re.findall(r"^from benchmarks\.common\.(\w+) import", source, re.MULTILINE)
    for names in re.findall(r"^from benchmarks\.common import ([\w, ]+)$", source, re.MULTILINE):
        imported += names.split(", ")
    modules = [REPO / f"benchmarks/common/{name}.py" for name in {"command", *imported}]
    sources = [source, *(module.read_text("utf-8") for module in modules)]
    found = re.findall(r'add_argument\(\s*"(--[\w-]+)"', "".join(sources))
    return set(found) - (set() if "traces=True" in source else {"--traces", "--tokenizer"})


def test_every_shown_command_has_options_that_its_script_knows():
    shown = [command for page in PAGES for command in commands(page)]
    unknown = [
        f"{script} {option}"
        for script, *arguments in shown
        for option in arguments
        if option.startswith("--") and option not in options_of(script)
    ]
    assert unknown == []
    assert {Path(script).parent.name for script, *_ in shown} == {each.name for each in FOLDERS}
