"""No drafter accepts less on the golden traces than it did before."""

import json

import pytest
from ratchet import DRAFTERS, EXPECTED, TRACES, measure


def test_every_trace_and_drafter_has_an_expectation():
    expected = json.loads(EXPECTED.read_text())
    assert set(expected) == {path.stem for path in TRACES}
    assert all(set(rows) == set(DRAFTERS) for rows in expected.values())


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_drafters_accept_no_less_than_before(path, record_property, capsys):
    expected = json.loads(EXPECTED.read_text())[path.stem]
    for spec, row in measure(path).items():
        was = expected[spec]
        assert row["accepted"] + row["steps"] == was["accepted"] + was["steps"], "the trace changed"
        assert row["accepted"] >= was["accepted"], (
            f"{spec} on {path.stem}: {row['accepted']} accepted tokens, {was['accepted']} expected"
        )
        if row["accepted"] > was["accepted"]:
            with capsys.disabled():
                print(
                    f"\n{spec} on {path.stem} accepts {row['accepted']}, not {was['accepted']}: "
                    "write the ratchet anew"
                )
