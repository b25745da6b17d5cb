"""Every drafted node says where it comes from, by a number that has a name."""

import numpy as np
import pytest

from draftwood import sources
from draftwood.budget.calibration import Calibrated
from draftwood.decode import decode
from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter, make_priced_drafter
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback
from draftwood.sources import Source, source_for, source_of
from draftwood.testing import DraftFrom, ToyTarget, hash_model
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

PROMPT = as_tokens([1, 2, 3, 1, 2])


def kinds_of(spec, steps=60):
    """The names of all that a drafter drafts in two texts of a small vocabulary."""
    drafter, found = make_drafter(spec), set()
    for _ in range(2):
        target = ToyTarget(hash_model(6, order=2, seed=1))
        for step in decode(target, drafter, Greedy(), PROMPT, stop=Stop(steps)):
            found |= {str(source_of(number)) for number in step.draft.source.tolist()}
    return found


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            "recall:share=8",
            {"recall: own text", "recall: shared history", "recall: recycled logits"},
        ),
        ("recall:share=8,recycle=no", {"recall: own text", "recall: shared history"}),
        ("suffix", {"suffix: own text", "suffix: shared history"}),
        ("lookup", {"lookup: own text"}),
        ("trigram", {"trigram: trigrams"}),
        ("recycled", {"recycled: recycled logits"}),
    ],
)
def test_drafts_say_whose_they_are(spec, expected):
    found = kinds_of(spec)
    assert found
    assert found <= expected
    if spec == "suffix":
        assert found == expected


def test_drafters_in_a_mixture_keep_their_numbers():
    assert kinds_of("blend:first=lookup,other=recycled") == {
        "lookup: own text",
        "recycled: recycled logits",
    }
    found = kinds_of("hybrid:first=suffix,other=lookup,tau=1.5")
    assert {each.partition(":")[0] for each in found} == {"suffix", "lookup"}


def test_the_numbers_of_the_package_are_different_ones():
    numbers = [value for name, value in vars(sources).items() if name.isupper() and name[0] != "_"]
    assert len(numbers) == len(set(numbers)) == 11
    assert len({source_of(number) for number in numbers}) == len(numbers)
    with pytest.raises(InvalidOption, match="source 255 is nobody's"):
        source_of(255)


def test_a_drafter_of_your_own_has_a_number_of_its_own():
    number = source_for("mine")
    assert 64 <= number <= 255
    assert source_for("mine") == number
    assert source_for("mine", "other things") != number
    assert source_of(number) == Source("mine", "own drafts")
    assert source_of(np.uint8(number)).drafter == "mine"


def test_numbers_may_run_out(monkeypatch):
    monkeypatch.setattr(sources, "_TABLE", dict(sources._TABLE))
    for at in range(256 - max(64, max(sources._TABLE) + 1)):
        source_for("many", str(at))
    with pytest.raises(InvalidOption, match="no number is left for many: one more"):
        source_for("many", "one more")
    assert source_for("many", "0") >= 64


def test_calibration_keeps_the_drafters_of_a_hybrid_apart():
    #  both say 0.5 of their token; only the first one is ever right
    turn = 0
    numbers = {0: source_for("right"), 1: source_for("wrong")}

    def propose(context, budget):
        return Draft.chain([5], confidence=0.5, source=numbers[turn % 2])

    stream = Calibrated(DraftFrom(propose)).open(PROMPT)
    for turn in range(400):
        draft = stream.propose(Budget(4))
        stream.observe(Feedback.of(draft, as_tokens([5 if turn % 2 == 0 else 6, 0])))
    for turn, expected in ((0, 1.0), (1, 0.0)):  # noqa: B007 (propose reads it)
        assert float(stream.propose(Budget(4)).confidence[0]) == pytest.approx(expected, abs=0.05)


def test_calibration_of_a_hybrid_learns_each_of_its_drafters():
    service = make_priced_drafter("hybrid:first=suffix,other=lookup,tau=1.5,cost=0.01")
    target = ToyTarget(hash_model(6, order=2, seed=1))
    for _ in range(2):
        list(decode(target, service.drafter, Greedy(), PROMPT, stop=Stop(80)))
    tried = service.drafter.calibrator._tried.sum(axis=(1, 2, 3))
    assert (tried > 0).sum() >= 2


def test_more_sources_than_calibration_has_room_for_are_taken_together():
    calibrated = Calibrated(DraftFrom(lambda context, budget: Draft.empty()))
    calibrator = calibrated.calibrator
    cells = [int(calibrator.cells(Draft.chain([5], source=each))[0]) for each in range(100, 112)]
    assert len(set(cells)) == 8
    assert len(set(cells[7:])) == 1
