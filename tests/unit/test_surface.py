"""What `import draftwood` offers, and how its things show themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import draftwood as dw
from draftwood import errors

REPO = Path(__file__).parents[2]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


def test_all_that_is_named_is_there_and_sorted():
    assert all(getattr(dw, name) is not None for name in dw.__all__)
    assert set(dw.__all__) <= set(dir(dw))
    assert len(set(dw.__all__)) == len(dw.__all__)


def test_all_errors_are_offered():
    named = {
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.DraftwoodError)
    }
    assert named <= set(dw.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_pages_use_of_the_package_is_offered(page):
    text = page.read_text(encoding="utf-8")
    used = set(re.findall(r"\bdw\.(\w+)", text))
    for names in re.findall(r"from draftwood import (\([^)]*\)|.*)", text):
        used |= set(re.findall(r"\w+", names))
    assert used <= set(dw.__all__)


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert dw.__version__ == version("draftwood")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dw.nothing


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("none", "NoDraft()"),
        ("lookup:max_ngram=4,nodes=7", "PromptLookup(max_ngram=4, nodes=7)"),
        ("recall", "RecallDrafter(mode='tree', nodes=32, floor=0.005)"),
        ("suffix:floor=0.2", "SuffixDrafter(mode='linear', nodes=32, floor=0.2)"),
        ("recycled:nodes=5", "RecycledDrafter(nodes=5, floor="),
        ("hybrid:first=none,other=none,tau=2", "Hybrid(NoDraft(), NoDraft(), tau=2)"),
        ("blend:first=none,other=none", "Blend([NoDraft(), NoDraft()], nodes=32)"),
    ],
)
def test_drafters_say_what_they_are(spec, shown):
    assert repr(dw.make_drafter(spec)).startswith(shown)


def test_whatever_is_offered_shows_itself():
    kinds = [each for each in (getattr(dw, name) for name in dw.__all__) if isinstance(each, type)]
    assert len(kinds) > 70
    bare = [
        kind.__name__
        for kind in kinds
        if kind.__repr__ is object.__repr__ and not getattr(kind, "_is_protocol", False)
    ]
    assert bare == []


def test_objects_that_work_show_how_far_they_are(tmp_path):
    cost = dw.MeasuredCost()
    cost.observe(0, 0.1)
    recall = dw.Recall(1024)
    recall.add([1, 2, 3])
    sessions = dw.Sessions(dw.NoDraft(), vocab_size=9, context_limit=20)
    sessions.open("a", [1])
    shown = [repr(each) for each in (cost, recall, sessions, dw.Spending(cost))]
    assert shown[0] == "MeasuredCost(1 passes timed)"
    assert re.fullmatch(r"Recall\(\d+ of 1024 slots in use\)", shown[1])
    assert shown[2] == "Sessions(NoDraft(), 1 open)"
    assert shown[3].startswith("Spending(MeasuredCost(1 passes timed), limit=Budget(nodes=64,")
    recall.close()
    assert repr(recall) == "Recall(closed)"


def test_a_calibrated_drafter_names_the_one_within():
    assert repr(dw.calibrated(dw.NoDraft())) == "calibrated(NoDraft())"
