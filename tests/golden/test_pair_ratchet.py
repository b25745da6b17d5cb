"""No rule and no model drafter accepts less on the demo pair than it did before."""

import json

import pytest
from pair_ratchet import EXPECTED, SIDES, SLACK, measure


def test_every_side_has_an_expectation():
    assert set(json.loads(EXPECTED.read_text())) == set(SIDES)


@pytest.mark.parametrize("side", SIDES)
def test_tokens_a_step_are_no_fewer_than_before(side, capsys):
    was = json.loads(EXPECTED.read_text())[side]
    now = measure(side)
    before, after = was["tokens"] / was["steps"], now["tokens"] / now["steps"]
    assert after >= (1 - SLACK) * before, f"{side}: {after:.3f} tokens a step, {before:.3f} before"
    if after > (1 + SLACK) * before:
        with capsys.disabled():
            print(f"\n{side} gives {after:.3f} tokens a step, not {before:.3f}: write it anew")
