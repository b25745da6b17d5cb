from __future__ import annotations

import pytest

from draftwood.cli.completion import TYPED, complete_spec, join_words
from draftwood.drafters.catalog import DRAFTERS


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        ("rec", ["recall", "recall:", "recycled", "recycled:"]),
        ("none", ["none"]),
        ("recall:mo", ["recall:mode="]),
        ("recall:mode=", ["recall:mode=tree", "recall:mode=chain"]),
        (
            "recall:mode=chain,cost=",
            [f"recall:mode=chain,cost={v}" for v in ("auto", "none", "0.01")],
        ),
        ("suffix:nodes=", ["suffix:nodes=32"]),
        ("recall:mode=chain,mod", []),
        ("nobody:x", []),
        ("recall:nothing=", []),
    ],
)
def test_a_spec_is_completed(begun, expected):
    assert complete_spec(begun) == expected


def test_every_drafter_and_each_of_its_options_is_offered():
    assert {each for each in complete_spec("") if not each.endswith(":")} == set(DRAFTERS)
    for each in complete_spec(""):
        if each.endswith(":"):
            options = complete_spec(each)
            assert f"{each}cost=" in options
            assert all(complete_spec(option) is not None for option in options)


@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        (["--drafter", "recall", ":", "mo"], "mo", ["mode="]),
        (["--drafter", "recall", ":"], "", None),
        (["--drafter", "recall", ":", "mode", "="], "", ["tree", "chain"]),
        (["--drafter", "=", "recall", ":", "mode", "=", "ch"], "ch", ["chain"]),
        (["--drafter", "recall", ":", "mode", "=", "chain,co"], "chain,co", ["chain,cost="]),
        (["--drafter", "recall:mode=ch"], "recall:mode=ch", ["recall:mode=chain"]),
        (["--drafter", "rec"], "rec", ["recall", "recall:", "recycled", "recycled:"]),
    ],
)
def test_words_that_bash_takes_apart_are_joined(monkeypatch, words, incomplete, offered):
    before = ["draftwood", "replay", "t.jsonl"]
    environment = {
        "COMP_WORDS": "\n".join([*before, *words, "after"]),
        "COMP_CWORD": str(len(before) + len(words) - 1),
    }
    join_words(environment)
    assert environment["COMP_WORDS"].split("\n") == [*before, "--drafter", incomplete]
    assert environment["COMP_CWORD"] == str(len(before) + 1)
    if TYPED in environment:
        monkeypatch.setenv(TYPED, environment[TYPED])
    found = complete_spec(incomplete)
    assert found == offered if offered else "mode=" in found


def test_other_words_stay_as_they_are():
    for environment in ({}, {"COMP_WORDS": "draftwood\nadv", "COMP_CWORD": "1"}):
        before = dict(environment)
        join_words(environment)
        assert environment == before
