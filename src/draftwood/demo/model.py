"""Where the bundled models lie."""

from __future__ import annotations

from pathlib import Path

from draftwood.bundled import BUNDLED


def target_path() -> Path:
    """The folder of the demo's target model, for `from_pretrained`."""
    return BUNDLED["demo"]


def drafter_path() -> Path:
    """The folder of the demo's small drafting model."""
    return BUNDLED["demo-small"]
