"""Sessions: what an engine may do, and what nobody can do to it."""

from __future__ import annotations

import logging
import os
import sys
import threading

import numpy as np
import pytest

from draftwood.budget.cost import LinearCost
from draftwood.budget.measured import MeasuredCost
from draftwood.budget.spending import Spending
from draftwood.draft import Budget, Draft
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.mix.blend import Blend
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.errors import DraftwoodError
from draftwood.guarded import FAILING_STEPS
from draftwood.sessions import DraftBatch, Sessions, TokenRows

POEM = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4]
VOCAB = 12


def recall():
    return RecallDrafter(max_tokens=4096)


def lookup():
    return PromptLookup(nodes=16)


DRAFTERS = {
    "recall": recall,
    "suffix": SuffixDrafter,
    "suffix tree": lambda: SuffixDrafter(mode="tree", alpha=4.0, floor=0.0),
    "lookup": lookup,
    "blend": lambda: Blend([recall(), lookup()]),
}


def sessions_of(drafter, **options):
    given = {"vocab_size": VOCAB, "context_limit": 1000, "nodes": 8} | options
    return Sessions(drafter, **given)


class Faulty:
    """A drafter that does what it is told to, in the verb that it is told to do it in."""

    def __init__(self, verb="propose", draft=None):
        self.verb, self.draft = verb, draft
        self.closed = 0

    def act(self, verb):
        if self.verb == verb and self.draft is None:
            raise RuntimeError(f"wrong in {verb}")

    def open(self, prompt, *, namespace=""):
        self.act("open")
        return FaultyStream(self)

    def close(self):
        pass


class FaultyStream:
    def __init__(self, drafter):
        self.drafter = drafter

    def propose(self, budget):
        self.drafter.act("propose")
        return self.drafter.draft or Draft.empty()

    def observe(self, feedback):
        self.drafter.act("observe")

    def close(self):
        self.drafter.closed += 1
        self.drafter.act("close")


@pytest.mark.parametrize("name", DRAFTERS)
@pytest.mark.parametrize("trees", [True, False])
@pytest.mark.parametrize("cost", [None, LinearCost(0.01), MeasuredCost])
def test_every_drafter_drafts_what_comes_and_is_counted(name, trees, cost):
    cost = cost() if cost is MeasuredCost else cost
    spending = None if cost is None else Spending(cost, limit=Budget(8))
    sessions = sessions_of(DRAFTERS[name](), trees=trees, spender=spending)
    sessions.open("a", POEM)
    at = 1
    sessions.open("b", POEM[:4])
    drafts = sessions.step(["a", "b"], [[], []])
    came = [[POEM[0]], [7]]
    while at < len(POEM) - 1:
        drafts = sessions.step(["a", "b"], came, pass_seconds=1.0)
        assert len(drafts) == 2
        if not trees:
            assert all(draft.is_chain for draft in drafts)
        chain = drafts.chains()[0]
        right = 0
        while right < min(len(chain), len(POEM) - 1 - at) and chain[right] == POEM[at + right]:
            right += 1
        came = [POEM[at : at + right + 1], [7]]
        at += right + 1
    assert sessions.failures == {}
    assert 0 < sessions.accepted <= sessions.drafted
    sessions.close("a")
    sessions.close("b")
    assert len(sessions) == 0


@pytest.mark.parametrize("name", ["recall", "suffix"])
def test_what_one_sequence_said_is_drafted_for_the_next_in_its_namespace_only(name):
    sessions = sessions_of(DRAFTERS[name]())
    sessions.open(1, [1, 2], namespace="a")
    sessions.step([1], [POEM])
    sessions.close(1)
    for key, namespace, known in ((2, "a", True), (3, "b", False)):
        sessions.open(key, POEM[:5], namespace=namespace)
        assert bool(sessions.step([key], [[]]).chains()[0][:1] == [POEM[5]]) is known


