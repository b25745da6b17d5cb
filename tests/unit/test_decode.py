"""The loop: same text with any drafter, limits kept, failures contained."""

import logging

import numpy as np
import pytest

from draftwood.budget.cost import LinearCost
from draftwood.budget.measured import MeasuredCost
from draftwood.budget.spender import FixedBudget
from draftwood.budget.spending import Spending
from draftwood.decode import decode, reach
from draftwood.draft import Budget, Draft
from draftwood.errors import InvalidTokens
from draftwood.stats import Stats
from draftwood.testing import (
    WORDS,
    DraftFrom,
    ToyTarget,
    greedy_text,
    hash_model,
    oracle,
    raising,
    random_trees,
)
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

MODEL = hash_model()
PROMPT = [3, 4]
PLAIN = greedy_text(MODEL, PROMPT, 40)
ORACLE = oracle(PROMPT + PLAIN, vocab_size=len(WORDS))


def run(drafter, *, target=None, stop=None, budget=None):
    target = target or ToyTarget(MODEL)
    stop = stop or Stop(max_tokens=40)
    return list(decode(target, drafter, Greedy(), PROMPT, stop=stop, budget=budget))


def text(steps):
    return [token for step in steps for token in step.tokens.tolist()]


@pytest.mark.parametrize(
    "drafter",
    [
        DraftFrom(lambda context, budget: Draft.empty()),
        random_trees(len(WORDS)),
        random_trees(len(WORDS), chains=True),
        ORACLE,
        oracle(PROMPT + PLAIN, vocab_size=len(WORDS), decoys=2, errors=0.2),
    ],
)
def test_the_text_is_that_of_plain_decoding_whatever_is_drafted(drafter):
    assert text(run(drafter)) == PLAIN


def test_right_drafts_save_passes_of_the_target():
    target = ToyTarget(MODEL)
    steps = run(ORACLE, target=target, budget=Budget(3))
    assert target.calls == len(steps) == 10
    assert Stats.of(steps).tokens_per_step == 4.0


def test_no_draft_reaches_beyond_what_may_be_generated():
    steps = run(ORACLE, stop=Stop(max_tokens=7), budget=Budget(32))
    assert [len(step.draft) for step in steps] == [6]
    assert steps[-1].finish == "length"


def test_a_draft_beyond_its_budget_is_cut():
    greedy_for_more = DraftFrom(lambda context, budget: Draft.chain(PLAIN[: budget.nodes + 5]))
    (first, *_) = run(greedy_for_more, budget=Budget(8, depth=4))
    assert len(first.draft) == 4


def test_generation_fills_the_context_and_ends_there():
    steps = run(ORACLE, target=ToyTarget(MODEL, context_limit=20), stop=Stop(), budget=Budget(5))
    assert text(steps) == PLAIN[:18]
    assert steps[-1].finish == "context"


def test_an_end_token_inside_an_accepted_run_ends_the_text():
    end = PLAIN[10]
    steps = run(ORACLE, stop=Stop(end_tokens={end}))
    assert text(steps) == PLAIN[: PLAIN.index(end) + 1]
    assert steps[-1].finish == "stop"


def test_a_target_without_trees_is_given_chains():
    steps = run(random_trees(len(WORDS)), target=ToyTarget(MODEL, trees=False))
    assert all(step.draft.is_chain for step in steps)
    assert text(steps) == PLAIN


def test_a_drafter_that_raises_costs_its_drafts_and_is_logged_once(caplog):
    with caplog.at_level(logging.ERROR):
        steps = run(raising(after=3))
    assert text(steps) == PLAIN
    assert len(caplog.records) == 1
    assert "drafter failed in propose" in caplog.text


def test_a_drafter_that_cannot_open_costs_nothing_else(caplog):
    class Broken:
        def open(self, prompt, *, namespace=""):
            raise MemoryError

    assert text(run(Broken())) == PLAIN
    assert "drafter failed in open" in caplog.text


