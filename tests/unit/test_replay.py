from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftwood.decode import decode
from draftwood.draft import Budget, Draft, TokenIds, as_tokens
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.none import NoDraft
from draftwood.errors import InvalidDraft, InvalidOption, UnsupportedModel
from draftwood.logs.call import Record
from draftwood.protocols import Feedback, Verdict
from draftwood.replay.run import replay
from draftwood.targets.replay import ReplayTarget
from draftwood.verify.greedy import Greedy

PROMPT = as_tokens([1])


@dataclass
class Scripted:
    """Proposes the given trees in turn; remembers which requests it served, step by step."""

    drafts: list[Draft] = field(default_factory=list)
    served: list[int] = field(default_factory=list)

    def open(self, prompt: TokenIds, *, namespace: str = "") -> ScriptedStream:
        return ScriptedStream(self, int(prompt[0]), iter(list(self.drafts)))


@dataclass
class ScriptedStream:
    drafter: Scripted
    request: int
    drafts: Iterable[Draft]

    def propose(self, budget: Budget) -> Draft:
        self.drafter.served.append(self.request)
        return next(iter(self.drafts), Draft.empty())

    def observe(self, feedback: Feedback) -> None: ...

    def close(self) -> None: ...


def steps_of(response, *drafts):
    target = ReplayTarget(response)
    return list(decode(target, Scripted(list(drafts)), Greedy(), PROMPT, stop=target.stop()))


def text_of(steps):
    return [token for step in steps for token in step.tokens.tolist()]


def record(prompt, response, session=None):
    return Record(as_tokens(prompt), as_tokens(response), session)


#    context          recorded: 5 6 7 8
#     /   \
#    9     5           rows: context -> 5, 9 -> ?, 5 -> 6, 6 -> 7, 4 -> ?
#         / \
#        6   4
TREE = Draft.tree([9, 5, 6, 4], [-1, -1, 1, 1])


def test_rows_follow_the_record_along_matching_paths_only():
    rows = ReplayTarget([5, 6, 7, 8]).open(PROMPT).score(TREE)
    assert rows.argmax().tolist() == [5, -1, 6, 7, -1]
    assert rows.context.tolist() == [1]


def test_a_step_keeps_the_matching_path_and_one_recorded_token():
    steps = steps_of([5, 6, 7, 8], TREE)
    assert [step.tokens.tolist() for step in steps] == [[5, 6, 7], [8]]
    assert steps[0].verdict.path.tolist() == [1, 2]
    assert steps[-1].finish == "stop"


def test_a_draft_may_run_past_the_end_of_the_record():
    steps = steps_of([5, 6], Draft.chain([5, 6, 7, 8]))
    assert [step.tokens.tolist() for step in steps] == [[5, 6]]
    assert len(steps[0].draft) == 4


def test_the_last_recorded_token_can_be_the_targets_own():
    steps = steps_of([5, 6], Draft.chain([5]))
    assert [step.tokens.tolist() for step in steps] == [[5, 6]]


def test_rows_behind_a_commit_start_from_there():
    cursor = ReplayTarget([5, 6, 7, 8]).open(PROMPT)
    cursor.score(TREE)
    cursor.commit(TREE, Verdict(np.array([1], dtype=np.int32), 6))
    rows = cursor.score(Draft.chain([7, 7]))
    assert rows.argmax().tolist() == [7, 8, -1]
    assert rows.context.tolist() == [1, 5, 6]


def test_a_verdict_that_leaves_the_record_is_refused():
    cursor = ReplayTarget([5, 6, 7]).open(PROMPT)
    cursor.score(TREE)
    with pytest.raises(InvalidDraft, match="node 0 was accepted"):
        cursor.commit(TREE, Verdict(np.array([0], dtype=np.int32), None))
    with pytest.raises(InvalidDraft, match="token 9 was chosen where 5 is recorded"):
        cursor.commit(TREE, Verdict(np.empty(0, dtype=np.int32), 9))


def test_a_record_has_no_logits():
    rows = ReplayTarget([5]).open(PROMPT).score(Draft.empty())
    with pytest.raises(UnsupportedModel, match="Greedy"):
        rows.logits(0)


