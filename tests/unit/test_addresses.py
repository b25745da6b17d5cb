"""Where users import the values of histories from, whichever file holds them."""

from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            "draftwood.index.recall",
            "Recall RecallPolicy RecallStream namespace_key propose_all observe_all",
        ),
        ("draftwood.index.store", "History HistoryInfo HistoryWriter Entry export merge"),
    ],
)
def test_names_stay_importable(module, names):
    assert set(names.split()) <= set(import_module(module).__all__)
    for name in names.split():
        assert getattr(import_module(module), name).__name__ == name
