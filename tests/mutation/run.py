"""Seed known faults, one at a time, and see that the tests notice each.

    python tests/mutation/run.py                  all Python faults
    python tests/mutation/run.py --changed main   those in files that differ from a revision
    python tests/mutation/run.py --all            native ones, too (each builds the library)
    python tests/mutation/run.py --only tau       those whose name holds a word

Each fault is put into a scratch copy of the tree, never into the tree itself. Exit code 1 where
the tests that are named for a fault still pass.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]

PYTEST = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__name__.startswith("ScikitBuild")]
sys.path.insert(0, sys.argv[1])
import pytest
options = ["-q", "-x", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
sys.exit(pytest.main([*options, *sys.argv[2:]]))
"""
"""Runs tests against the scratch copy, in one process.

The finder of an editable installation would win over it, and does in workers of pytest-xdist.
"""


def main() -> int:
    """Run the faults that are asked for; 1 where one survives."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--changed", metavar="REV", help="only files that differ from REV")
    parser.add_argument("--all", action="store_true", help="native faults, too")
    parser.add_argument("--only", default="", help="only names that hold this word")
    asked = parser.parse_args()
    faults = [fault for fault in FAULTS if asked.only in fault.name]
    if not asked.all:
        faults = [fault for fault in faults if not fault.native]
    if asked.changed:
        command = ["git", "diff", "--name-only", asked.changed]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        changed = set(listed.stdout.split())
        faults = [fault for fault in faults if fault.file in changed]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutation-") as scratch:
        copy = copy_tree(Path(scratch))
        for fault in faults:
            killed = is_killed(fault, copy)
            print(f"{'killed  ' if killed else 'SURVIVES'}  {fault.file}: {fault.name}", flush=True)
            if not killed:
                survivors.append(fault)
    print(f"{len(faults) - len(survivors)} of {len(faults)} faults are noticed")
    return 1 if survivors else 0


def copy_tree(scratch: Path) -> Path:
    """The tracked files of the tree and the native library, under `scratch`."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        source = ROOT / name
        if source.is_file():
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    native = importlib.util.find_spec("draftwood._native")
    assert native is not None
    assert native.origin is not None
    shutil.copy(native.origin, scratch / "src" / "draftwood")
    return scratch


def is_killed(fault: Fault, copy: Path) -> bool:
    """Whether the fault's tests fail with it."""
    file = copy / fault.file
    text = file.read_text()
    file.write_text(fault.applied(text))
    try:
        if fault.native:
            build(copy)
        command = [sys.executable, "-c", PYTEST, str(copy / "src"), *fault.tests]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"the tests of {fault.name!r} did not run:\n{done.stdout[-3000:]}")
        return done.returncode == 1
    finally:
        file.write_text(text)
        if fault.native:
            build(copy)


def build(copy: Path) -> None:
    """Build the native library of the copy, and put it where the copy's package is."""
    wheels = copy / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", str(wheels), str(copy)], check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    shutil.unpack_archive(wheel, wheels / "all", "zip")
    for library in (wheels / "all" / "draftwood").glob("_native*.so"):
        shutil.copy(library, copy / "src" / "draftwood")


if __name__ == "__main__":
    sys.exit(main())
