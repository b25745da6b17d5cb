"""Presence and frequency penalties: what they take from which token."""

import numpy as np

from draftwood.sampling.penalties import CountPenalty


def test_only_what_the_text_holds_falls_once_and_for_each_time():
    ids = np.array([7, 7, 7, 2, 3, 3], np.int32)  # the first four are the prompt
    logits = np.zeros(8, np.float32)
    after = CountPenalty(presence=0.5, frequency=0.25, prompt_tokens=4)(ids, logits)
    assert after.tolist() == [0, 0, 0, -1.0, 0, 0, 0, 0]


def test_a_text_that_has_not_begun_is_left_alone():
    logits = np.ones(4, np.float32)
    after = CountPenalty(presence=2.0, frequency=2.0, prompt_tokens=2)(
        np.array([1, 2], np.int32), logits
    )
    assert after.tolist() == [1, 1, 1, 1]
