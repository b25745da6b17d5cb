"""One Recall file, a writer at full speed, eight readers, death: benchmarks/recall_stress/run.py.

`DRAFTWOOD_STRESS_SECONDS=60` makes each trial so long; the gate's are short.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "recall_stress" / "run.py"
SECONDS = os.environ.get("DRAFTWOOD_STRESS_SECONDS", "3")


@pytest.mark.parametrize("trial", ["processes", "threads", "kill"])
def test_no_draft_is_false_whatever_writes_removes_or_dies_meanwhile(trial):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), trial, "--seconds", SECONDS, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])[trial]
    faults = {name: figures[name] for name in ("torn", "stale", "leaked", "undead", "lost")}
    assert faults == dict.fromkeys(faults, 0)
    assert figures["wraps"] >= 3
    assert figures["shared"] >= 100
    assert trial != "kill" or figures["kills"] >= 5
