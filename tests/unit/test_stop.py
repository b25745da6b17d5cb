"""Where generation ends."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from draftwood.draft import Draft
from draftwood.errors import InvalidOption
from draftwood.protocols import Verdict
from draftwood.text.stop import Stop

DRAFT = Draft.chain([4, 5, 6])
VERDICT = Verdict(np.array([0, 1, 2], dtype=np.int32), 7)


def clipped(stop, generated=0, room=None):
    verdict, finish = stop.apply(DRAFT, VERDICT, generated=generated, room=room)
    return verdict.tokens(DRAFT).tolist(), finish


def test_without_limits_nothing_is_cut():
    assert clipped(Stop()) == ([4, 5, 6, 7], None)


@pytest.mark.parametrize(("limit", "kept"), [(1, [4]), (3, [4, 5, 6]), (4, [4, 5, 6, 7])])
def test_max_tokens_cuts_inside_an_accepted_run(limit, kept):
    assert clipped(Stop(max_tokens=limit)) == (kept, "length")


def test_max_tokens_counts_earlier_steps():
    assert clipped(Stop(max_tokens=10), generated=8) == ([4, 5], "length")
    assert clipped(Stop(max_tokens=10), generated=5) == ([4, 5, 6, 7], None)


def test_an_end_token_in_the_middle_of_a_draft_is_the_last_one_kept():
    assert clipped(Stop(end_tokens={5, 9})) == ([4, 5], "stop")


def test_an_end_token_that_is_the_targets_own_ends_too():
    assert clipped(Stop(end_tokens={7})) == ([4, 5, 6, 7], "stop")


def test_an_end_token_behind_the_token_limit_does_not_count():
    assert clipped(Stop(max_tokens=2, end_tokens={6})) == ([4, 5], "length")


def test_room_ends_generation_at_the_context_limit():
    assert clipped(Stop(), room=4) == ([4, 5, 6, 7], "context")
    assert clipped(Stop(), room=2) == ([4, 5], "context")


def test_further_rules_see_each_steps_tokens_and_may_keep_fewer():
    seen = []

    def rule(tokens):
        seen.append(tokens.tolist())
        return 2 if 5 in tokens else None

    assert clipped(Stop(ends=(rule,))) == ([4, 5], "stop")
    assert_array_equal(seen, [[4, 5, 6, 7]])


def test_a_stop_token_of_the_caller_ends_the_text_as_an_end_token_does():
    assert clipped(Stop(end_tokens={6}, stop_token_ids=[5])) == ([4, 5], "stop")
    assert clipped(Stop(end_tokens={5}, stop_token_ids=[6])) == ([4, 5], "stop")
    assert clipped(Stop(stop_token_ids=np.array([7]))) == ([4, 5, 6, 7], "stop")
    assert clipped(Stop(stop_token_ids=[8])) == ([4, 5, 6, 7], None)


@pytest.mark.parametrize("limit", [1.5, "3", True, -1])
def test_a_limit_that_is_no_count_is_refused(limit):
    with pytest.raises(InvalidOption, match="max_tokens is"):
        Stop(max_tokens=limit)


@pytest.mark.parametrize("ids", ["END", 5, ["a"], [-1], [1.5], [True], [None]])
def test_stop_tokens_that_are_no_ids_are_refused(ids):
    with pytest.raises(InvalidOption, match="stop_token_ids"):
        Stop(stop_token_ids=ids)


def test_refuses_to_generate_nothing():
    with pytest.raises(InvalidOption, match="max_tokens is 0"):
        Stop(max_tokens=0)


def test_a_step_that_ends_after_its_time_is_whole_and_the_last():
    late, early = Stop(until=0.0), Stop(until=float("inf"))
    assert clipped(late) == ([4, 5, 6, 7], "time")
    assert clipped(early) == ([4, 5, 6, 7], None)
    assert clipped(Stop(until=0.0, max_tokens=2)) == ([4, 5], "length")
    assert clipped(Stop(until=0.0, end_tokens={5})) == ([4, 5], "stop")