@pytest.mark.parametrize("name", ["recall", "suffix"])
def test_a_recovered_sequence_shares_its_output_as_if_it_had_been_generated_here(name):
    here, recovered = (sessions_of(DRAFTERS[name]()) for _ in range(2))
    here.open(1, POEM[:6])
    here.step([1], [POEM[6:]])
    recovered.open(1, POEM, generated=len(POEM) - 6)
    for sessions in (here, recovered):
        assert sessions.length(1) == len(POEM)
        sessions.close(1)
        sessions.open(2, [11, *POEM[6:10]])
    first, second = (each.step([2], [[]]) for each in (here, recovered))
    assert first.tokens.tolist() == second.tokens.tolist()
    assert first.tokens.tolist()[0] == POEM[10]


@pytest.mark.parametrize("name", ["recall", "suffix"])
def test_an_abandoned_sequence_teaches_nothing_more(name):
    sessions = sessions_of(DRAFTERS[name]())
    sessions.open(1, [1])
    sessions.step([1], [POEM])
    sessions.abandon(1)
    sessions.open(2, POEM[:6])
    assert sessions.step([2], [[]]).lists() == [[]]
    assert sessions.failures == {}


def test_an_abandoned_sequence_of_a_suffix_tree_leaves_what_others_said():
    sessions = sessions_of(SuffixDrafter())
    for key, said in ((1, POEM), (2, POEM[:12])):
        sessions.open(key, [1])
        sessions.step([key], [said])
    sessions.abandon(1)
    sessions.open(3, POEM[:6])
    (chain,) = sessions.step([3], [[]]).chains()
    assert chain
    assert chain == POEM[6 : 6 + len(chain)]
    assert len(chain) <= 6  # all that is left
    sessions.abandon(2)
    assert sessions.step([3], [[]]).lists() == [[]]
    assert sessions.failures == {}


def test_rooms_and_the_context_limit_bound_every_path():
    repeated = [1, 2, 3, 4] * 4
    sessions = sessions_of(recall(), context_limit=20, nodes=8)
    sessions.open(1, repeated)
    assert [max(d.height for d in sessions.step([1], [[]], room=room)) for room in (9, 3, 1)] == [
        3,  # 20 - 16 - 1
        2,
        0,
    ]
    assert sessions.step([1], [[]], room=[2]).lists() == [[1]]
    sessions.step([1], [[1, 2, 3, 4]])
    assert sessions.step([1], [[]]).lists() == [[]]  # the context is full
    assert sessions.step([1], [[1]]).lists() == [[]]
    assert sessions.failures == {}


@pytest.mark.parametrize("name", ["recall", "suffix", "lookup"])
def test_rows_of_a_matrix_are_read_in_place(name):
    lists, matrices = (sessions_of(DRAFTERS[name]()) for _ in range(2))
    texts = [POEM[:9], POEM[3:8]]
    for key, text in enumerate(texts):
        lists.open(key, text)
        matrices.open(key, text)
    matrix = np.zeros((4, 64), np.int32)
    for more in ([[], []], [[3, 5], [1]], [[8], [2, 3]]):
        starts = np.array([len(text) for text in texts])
        texts = [text + new for text, new in zip(texts, more, strict=True)]
        for row, text in zip(matrix, texts, strict=False):
            row[: len(text)] = text
        ends = np.array([len(text) for text in texts], np.int32)
        expected = lists.step([0, 1], more).lists()
        assert matrices.step([0, 1], TokenRows(matrix, ends, starts)).lists() == expected
    lists.step([0, 1], [[1], [2]])
    matrix[0, ends[0]], matrix[1, ends[1]] = 1, 2
    expected = lists.step([0, 1], [[], []]).lists()
    assert matrices.step([0, 1], TokenRows(matrix, ends + 1)).lists() == expected  # whole rows
    assert matrices.failures == lists.failures == {}


WRONG_ROWS = {
    "negative": [-1],
    "beyond the vocabulary": [VOCAB],
    "beyond int32": [2**40],
    "no ints": [1.5],
    "floats that are whole": np.array([1.0]),
    "words": "12",
    "bools": [True],
    "two dimensions": np.zeros((2, 2), np.int32),
    "nothing at all": None,
    "nested": [[1]],
}


