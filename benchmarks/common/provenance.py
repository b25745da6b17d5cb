"""Where a figure comes from: revision, versions, machine, date and command, for result files."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("draftwood", "numpy", "torch", "transformers", "tokenizers", "arctic-inference")
ROOT = Path(__file__).resolve().parents[2]
"""Of the repository."""
_NO_CODE = (":!benchmarks/*/results.*", ":!*.md")


def provenance() -> dict[str, Any]:
    """What belongs beside every published figure, ready for JSON.

    The command's script is told from the repository's root. Absolute paths in its arguments, also
    inside a drafter's spec, are cut to their last part: a machine's folders are nobody's business,
    and results should not differ by them.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([_script(sys.argv[0]), *map(_shortened, sys.argv[1:])]),
        "revision": _revision(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def shortened(spec: str) -> str:
    """A drafter's spec without the folders of this machine."""
    return re.sub(r"=/[^\s,;']*/", "=", spec)


def _shortened(argument: str) -> str:
    return Path(argument).name if os.path.isabs(argument) else shortened(argument)


def _script(path: str) -> str:
    full = Path(path).resolve()
    return str(full.relative_to(ROOT) if full.is_relative_to(ROOT) else full.name)


def _revision() -> str | None:
    """The source tree's commit, marked "-dirty" where code differs; None outside a checkout.

    Results are no code: several may be written from one commit, one after the other.
    """
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", *_NO_CODE)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
