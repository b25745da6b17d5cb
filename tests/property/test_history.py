"""History files under Hypothesis: any history comes back, any mutation is told."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftwood.errors import HistoryError
from draftwood.index.history_writer import HistoryWriter, merge
from draftwood.index.store import History

tokens = st.lists(st.integers(0, 2**31 - 1), max_size=40)
names = st.text(max_size=12)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
entries = st.fixed_dictionaries(
    {
        "tokens": tokens,
        "namespace": names,
        "time": st.none() | st.integers(-(2**40), 2**40).map(lambda t: t / 1000),
        "metadata": st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    }
)
histories = st.lists(entries, max_size=8)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write(path: Path, history: list[dict[str, Any]]) -> Path:
    with HistoryWriter(path) as out:
        for entry in history:
            out.add(
                entry["tokens"],
                namespace=entry["namespace"],
                time=entry["time"],
                metadata=entry["metadata"],
            )
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "tokens": entry.tokens.tolist(),
            "namespace": entry.namespace,
            "time": entry.time,
            "metadata": entry.metadata,
        }
        for entry in History.open(path).entries()
    ]


def encodable(history: list[dict[str, Any]]) -> bool:
    return "\\ud" not in ascii(history)


@given(histories.filter(encodable))
@settings(max_examples=50)  # each writes to disk and waits for it
def test_any_history_comes_back(folder: Path, history: list[dict[str, Any]]) -> None:
    assert read(write(folder / "a", history)) == history


@given(histories.filter(encodable), histories.filter(encodable))
@settings(max_examples=25)
def test_merging_is_concatenation(
    folder: Path, one: list[dict[str, Any]], other: list[dict[str, Any]]
) -> None:
    merge([write(folder / "a", one), write(folder / "b", other)], folder / "c")
    assert read(folder / "c") == one + other
    assert (folder / "c").read_bytes() == write(folder / "d", one + other).read_bytes()


@given(histories.filter(encodable), st.data())
@settings(max_examples=50)
def test_any_changed_byte_is_told(
    folder: Path, history: list[dict[str, Any]], data: st.DataObject
) -> None:
    good = write(folder / "a", history).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    change = data.draw(st.integers(1, 255))
    (folder / "a").write_bytes(good[:at] + bytes([good[at] ^ change]) + good[at + 1 :])
    with pytest.raises(HistoryError):
        History.open(folder / "a")
