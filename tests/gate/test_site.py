"""The documentation site builds, with broken links as errors."""

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


def test_the_site_builds_without_a_warning(tmp_path):
    for package in ("material", "mkdocstrings"):
        pytest.importorskip(package, reason="the docs extra brings mkdocs-material, mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--cost-curve" in (tmp_path / "commands/index.html").read_text("utf-8")
    assert "LanguageModel" in (tmp_path / "api/index.html").read_text("utf-8")
    assert "max_ngram=3" in (tmp_path / "which-drafter/index.html").read_text("utf-8")