@pytest.mark.parametrize("name", ["recall", "lookup"])
@pytest.mark.parametrize("wrong", WRONG_ROWS)
def test_wrong_tokens_cost_that_sequence_its_drafts_and_no_other(name, wrong, caplog):
    sessions = sessions_of(DRAFTERS[name](), spender=Spending(LinearCost(0.0), limit=Budget(8)))
    for key in "ab":
        sessions.open(key, [1, 2, 3, 1, 2])
    sessions.step("ab", [[], []])
    for _ in range(3):
        drafts = sessions.step("ab", [WRONG_ROWS[wrong], []]).lists()
        assert drafts[0] == []
        assert drafts[1][:1] == [3]
    assert sum(sessions.failures.values()) == 3
    assert len(caplog.records) == 1
    assert sessions.step("ab", [[3], [3]]).lists()[0] == []  # it has lost its place
    sessions.close("a")
    sessions.open("a", [1, 2, 3, 1, 2])
    assert sessions.step("ab", [[], []]).lists()[0][:1] == [3]


def test_tokens_may_be_any_integers():
    sessions = sessions_of(recall())
    sessions.open(1, [1, 2, 3])
    for row in ([np.int64(1)], (2,), np.array([3], np.int64), np.array([1], np.uint8), [2]):
        drafts = sessions.step([1], [row])
    assert sessions.length(1) == 8
    assert drafts.lists()[0][:1] == [3]
    assert sessions.failures == {}


@pytest.mark.parametrize("name", ["recall", "lookup"])
def test_wrong_keys_are_counted_and_get_no_draft(name, caplog):
    sessions = sessions_of(DRAFTERS[name]())
    sessions.open("a", [1, 2, 3, 1, 2])
    drafts = sessions.step(["?", "a", "a", []], [[1], [], [], [1]])
    assert [len(each) > 0 for each in drafts.lists()] == [False, True, False, False]
    sessions.close("?")
    sessions.abandon([])
    assert sessions.failures == {"unknown key": 4, "key twice in a step": 1}
    assert len(caplog.records) == 2
    sessions.open("a", [5, 6, 5])
    assert sessions.failures["key opened twice"] == 1
    assert sessions.step(["a"], [[]]).lists()[0][:1] == [6]


def test_calls_that_make_no_sense_give_empty_drafts():
    sessions = sessions_of(recall())
    sessions.open(1, [1, 2, 1])
    assert len(sessions.step([1], [])) == 1
    assert len(sessions.step(None, None)) == 0
    assert len(sessions.step([1], [[]], room=[1, 2])) == 1
    assert len(sessions.step([1], [[]], room="much")) == 1
    assert len(sessions.step([1], TokenRows(np.zeros((1, 4)), [4]))) == 1
    assert len(sessions.step([1], TokenRows(np.zeros((1, 4), np.int32), [9]))) == 1
    assert len(sessions.step([1], TokenRows(np.zeros((0, 4), np.int32), []))) == 1
    assert sessions.recognize(None) == []
    assert sessions.recognize([None, 3]) == [None, None]
    sessions.open(2, ["a"])
    sessions.open(3, [VOCAB])
    sessions.open(4, [1], generated=2)
    sessions.open(5, [1], prediction=[[VOCAB]])
    assert sessions.failures["open with wrong arguments"] == 4
    assert sessions.step([2, 3, 4, 5], [[1], [1], [1], [1]]).lists() == [[], [], [], []]
    assert sessions.drafting


@pytest.mark.parametrize("second", [[7, 8, 9, 10], [7, 8, 9]], ids=["as long", "of another length"])
def test_each_of_several_predictions_is_drafted_from(second):
    sessions = sessions_of(recall())
    first = [3, 1, 4, 5]
    for key, likely in enumerate([first, [first, second], (np.array(first), np.array(second))]):
        sessions.open(key, [0, 2], prediction=likely)
        drafted = [sessions.step([key], [[token]]).lists()[0] for token in (first[0], 11)]
        assert drafted[0][0] == 1
        sessions.abandon(key)
        sessions.open(key, [0, 2], prediction=likely)
        drafted = sessions.step([key], [[second[0]]]).lists()[0]
        assert (drafted[:1] == [8]) == (key > 0)
    assert not sessions.failures


