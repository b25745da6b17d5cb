"""Where the bundled models lie."""

from __future__ import annotations

from pathlib import Path

_MODELS = Path(__file__).parent / "model"


def target_path() -> Path:
    """The folder of the demo's target model, for `from_pretrained`."""
    return _MODELS / "target"


def drafter_path() -> Path:
    """The folder of the demo's small drafting model."""
    return _MODELS / "drafter"
