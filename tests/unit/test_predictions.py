"""Likely answers: drafts enter and leave them at any token, and nobody else sees them."""

import numpy as np
import pytest

from draftwood.draft import Budget
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.protocols import Feedback
from draftwood.sources import OWN, PREDICTED

PROMPT = np.array([90, 91, 92, 93, 94], np.int32)
ANSWER = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4], np.int32)
DRAFTERS = {
    "recall": lambda: RecallDrafter(max_tokens=4096),
    "suffix": lambda: SuffixDrafter(alpha=4.0),
    "lookup": PromptLookup,
    "lookup, latest": lambda: PromptLookup(match="latest"),
}


def chain(stream, nodes=8):
    return stream.propose(Budget(nodes)).to_chain().tokens.tolist()


@pytest.mark.parametrize("name", DRAFTERS)
def test_a_prediction_is_followed_from_its_first_token_to_its_last(name):
    stream = DRAFTERS[name]().open(PROMPT, prediction=(ANSWER,))
    at = 0
    while at < len(ANSWER):
        drafted = chain(stream)
        right = 0
        while right < len(drafted) and drafted[right] == ANSWER[min(at + right, len(ANSWER) - 1)]:
            right += 1
        assert right > 0 or at > 0  # the very first token is drafted, too
        stream.observe(ANSWER[at : at + right + 1])
        at += right + 1
    assert len(stream) == len(PROMPT) + len(ANSWER)
    assert all(token >= 0 for token in stream.propose(Budget(8)).tokens)


@pytest.mark.parametrize("name", DRAFTERS)
def test_text_that_leaves_a_prediction_may_come_back_to_it(name):
    stream = DRAFTERS[name]().open(PROMPT, prediction=(ANSWER,))
    stream.observe(np.array([3, 1, 77, 78, 5, 9, 2], np.int32))
    assert chain(stream)[0] == 6


@pytest.mark.parametrize("name", DRAFTERS)
def test_several_predictions_are_known_and_no_draft_runs_from_one_into_the_next(name):
    other = np.array([60, 61, 62], np.int32)
    stream = DRAFTERS[name]().open(PROMPT, prediction=(other, ANSWER))
    stream.observe(np.array([60, 61], np.int32))
    drafted = chain(stream)
    assert drafted[0] == 62
    stream.observe(np.array([62], np.int32))
    assert 90 not in stream.propose(Budget(8)).tokens.tolist()[:1]


@pytest.mark.parametrize("name", DRAFTERS)
def test_a_prediction_is_never_drafted_for_another_request(name):
    drafter = DRAFTERS[name]()
    stream = drafter.open(PROMPT, prediction=(ANSWER,))
    stream.observe(np.array([40, 41], np.int32))
    stream.close()
    assert 4 not in chain(drafter.open(np.array([3, 1], np.int32)))


@pytest.mark.parametrize("name", DRAFTERS)
def test_an_empty_prediction_or_prompt_changes_nothing(name):
    for prompt in (PROMPT[:0], PROMPT):
        plain = DRAFTERS[name]().open(prompt)
        empty = DRAFTERS[name]().open(prompt, prediction=(ANSWER[:0],))
        for stream in (plain, empty):
            stream.observe(np.array([1, 2, 3, 1, 2], np.int32))
        assert chain(plain) == chain(empty)


def test_nodes_of_a_prediction_say_where_they_come_from():
    drafter = RecallDrafter(max_tokens=4096)
    stream = drafter.open(PROMPT, prediction=(ANSWER,))
    assert set(stream.propose(Budget(4)).source.tolist()) == {PREDICTED}
    stream.observe(np.array([50, 51, 52, 50], np.int32))
    assert stream.propose(Budget(1)).source.tolist() == [OWN]


def test_a_long_prediction_survives_the_growth_of_the_text():
    """The request's own ring is hashed anew while it grows."""
    stream = RecallDrafter(max_tokens=4096).open(PROMPT, prediction=(ANSWER, ANSWER[::-1]))
    stream.observe(np.arange(100, 5000, dtype=np.int32))
    stream.observe(ANSWER[:6])
    assert chain(stream)[:4] == ANSWER[6:10].tolist()


