"""Sequences found by their content, where an engine gives no keys."""

import numpy as np
import pytest

from draftwood.drafters.recall import RecallDrafter
from draftwood.sessions import Sessions, TokenRows

A, B = list(range(10, 40)), list(range(50, 70))


@pytest.fixture
def sessions():
    return Sessions(RecallDrafter(max_tokens=4096), vocab_size=1000, context_limit=100_000)


def test_a_row_is_known_by_its_beginning(sessions):
    sessions.open("a", A)
    sessions.open("b", B)
    assert sessions.recognize([[*A, 1], [*B, 1], [*A[:-1], 1], []]) == ["a", "b", None, None]


def test_rows_may_move_and_stay_away(sessions):
    sessions.open("a", A)
    sessions.open("b", B)
    assert sessions.recognize([[*A, 1], [*B, 1]]) == ["a", "b"]
    sessions.step(["a", "b"], [[1], [1]])
    for _ in range(5):  # a is preempted
        assert sessions.recognize([[*B, 1]]) == ["b"]
    assert sessions.recognize([[*B, 1], [7, 7], [*A, 1, 2]]) == ["b", None, "a"]


def test_two_equal_prompts_keep_their_places_and_part_when_their_texts_do(sessions):
    sessions.open(1, A)
    sessions.open(2, A)
    first = sessions.recognize([A, A])
    assert sorted(first) == [1, 2]
    sessions.step(first, [[5], [6]])
    assert sessions.recognize([[*A, 5, 1], [*A, 6, 1]]) == first
    assert sessions.recognize([[*A, 6, 1], [*A, 5, 1]]) == first[::-1]  # they have changed places


def test_the_longest_text_wins_and_the_shorter_one_finds_its_own_row(sessions):
    sessions.open("short", A)
    assert sessions.recognize([[*A, 1]]) == ["short"]  # stands in row 0
    sessions.open("long", [*A, 8, 9])
    assert sessions.recognize([[*A, 8, 9, 1], [*A, 1]]) == ["long", "short"]


def test_a_row_that_another_request_took_over_is_not_its_predecessor(sessions):
    """Same length, same end, in the same place: one token in front or in the middle differs."""
    text = list(range(300)) * 30
    sessions.open("a", text)
    assert sessions.recognize([text]) == ["a"]
    for at in (0, 1500, len(text) - 1500):
        other = list(text)
        other[at] = 999
        assert sessions.recognize([other]) == [None]
        assert sessions.recognize([text]) == ["a"]


def test_the_middle_of_a_long_text_is_looked_at_in_turns(sessions):
    text = list(range(500)) * 40
    sessions.open("a", text)
    other = list(text)
    other[10_000] = 999
    assert sessions.recognize([text]) == ["a"]
    assert None in [sessions.recognize([other])[0] for _ in range(len(text) // 2048)]


def test_the_next_turn_of_a_conversation_is_another_sequence(sessions):
    sessions.open("a", A)
    assert sessions.recognize([[*A, *range(100, 165)]]) == [None]
    assert sessions.recognize([[*A, *range(100, 164)]]) == ["a"]
    assert sessions.recognize([[*A, *range(100, 165)]], leap=65) == ["a"]


def test_who_is_missing_for_too_long_is_closed_and_stays_learned(sessions):
    sessions.open("a", A[:4])
    sessions.step(["a"], [A[4:]])
    for _ in range(3):
        assert sessions.recognize([[1]], patience=2) == [None]
    assert "a" not in sessions
    sessions.open("b", [1, *A[5:10]])
    assert sessions.step(["b"], [[]]).lists()[0][:1] == [A[10]]
    assert sessions.failures == {}


def test_rows_of_a_matrix_are_recognized_in_place(sessions):
    sessions.open("a", A)
    sessions.open("b", B)
    matrix = np.full((3, 64), -1, np.int32)
    matrix[0, : len(B)], matrix[2, : len(A)] = B, A
    rows = TokenRows(matrix, np.array([len(B), 0, len(A)], np.int32))
    assert sessions.recognize(rows) == ["b", None, "a"]


def test_a_row_shorter_than_its_sequence_has_lost_its_place(sessions):
    sessions.open("a", A)
    assert sessions.recognize([A[:-1]]) == [None]
    sessions.step(["a"], [A[:-1]], whole=True)
    assert sessions.failures == {"row shorter than its sequence": 1}


def test_what_has_ended_unsaid_is_learned_at_once_and_may_still_come_back(sessions):
    """An engine without keys tells nobody that a request is over."""
    sessions.open("a", A[:4])
    sessions.step(["a"], [A[4:]])
    sessions.open("b", [1, *A[5:10]])
    for _ in range(2):
        assert sessions.recognize([[1, *A[5:10]]]) == ["b"]
    assert sessions.step(["b"], [[]]).lists()[0][:1] == [A[10]]
    assert sessions.recognize([[1, *A[5:10]], [*A, 3]]) == ["b", "a"]
