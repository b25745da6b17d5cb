"""docs/families.md is made from benchmarks/families/results.json, and nothing in it is wrong."""

import json
from pathlib import Path

from benchmarks.families.page import OUTCOMES, page

REPO = Path(__file__).resolve().parents[2]
RESULTS = json.loads((REPO / "benchmarks/families/results.json").read_text("utf-8"))


def test_the_page_is_made_from_the_results():
    assert (REPO / "docs/families.md").read_text("utf-8") == page(RESULTS)


def test_every_class_has_an_outcome_and_none_is_wrong():
    counts = dict.fromkeys(OUTCOMES, 0)
    for each in RESULTS["classes"]:
        counts[each["outcome"]] += 1
    assert counts == RESULTS["counts"]
    assert counts["wrong"] == 0
    assert len(RESULTS["classes"]) > 180