@given(
    response=st.lists(st.integers(0, 2), min_size=1, max_size=30),
    prompt=st.lists(st.integers(0, 2), min_size=1, max_size=10),
)
def test_whatever_is_drafted_the_record_comes_out(response, prompt):
    target = ReplayTarget(response)
    steps = list(decode(target, PromptLookup(), Greedy(), prompt, stop=target.stop()))
    assert text_of(steps) == response
    assert [step.finish for step in steps[:-1]] == [None] * (len(steps) - 1)


def test_figures_count_tokens_steps_and_positions():
    row = replay([record([1], [5, 6, 7, 8])], {"scripted": Scripted([TREE])})["scripted"].as_dict()
    assert (row["records"], row["tokens"], row["steps"]) == (1, 4, 2)
    assert row["tokens_per_step"] == 2.0
    assert row["drafted_per_step"] == 2.0
    assert row["acceptance_rate"] == 0.5
    assert row["accepted_by_position"] == [1, 1]
    assert row["drafted_by_position"] == [1, 1]
    assert row["draft_us_p99"] >= row["draft_us_p50"] > 0
    assert row["observe_us_per_token"] > 0
    json.dumps(row)


def test_a_replay_without_records_has_empty_figures():
    row = replay([], {"none": NoDraft()})["none"].as_dict()
    assert (row["tokens"], row["steps"], row["tokens_per_step"]) == (0, 0, 0.0)


def test_every_drafter_serves_every_record():
    records = [record([1], [2, 3]), record([2], [4, 5, 6])]
    figures = replay(iter(records), {"none": NoDraft(), "lookup": PromptLookup()})
    assert {name: each.stats.tokens for name, each in figures.items()} == {"none": 5, "lookup": 5}


def test_records_are_served_one_after_the_other():
    drafter = Scripted()
    replay([record([1], [7, 7]), record([2], [7, 7])], {"s": drafter})
    assert drafter.served == [1, 1, 2, 2]


def test_requests_in_flight_take_turns():
    drafter = Scripted()
    records = [record([1], [7, 7, 7]), record([2], [7, 7]), record([3], [7, 7, 7])]
    figures = replay(records, {"s": drafter}, interleave=2)["s"]
    assert drafter.served == [1, 2, 1, 2, 3, 1, 3, 3]
    assert figures.stats.sequences == 3


def test_a_session_waits_for_its_call_before_and_lets_others_pass():
    drafter = Scripted()
    records = [record([1], [7, 7], "a"), record([2], [7, 7], "a"), record([3], [7, 7], "b")]
    replay(records, {"s": drafter}, interleave=2)
    assert drafter.served == [1, 3, 1, 3, 2, 2]


@pytest.mark.parametrize("interleave", [1, 2, 5])
def test_the_limit_stops_at_exactly_so_many_output_tokens(interleave):
    records = [record([1], [7] * 4), record([2], [7] * 4), record([3], [7] * 4)]
    figures = replay(records, {"none": NoDraft()}, interleave=interleave, limit_tokens=6)
    assert figures["none"].stats.tokens == 6
    assert figures["none"].stats.sequences == 2


def test_a_limit_beyond_the_trace_changes_nothing():
    figures = replay([record([1], [7] * 4)], {"none": NoDraft()}, limit_tokens=100)
    assert figures["none"].stats.tokens == 4


def test_a_record_without_a_response_is_passed_over():
    figures = replay([record([1], []), record([2], [7])], {"none": NoDraft()})
    assert figures["none"].stats.sequences == 1


def test_progress_is_told_after_each_record():
    told: list[int] = []
    replay([record([1], [7] * 4), record([2], [7])], {"none": NoDraft()}, progress=told.append)
    assert told == [4, 5]


@pytest.mark.parametrize("options", [{"interleave": 0}, {"limit_tokens": 0}])
def test_limits_below_one_are_refused(options):
    with pytest.raises(InvalidOption, match="at least 1"):
        replay([], {}, **options)
