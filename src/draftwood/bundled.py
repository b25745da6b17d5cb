"""The models that ship in the package, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MODELS = Path(__file__).parent / "demo" / "model"

BUNDLED: Final = {"demo": _MODELS / "target", "demo-small": _MODELS / "drafter"}
"""Name -> folder: the demo's target, and the small model that drafts for it."""


def bundled(name: str) -> str:
    """The folder of a bundled model; any other name or path as it is (`./demo` is a folder)."""
    return str(BUNDLED.get(name, name))
