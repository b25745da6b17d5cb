"""What the figures say of time, and how they are shown."""

import numpy as np
import pytest

from draftwood.draft import Draft
from draftwood.protocols import Verdict
from draftwood.sources import OWN, PREDICTED
from draftwood.stats import Stats
from draftwood.step import Seconds, Step


def step(tokens: int, *, drafted: int = 0, score: float = 1.0, draft: float = 0.0) -> Step:
    """A step that brought so many tokens; all but the last of them were drafted."""
    made = Draft.chain(range(drafted))
    verdict = Verdict(np.arange(tokens - 1, dtype=np.int32), 9)
    return Step(made, verdict, verdict.tokens(made), Seconds(draft, score))


PROMPT = step(1, score=50.0)
PLAIN = step(1)
DRAFTED = step(4, drafted=5, score=1.5, draft=0.5)


def test_a_plain_step_is_priced_at_plain_steps():
    stats = Stats.of([PROMPT, PLAIN, DRAFTED, PLAIN, DRAFTED])
    # 10 tokens after the first step, in 1 + 2 + 1 + 2 seconds, each of which takes 1 when plain
    assert stats.seconds_saved == pytest.approx(10 * 1.0 - 6.0)
    assert "about 4.0 s saved" in str(stats)


def test_drafting_that_costs_more_than_it_brings_is_said_to_lose():
    stats = Stats.of([PROMPT, PLAIN, step(1, drafted=5, score=3.0)])
    assert stats.seconds_saved == pytest.approx(-2.0)
    assert "about 2.0 s lost" in str(stats)


def test_without_a_plain_step_nothing_is_said_of_time():
    stats = Stats.of([PROMPT, DRAFTED, DRAFTED])
    assert stats.seconds_saved is None
    assert "saved" not in str(stats)
    assert "lost" not in str(stats)
    assert stats.as_dict()["seconds_saved"] is None


def test_a_cost_curve_prices_the_plain_step_where_it_tells():
    stats = Stats()
    stats.add(PROMPT, first=True, plain=0.9)
    stats.add(DRAFTED, plain=0.9)
    assert stats.seconds_saved == pytest.approx(4 * 0.9 - 2.0)
    stats.add(PLAIN)
    assert stats.seconds_saved == pytest.approx(4 * 0.9 + 1 * 1.0 - 3.0)


def test_the_prompts_pass_has_no_part_in_what_was_saved():
    assert Stats.of([step(1, score=1000.0), PLAIN, DRAFTED]).seconds_saved == pytest.approx(2.0)
    assert Stats.of([PROMPT]).seconds_saved == 0.0


def test_tokens_of_a_prediction_are_counted_as_taken_and_as_refused():
    made = Draft.tree([5, 6, 7, 8], [-1, 0, 0, 2])
    made.source[:] = [PREDICTED, PREDICTED, OWN, PREDICTED]
    verdict = Verdict(np.array([0, 2], np.int32), 9)
    stats = Stats.of([PROMPT, Step(made, verdict, verdict.tokens(made), Seconds())])
    assert (stats.accepted_prediction_tokens, stats.rejected_prediction_tokens) == (1, 2)
    told = stats.as_dict()
    assert (told["accepted_prediction_tokens"], told["rejected_prediction_tokens"]) == (1, 2)


def test_a_notebook_gets_a_table_without_colors_of_its_own():
    shown = Stats.of([PROMPT, PLAIN, DRAFTED])._repr_html_()
    assert shown.startswith("<table")
    assert "tokens per step" in shown
    assert "seconds saved" in shown
    assert "currentColor" in shown
    assert not any(word in shown for word in ("#", "black", "white", "rgb"))
    assert "seconds saved" not in Stats.of([PROMPT, DRAFTED])._repr_html_()


def test_several_runs_together_count_as_one():
    first, second = Stats.of([PROMPT, PLAIN, DRAFTED]), Stats.of([PROMPT, step(6, drafted=7)])
    together = Stats.together([first, second])
    assert together.tokens == first.tokens + second.tokens
    assert together.steps == 5
    assert together.accepted_by_position == [2, 2, 2, 1, 1]
    assert together.seconds == pytest.approx(first.seconds + second.seconds)
    assert Stats.together([]).steps == 0