def test_streams_and_cursors_are_closed_when_the_caller_stops_early():
    closed = []

    class Watched(ToyTarget):
        def open(self, prompt):
            cursor = super().open(prompt)
            cursor.close = lambda: closed.append("cursor")
            return cursor

    steps = decode(Watched(MODEL), ORACLE, Greedy(), PROMPT, stop=Stop(max_tokens=40))
    next(steps)
    steps.close()
    assert closed == ["cursor"]


@pytest.mark.parametrize("prompt", [[], [1.5], [-1]])
def test_a_prompt_that_is_none_is_refused_before_anything_runs(prompt):
    with pytest.raises(InvalidTokens):
        decode(ToyTarget(MODEL), ORACLE, Greedy(), prompt)


def test_stats_count_by_position():
    wrong_from_third = DraftFrom(
        lambda context, budget: Draft.chain(
            [*PLAIN[len(context) - 2 :][:2], (PLAIN[len(context)] + 1) % len(WORDS)]
            if len(context) < 12
            else []
        )
    )
    stats = Stats.of(run(wrong_from_third, stop=Stop(max_tokens=12)))
    assert stats.tokens == 12
    assert stats.sequences == 1
    assert stats.drafted_by_position[0] == stats.drafting_steps
    assert stats.accepted == sum(stats.accepted_by_position)
    assert stats.acceptance_rate == stats.accepted / stats.drafted
    assert stats.tokens == stats.steps + stats.accepted
    assert "tokens in" in str(stats)


def test_stats_of_nothing_are_zeros():
    empty = Stats()
    assert (empty.tokens_per_step, empty.acceptance_rate, empty.tokens_per_second) == (0, 0, 0)
    assert np.isfinite(empty.seconds_saved)


@pytest.mark.parametrize("cost", [LinearCost(0.3), LinearCost(0.001), MeasuredCost()])
@pytest.mark.parametrize("drafter", [random_trees(len(WORDS)), ORACLE])
def test_the_text_is_the_same_whatever_a_spender_cuts(cost, drafter):
    assert text(run(drafter, budget=Spending(cost))) == PLAIN


def test_drafts_that_do_not_pay_are_not_verified():
    unlikely = DraftFrom(
        lambda context, budget: Draft.chain([1, 2][: budget.reach], confidence=0.1)
    )
    steps = run(unlikely, budget=Spending(LinearCost(0.2)))
    assert all(len(step.draft) == 0 for step in steps)
    steps = run(unlikely, budget=Spending(LinearCost(0.05)))
    assert {len(step.draft) for step in steps[:20]} == {1}


def test_drafting_that_is_never_right_is_switched_off():
    asked = []

    def propose(context, budget):
        asked.append(budget.nodes)
        wrong = (PLAIN[len(context) - len(PROMPT)] + 1) % len(WORDS)
        return Draft.chain([wrong] * budget.reach, confidence=0.99)

    steps = run(DraftFrom(propose), budget=Spending(LinearCost(0.05)))
    assert text(steps) == PLAIN
    assert len(asked) < 10
    assert sum(len(step.draft) > 0 for step in steps) < 10


def test_no_draft_takes_the_room_of_the_targets_own_token():
    assert reach(Stop(), 0, 4, Budget(64)) == 3
    target = ToyTarget(MODEL, context_limit=len(PROMPT) + 9)
    steps = run(ORACLE, target=target, stop=Stop(), budget=Budget(64))
    assert [len(step.draft) for step in steps] == [8]
    assert len(text(steps)) == 9


class Watching(FixedBudget):
    """A fixed budget that remembers what it is told."""

    def __init__(self):
        super().__init__(Budget(4))
        self.told = []

    def observe(self, spent):
        self.told.append(spent)


def test_the_pass_that_computes_the_prompt_is_not_timed_and_every_other_is():
    spender = Watching()
    run(random_trees(len(WORDS)), budget=spender)
    assert spender.told[0].pass_seconds is None
    assert len(spender.told) > 2
    assert all(spent.pass_seconds > 0 for spent in spender.told[1:])