@pytest.mark.parametrize("verb", ["open", "propose", "observe"])
def test_a_drafter_that_keeps_raising_is_switched_off(verb, caplog):
    sessions = sessions_of(Faulty(verb))
    for key in range(FAILING_STEPS + 3):
        sessions.open(key, [1, 2])
        assert sessions.step([key], [[1]]).lists() == [[]]
        assert sessions.step([key], [[1]]).lists() == [[]]
        sessions.close(key)
    assert sessions.failures == {"drafter": FAILING_STEPS}
    assert not sessions.drafting
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.ERROR]
    assert "goes on without it" in caplog.records[-1].message


def test_a_stream_that_cannot_be_closed_is_counted():
    sessions = sessions_of(Faulty("close"))
    sessions.open(1, [1])
    sessions.close(1)
    assert sessions.failures == {"drafter": 1}


def trusted(tokens, parents, confidence=None, dtype=np.int32):
    n = len(tokens)
    sure = np.ones(n, np.float32) if confidence is None else confidence
    return Draft.trusted(
        np.array(tokens, dtype), np.array(parents, np.int32), sure, np.zeros(n, np.uint8)
    )


WRONG_DRAFTS = {
    "beyond the vocabulary": trusted([1, VOCAB], [-1, 0]),
    "negative": trusted([-3], [-1]),
    "another type": trusted([1], [-1], dtype=np.int64),
    "a parent after its child": trusted([1, 2], [1, -1]),
    "a parent before the context": trusted([1], [-2]),
    "its own parent": trusted([1], [0]),
    "fewer parents": trusted([1, 2], [-1]),
    "fewer confidences": trusted([1, 2], [-1, 0], np.ones(1, np.float32)),
    "no draft": [1, 2, 3],
}


@pytest.mark.parametrize("wrong", WRONG_DRAFTS)
def test_a_wrong_draft_never_reaches_the_engine(wrong, caplog):
    sessions = sessions_of(Faulty(draft=WRONG_DRAFTS[wrong]))
    for key in range(3):
        sessions.open(key, [1, 2])
        assert sessions.step([key], [[1]]).lists() == [[]]
    assert sessions.failures == {"drafter": 3}
    assert len(caplog.records) == 1


def test_a_draft_that_is_too_long_is_cut_counted_and_logged_once(caplog):
    sessions = sessions_of(Faulty(draft=trusted([1, 2, 3, 4], [-1, 0, 1, -1])), nodes=3, depth=2)
    sessions.open(1, [1])
    for _ in range(2):
        assert sessions.step([1], [[]]).trees() == [([1, 2], [-1, 0])]
    assert sessions.failures == {"draft too long": 2}
    assert len(caplog.records) == 1
    assert sessions.drafting


def test_history_of_another_vocabulary_costs_drafts_only(caplog):
    drafter = recall()
    drafter.recall.add([1, 2, 99, 99])
    sessions = sessions_of(drafter)
    for key in range(FAILING_STEPS + 2):
        sessions.open(key, [1, 2])
        assert sessions.step([key], [[]]).lists() == [[]]
    assert sessions.failures == {"drafter": FAILING_STEPS}
    assert not sessions.drafting


def test_a_spender_that_raises_leaves_drafts_uncut():
    class Broke:
        def plan(self, batch, context=0, *, padded=False):
            return Budget(4)

        def spend(self, drafts, context=0, *, padded=False):
            raise ArithmeticError

        def observe(self, spent):
            raise ArithmeticError

    sessions = sessions_of(recall(), spender=Broke())
    sessions.open(1, [1, 2, 3, 1, 2])
    assert sessions.step([1], [[]]).lists()[0][:1] == [3]
    assert sessions.step([1], [[3]]).lists()[0][:1] == [1]
    assert sessions.failures == {"spender": 1}