FILE = np.array(
    [*range(100, 130), 7, *range(200, 212), 7, *range(140, 152), 7, *range(180, 200)], np.int32
)
EDITS = {
    "a deleted stretch": (slice(10, 16), []),
    "an inserted stretch": (slice(10, 10), [50, 51, 52]),
    "a replaced token": (slice(10, 11), [50]),
    "a replaced stretch": (slice(10, 16), [50, 51, 52, 53]),
}


def served(stream, answer, nodes=32):
    """Serve an answer greedily; the tokens of each step."""
    steps, at = [], 0
    while at < len(answer):
        draft = stream.propose(Budget(nodes, min(nodes, len(answer) - at - 1)))
        feedback = Feedback.of(draft, answer[at:])
        came = min(len(feedback.verdict.path) + 1, len(answer) - at)
        steps.append(answer[at : at + came].tolist())
        stream.observe(answer[at : at + came])
        at += came
    return steps


@pytest.mark.parametrize("mode", ["tree", "chain"])
@pytest.mark.parametrize("edit", EDITS)
def test_drafts_come_back_after(edit, mode):
    """As soon as a token of the prediction has come again, the rest of it is drafted."""
    where, came = EDITS[edit]
    answer = np.array([*FILE[: where.start], *came, *FILE[where.stop :]], np.int32)
    drafter = RecallDrafter(max_tokens=4096, mode=mode, floor=0.01)
    stream = drafter.open(PROMPT, prediction=(FILE,))
    stream.observe(answer[: where.start + len(came) + 1])
    drafted = chain(stream, 16)
    assert drafted[:8] == FILE[where.stop + 1 : where.stop + 9].tolist()


def test_a_replaced_token_costs_one_step():
    answer = FILE.copy()
    answer[10] = 50
    assert len(served(RecallDrafter(max_tokens=4096).open(PROMPT, prediction=(FILE,)), answer)) <= 5


def test_a_name_that_was_replaced_once_is_replaced_in_the_drafts():
    renamed = [90 if token == 7 else token for token in FILE.tolist()]
    stream = RecallDrafter(max_tokens=4096).open(PROMPT, prediction=(FILE,))
    stream.observe(np.array(renamed[:36], np.int32))  # the name, and five tokens after it
    draft = stream.propose(Budget(32))
    after = {int(draft.tokens[at]) for at in draft.parents[draft.tokens == 90]}
    assert 211 in after  # where the old name comes next
    assert after <= {211, 151}
    stream.observe(np.array(renamed[36:50], np.int32))  # it was right the second time
    assert chain(stream, 16) == renamed[50:66]


def test_a_stretch_that_moved_far_away_is_followed_there():
    rng = np.random.default_rng(1)
    long = rng.integers(1000, 9000, 2000).astype(np.int32)
    stream = RecallDrafter(max_tokens=4096).open(PROMPT, prediction=(long,))
    stream.observe(long[:20])
    stream.observe(long[1500:1506])
    found = chain(stream, 32)
    assert found == long[1506 : 1506 + len(found)].tolist()
    stream.observe(np.array(found, np.int32))
    at = 1506 + len(found)
    assert chain(stream, 32) == long[at : at + 32].tolist()


def test_a_wrong_prediction_is_soon_left_alone():
    """Of what drafts may hold, one token in a hundred; those that stand in both by chance."""
    rng = np.random.default_rng(2)
    wrong, answer = rng.integers(0, 5000, (2, 400)).astype(np.int32)
    drafter = RecallDrafter(max_tokens=4096)
    stream = drafter.open(PROMPT, prediction=(wrong,))
    drafted = 0
    for at in range(len(answer)):
        if at >= 100:
            drafted += int((stream.propose(Budget(32)).source == PREDICTED).sum())
        stream.observe(answer[at : at + 1])
    assert drafted <= 0.01 * 32 * 300
