"""Cost curves that are given, and the one that is measured."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftwood.budget.cost import (
    CurveCost,
    GeometricCost,
    LearnedCost,
    LinearCost,
    TabledCost,
    times,
)
from draftwood.budget.isotonic import isotonic
from draftwood.budget.measured import MeasuredCost
from draftwood.errors import ContextTooLong, InvalidOption
from draftwood.testing import ToyTarget, hash_model


def test_a_line():
    cost = LinearCost(0.25, step=2.0)
    assert [cost.seconds(n) for n in (0, 1, 8)] == [2.0, 2.25, 4.0]
    assert cost.seconds(4, batch=16, context=1000) == 3.0


def test_a_geometric_curve():
    cost = GeometricCost(1.05)
    assert cost.seconds(0) == 1.0
    assert cost.seconds(14) == pytest.approx(1.9799, abs=1e-4)
    assert cost.seconds(10**6) == float("inf")


def test_a_curve_through_points():
    cost = CurveCost.of([[8, 1.4], [0, 1.0], [4, 1.0]])
    assert [cost.seconds(n) for n in (0, 2, 4, 6, 8)] == pytest.approx([1.0, 1.0, 1.0, 1.2, 1.4])
    assert cost.seconds(12) == pytest.approx(1.8)  # the last slope goes on


def test_a_curve_may_fall_where_it_was_measured_so_but_not_beyond():
    cost = CurveCost.of([[0, 1.0], [4, 1.5], [8, 1.3]])
    assert cost.seconds(6) == pytest.approx(1.4)
    assert cost.seconds(100) == 1.3


def test_batch_sizes_between_two_curves_are_interpolated():
    cost = CurveCost.of({4: [[0, 1.0], [10, 2.0]], 8: [[0, 2.0], [10, 4.0]]})
    assert [cost.seconds(10, batch=b) for b in (1, 4, 5, 6, 8, 99)] == [
        2.0,
        2.0,
        2.5,
        3.0,
        4.0,
        4.0,
    ]


def test_curves_are_read_from_json(tmp_path):
    one, several = tmp_path / "one.json", tmp_path / "several.json"
    one.write_text(json.dumps({"points": [[0, 1.0], [16, 1.5]]}))
    several.write_text(json.dumps({"batches": {"16": [[0, 3.0]], "1": [[0, 1.0], [2, 1.5]]}}))
    assert CurveCost.read(one).seconds(8) == 1.25
    assert CurveCost.read(several).seconds(0, batch=16) == 3.0
    assert CurveCost.read(several).seconds(2, batch=1) == 1.5


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LinearCost(-0.1), "per_token is -0.1"),
        (lambda: LinearCost(0.1, step=0.0), "step is 0.0"),
        (lambda: GeometricCost(0.9), "growth is 0.9"),
        (lambda: CurveCost.of([]), "has no points"),
        (lambda: CurveCost.of({}), "has no points"),
        (lambda: CurveCost.of([[1, 1.0]]), "begins at 1 drafted tokens; time a plain step"),
        (lambda: CurveCost.of([[0, 1.0], [2, 0.0]]), r"point \[2, 0\] is no time"),
        (lambda: CurveCost.of([[0, 1.0], [2, 1.1], [2, 1.2]]), "two points at 2"),
        (lambda: CurveCost.of([[0, 1.0, 2.0]]), "is no .drafted, time. pair"),
        (lambda: CurveCost.of({0: [[0, 1.0]]}), "batch size 0"),
    ],
)
def test_what_is_no_cost_is_refused(make, says):
    with pytest.raises(InvalidOption, match=says):
        make()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"points": 3}'])
def test_a_file_that_is_no_curve_is_refused(tmp_path, text):
    path = tmp_path / "curve.json"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=r"curve\.json"):
        CurveCost.read(path)


@pytest.mark.parametrize(
    "cost",
    [
        LinearCost(0.01),
        GeometricCost(1.05),
        CurveCost.of({1: [[0, 1.0], [5, 1.4], [9, 1.3]], 8: [[0, 2.0]]}),
        MeasuredCost(),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_all_times_at_once_are_those_of_one_after_the_other(cost, batch):
    for most in (0, 1, 63, 64, 65, 200):
        found = times(cost, most, batch=batch)
        assert found.tolist() == [cost.seconds(n, batch=batch) for n in range(most + 1)]


def test_times_of_a_cost_that_knows_single_ones_only():
    class Steps:
        def seconds(self, drafted, *, batch=1, context=0):
            return float(1 + (drafted + batch) // 8)

    assert times(Steps(), 8, batch=2).tolist() == [1.0] * 6 + [2.0] * 3


def test_a_cost_that_gives_tables_is_asked_once_for_all_its_times():
    class Table:
        asked = 0

        def seconds(self, drafted, *, batch=1, context=0):
            raise AssertionError("asked for a single time")

        def times(self, most, *, batch=1, context=0):
            self.asked += 1
            return np.arange(1.0, most + 2) * batch + context

    table = Table()
    assert isinstance(table, TabledCost)
    assert times(table, 3, batch=2, context=10).tolist() == [12.0, 14.0, 16.0, 18.0]
    assert table.asked == 1


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 10)), max_size=12))
def test_isotonic_is_the_nearest_sequence_that_never_falls(pairs):
    heights, weights = [h for h, _ in pairs], [w for _, w in pairs]
    found = isotonic(heights, weights)
    assert len(found) == len(heights)
    assert all(b >= a - 1e-9 for a, b in pairwise(found))
    # the least-squares solution by its min-max formula
    n = len(heights)

    def mean(a, b):
        mass = sum(weights[a : b + 1])
        return (
            sum(w * h for w, h in zip(weights[a : b + 1], heights[a : b + 1], strict=True)) / mass
        )

    for i, value in enumerate(found):
        best = max(min(mean(a, b) for b in range(i, n)) for a in range(i + 1))
        assert value == pytest.approx(best, abs=1e-6)


# measured


def true_seconds(drafted, batch):
    """A machine with tiles of 8 rows: flat within one, 10 ms for the first."""
    return 0.010 + 0.004 * ((drafted + batch - 1) // 8)


def test_a_measured_cost_learns_a_curve_with_steps_from_noisy_passes():
    random = np.random.default_rng(0)
    cost = MeasuredCost()
    for _ in range(3000):
        drafted = int(random.integers(0, 33))
        stall = 0.2 if random.random() < 0.05 else 0.0
        noise = float(np.exp(0.1 * random.normal()))
        cost.observe(drafted, true_seconds(drafted, 1) * noise + stall, context=200)
    for drafted in (0, 4, 12, 20, 28):
        assert cost.seconds(drafted, context=200) == pytest.approx(
            true_seconds(drafted, 1), rel=0.15
        )
    curve = times(cost, 64, context=200)
    assert (np.diff(curve) >= 0.0).all()


def test_before_anything_was_timed_a_drafted_token_adds_three_percent():
    cost = MeasuredCost()
    assert cost.seconds(10) == pytest.approx(1.3 * cost.seconds(0))
    cost.observe(0, 0.02)
    assert cost.seconds(0) == pytest.approx(0.02)
    assert cost.seconds(10) == pytest.approx(0.026)


def test_a_batch_size_that_was_not_timed_is_read_off_the_others():
    cost = MeasuredCost()
    for batch in (1, 2, 8):
        for drafted in (0, 4, 16, 32):
            for _ in range(5):
                cost.observe(drafted, 0.01 + 0.001 * batch + 0.0005 * drafted, batch=batch)
    assert cost.seconds(0, batch=4) == pytest.approx(0.014, rel=0.1)
    assert cost.seconds(24, batch=4) == pytest.approx(0.026, rel=0.1)


def test_beyond_the_largest_draft_a_curve_goes_on_no_flatter():
    cost = MeasuredCost()
    for drafted in (0, 8):
        for _ in range(20):
            cost.observe(drafted, 0.01 + 0.002 * drafted)
    assert cost.seconds(40) >= 0.01 + 0.002 * 40 * 0.9


def test_a_machine_that_slows_down_is_followed():
    cost = MeasuredCost()
    for seconds in (0.010, 0.030):
        for _ in range(200):
            cost.observe(0, seconds)
            cost.observe(8, 2 * seconds)
    assert cost.seconds(0) == pytest.approx(0.030, rel=0.1)
    assert cost.seconds(8) == pytest.approx(0.060, rel=0.1)


def test_what_the_first_tokens_cost_is_not_carried_on():
    cost = MeasuredCost()
    for _ in range(20):
        for drafted, seconds in ((0, 0.010), (1, 0.018), (8, 0.018), (16, 0.020)):
            cost.observe(drafted, seconds)
    assert cost.seconds(32) == pytest.approx(0.024, rel=0.05)  # 2 ms for 8 tokens go on


def test_times_with_a_long_tail_do_not_drift_apart_from_older_ones():
    random = np.random.default_rng(1)
    cost = MeasuredCost()
    for drafted in (0, 8):
        for _ in range(5):
            cost.observe(drafted, 0.010 + 0.0005 * drafted)
    for _ in range(900):  # drafts of 8 are not timed again
        cost.observe(0, 0.010 * float(np.exp(random.exponential(0.5))))
    assert 1.1 < cost.seconds(8) / cost.seconds(0) < 1.7


def test_a_longer_context_begins_with_the_curve_of_a_shorter_one():
    cost = MeasuredCost()
    for _ in range(10):
        for drafted, seconds in ((0, 0.010), (8, 0.030), (16, 0.031)):
            cost.observe(drafted, seconds, context=100)
    assert cost.seconds(8, context=3000) == cost.seconds(8, context=100)
    cost.observe(0, 0.020, context=3000)
    ratio = cost.seconds(8, context=3000) / cost.seconds(0, context=3000)
    assert ratio == pytest.approx(3.0, rel=0.1)


def test_what_was_timed_long_ago_is_forgotten():
    cost = MeasuredCost()
    for _ in range(10):
        cost.observe(8, 1.0)
    for _ in range(5000):
        cost.observe(0, 0.010)
    assert cost.seconds(8) < 0.1


@given(
    st.lists(st.tuples(st.integers(0, 300), st.floats(1e-6, 100), st.integers(1, 300)), max_size=40)
)
def test_whatever_was_timed_times_are_positive_and_never_fall(passes):
    cost = MeasuredCost()
    for drafted, seconds, batch in passes:
        cost.observe(drafted, seconds, batch=batch)
    for batch in {1, 7, *(batch for _, _, batch in passes)}:
        curve = times(cost, 400, batch=batch)
        assert curve[0] > 0.0
        assert (np.diff(curve) >= -1e-9 * curve[:-1]).all()


def test_what_is_no_time_is_left_out():
    cost = MeasuredCost()
    for seconds in (0.0, -1.0, float("inf"), float("nan")):
        cost.observe(3, seconds)
    assert cost.seconds(10) == pytest.approx(1.3 * cost.seconds(0))
    assert isinstance(cost, LearnedCost)
    assert not isinstance(LinearCost(0.1), LearnedCost)


def test_a_sweep_times_every_size():
    cost, target = MeasuredCost(), ToyTarget(hash_model())
    cost.sweep(target, [1, 2, 3], sizes=(0, 4), batches=(1, 2), rounds=3)
    assert target.calls == (2 + 3 * 2) * (1 + 2)  # warm-up and rounds, a cursor a sequence
    for drafted, batch in ((0, 1), (8, 2)):
        unknown = MeasuredCost().seconds(drafted, batch=batch, context=3)
        assert cost.seconds(drafted, batch=batch, context=3) != unknown
    calls = target.calls
    cost.sweep(target, [1, 2, 3], seconds=0.0)
    assert target.calls == calls
    with pytest.raises(InvalidOption, match="0 rounds"):
        cost.sweep(target, [1], rounds=0)


class BatchToy(ToyTarget):
    """A toy that could take several sequences in a pass, and notes when it is asked to."""

    batches = True

    def __init__(self, **options):
        super().__init__(hash_model(), **options)
        self.opened, self.sizes = [], []

    def open(self, prompt):
        self.opened.append("cursor")
        cursor = super().open(prompt)
        self._note(cursor)
        return cursor

    def open_batch(self, size):
        self.opened.append("batch")
        return ToyBatch(self)

    def _note(self, cursor):
        score = cursor.score

        def noted(draft):
            self.sizes.append(len(draft))
            return score(draft)

        cursor.score = noted


class ToyBatch:
    def __init__(self, target):
        self.target = target

    def open(self, prompt):
        return ToyTarget.open(self.target, prompt)

    def score(self, seats, drafts):
        return [seat.score(draft) for seat, draft in zip(seats, drafts, strict=True)]

    def close(self):
        pass


def test_a_sweep_runs_the_passes_that_decoding_runs():
    target = BatchToy()
    MeasuredCost().sweep(target, [1, 2, 3], sizes=(0,), batches=(1,), rounds=1)
    assert target.opened == ["cursor"]  # `decode` has one cursor
    MeasuredCost().sweep(target, [1, 2, 3], sizes=(0,), batches=(2,), rounds=1)
    assert target.opened == ["cursor", "batch"]


def test_a_sweep_keeps_within_a_tiny_context():
    target = BatchToy(context_limit=10)
    MeasuredCost().sweep(target, [1, 2, 3], sizes=(0, 6, 7, 24), rounds=1)
    assert sorted(set(target.sizes)) == [0, 6]  # the target's own token needs room, too


def test_a_sweep_shortens_a_prompt_that_the_context_cannot_hold():
    class Tiny(BatchToy):
        def open(self, prompt):
            if len(prompt) >= 10:
                raise ContextTooLong("too long")
            return super().open(prompt)

    target = Tiny(context_limit=10)
    MeasuredCost().sweep(target, [0] * 32, sizes=(0, 1, 2), rounds=1)
    assert sorted(set(target.sizes)) == [0, 1]  # behind 8 tokens of prompt