@pytest.mark.parametrize(
    "options", [{"vocab_size": 0}, {"vocab_size": -5}, {"context_limit": 0}, {"nodes": -1}]
)
def test_a_size_below_its_limit_is_refused_at_construction(options):
    with pytest.raises(DraftwoodError, match="use"):
        sessions_of(recall(), **options)


def test_a_measured_cost_learns_from_the_engines_passes(monkeypatch):
    # drafting takes no time, however busy this machine is
    monkeypatch.setattr(sys.modules[Sessions.__module__], "perf_counter", lambda: 0.0)
    spending = Spending(MeasuredCost(), limit=Budget(8))
    sessions = sessions_of(recall(), spender=spending)
    sessions.open(1, POEM)
    for _ in range(40):
        drafts = sessions.step([1], [[5]], pass_seconds=0.001)
    for _ in range(200):  # from now on a drafted token doubles the pass
        drafts = sessions.step([1], [[5]], pass_seconds=0.001 * (1 + len(drafts.tokens)))
    assert len(drafts.tokens) <= 1


@pytest.mark.parametrize("name", ["recall", "lookup"])
def test_a_key_that_a_new_request_takes_over_brings_no_tokens_of_its_own(name):
    """What a prompt holds was not generated: the pace would rise to hundreds of tokens a step."""
    spending = Spending(LinearCost(0.01), limit=Budget(8))
    sessions = sessions_of(DRAFTERS[name](), spender=spending)
    matrix = np.zeros((2, 600), np.int32)
    for turn in range(40):
        if turn:
            sessions.close(0)
        else:
            sessions.open(1, matrix[1, :500])
        sessions.open(0, matrix[0, : 500 if turn % 2 else 5])
        ends = np.array([sessions.length(0) + 1, sessions.length(1) + 1])
        sessions.step([0, 1], TokenRows(matrix, ends))
    assert spending.speedup(2) <= 9.0  # a draft of 8 nodes brings no more


def test_a_pass_whose_time_is_not_known_is_not_learned_from():
    cost = MeasuredCost()
    sessions = Sessions(
        RecallDrafter(), vocab_size=1000, context_limit=512, spender=Spending(cost), trees=False
    )
    sessions.open(1, [5] * 20)
    seen = []
    cost.observe = lambda *args, **_: seen.append(args)
    for seconds in (0.0, float("nan"), 0.0):
        sessions.step([1], [[5]], pass_seconds=seconds)
    assert seen == []
    for seconds in (0.001, 0.002):
        sessions.step([1], [[5]], pass_seconds=seconds)
    assert [taken for _, taken in seen] == [0.001, 0.002]


def test_a_sequence_may_have_a_drafter_of_its_own_on_the_same_history():
    drafter = RecallDrafter(max_tokens=4096, share=4)
    silent = RecallDrafter(recall=drafter.recall, share=2**31 - 1)
    sessions = Sessions(drafter, vocab_size=1000, context_limit=512)
    sessions.open("silent", [1, 2, 3], drafter=silent)
    sessions.step(["silent"], [list(range(10, 60))])
    sessions.abandon("silent")
    assert drafter.recall.written == 0
    sessions.open("heard", [1, 2, 3])
    sessions.step(["heard"], [list(range(10, 60))])
    sessions.abandon("heard")
    assert drafter.recall.written >= 48
    sessions.open("after", [4, 5, 6], drafter=silent)
    assert sessions.step(["after"], [[10, 11, 12, 13]]).lists()[0][:4] == [14, 15, 16, 17]
    assert not sessions.failures
    sessions.open("other", [1], drafter=RecallDrafter(max_tokens=4096))
    assert sessions.step(["other"], [[2]]).lists() == [[]]
    assert sessions.failures == {"open with wrong arguments": 1}


def test_threads_may_open_and_close_beside_the_steps_of_another():
    sessions = sessions_of(RecallDrafter(max_tokens=65536), nodes=16)
    sessions.open("main", POEM)
    stop = threading.Event()

    def churn(seed):
        rng = np.random.default_rng(seed)
        number = 0
        while not stop.is_set():
            key = (seed, number)
            sessions.open(key, rng.integers(0, VOCAB, 200))
            for _ in range(3):
                sessions.step([key], [rng.integers(0, VOCAB, 5).astype(np.int32)])
            (sessions.close if number % 2 else sessions.abandon)(key)
            number += 1

    threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for at in range(300):
        drafts = sessions.step(["main"], [[POEM[at % len(POEM)]]])
        assert all(0 <= token < VOCAB for token in drafts.tokens)
    stop.set()
    for thread in threads:
        thread.join()
    assert sessions.failures == {}
    assert len(sessions) == 1
    assert sessions.length("main") == len(POEM) + 300


def test_a_child_of_fork_gets_empty_drafts():
    sessions = sessions_of(recall())
    sessions.open(1, [1, 2, 3, 1, 2])
    child = os.fork()
    if not child:
        empty = sessions.step([1], [[]]).lists() == [[]] and sessions.recognize([[1]]) == [None]
        sessions.close(1)
        os._exit(0 if empty and 1 in sessions else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert sessions.step([1], [[]]).lists()[0][:1] == [3]


def test_a_child_of_fork_makes_sessions_of_its_own_whatever_threads_the_parent_had():
    def steps(sessions):
        keys = list(range(70))  # many enough for several threads
        for key in keys:
            sessions.open(key, POEM)
        return [sessions.step(keys, [[token]] * 70).lists() for token in (3, 1, 4)]

    parent = sessions_of(RecallDrafter(max_tokens=65536, threads=2))
    expected = steps(parent)
    assert any(expected[-1])
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            parent.step(list(range(70)), [[]] * 70)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(5):  # some of these forks meet a step of the other thread
            child = os.fork()
            if not child:
                own = steps(sessions_of(RecallDrafter(max_tokens=65536, threads=2)))
                parent.close(0)
                empty = parent.step([1], [[]]).lists() == [[]]
                os._exit(0 if own == expected and empty else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
    assert parent.failures == {}


def test_many_sequences_on_several_threads_draft_what_one_thread_does():
    def run(threads):
        drafter = RecallDrafter(max_tokens=65536, threads=threads)
        sessions = sessions_of(drafter)
        rng = np.random.default_rng(5)
        keys = list(range(80))
        for key in keys:
            sessions.open(key, rng.integers(0, 5, 30))
        said = []
        for _ in range(6):
            said += sessions.step(keys, [rng.integers(0, 5, 2).tolist() for _ in keys]).trees()
        return said

    assert run(4) == run(1)


def test_the_same_calls_give_the_same_drafts():
    def run():
        sessions = sessions_of(recall(), spender=Spending(LinearCost(0.02), limit=Budget(8)))
        rng = np.random.default_rng(3)
        for key in range(20):
            sessions.open(key, rng.integers(0, 5, 30))
        said = []
        for _ in range(20):
            rows = [rng.integers(0, 5, 3).tolist() for _ in range(20)]
            said += sessions.step(list(range(20)), rows).trees()
        return said

    assert run() == run()


def test_drafts_can_be_cut_and_spread_over_rows():
    drafts = DraftBatch.of(
        [Draft.tree([5, 6, 7], [-1, 0, 0]), Draft.tree([8, 9], [-1, 0])],
        np.asarray([1, 2], np.int32),
    )
    cut = drafts.cut([1, 9])
    assert cut.trees() == [([5], [-1]), ([8, 9], [-1, 0])]
    assert cut.last.tolist() == [1, 2]
    assert drafts.cut([0, -1]).lists() == [[], []]
    spread = drafts.spread([1, 3], 5)
    assert spread.lists() == [[], [5, 6, 7], [], [8, 9], []]
    assert spread.last.tolist() == [0, 1, 0, 2, 0]
    assert spread[1].parents.tolist() == [-1, 0, 0]
