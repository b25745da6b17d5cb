"""Many sequences at once: who joins when, who leaves, and that nobody notices the others."""

import logging

import pytest

from draftwood.batch import Request, decode_batch
from draftwood.batch import decoder as decoder_module
from draftwood.batch import request as request_module
from draftwood.budget.cost import GeometricCost, LinearCost
from draftwood.budget.measured import MeasuredCost
from draftwood.budget.spending import Spending
from draftwood.decode import decode
from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.none import NoDraft
from draftwood.errors import InvalidOption, InvalidTokens
from draftwood.sampling.chance import SeededChance
from draftwood.sampling.law import Sampling
from draftwood.testing import DraftFrom, ToyTarget, greedy_text, hash_model, random_trees
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel
from draftwood.verify.match import SampleAndMatch

ROW = hash_model(seed=5)
PROMPTS = [[1, 2, 3], [4], [0, 11, 5, 5, 7, 2], [3, 3], [9]]
COUNTS = [9, 3, 14, 1, 6]


class BatchToy(ToyTarget):
    """A toy that takes several sequences in a pass; `passes` lists how many each pass had."""

    batches = True

    def __init__(self, row, **options):
        super().__init__(row, **options)
        self.passes = []
        self.open_now = 0

    def open_batch(self, size):
        return ToyBatch(self, size)


class ToyBatch:
    padded = False

    def __init__(self, target, size):
        self.target, self.size, self.seats = target, size, []
        self.prompt_seconds, self.joined = 0.0, False

    def open(self, prompt):
        self.joined = True
        cursor = self.target.open(prompt)
        self.seats.append(cursor)
        self.target.open_now += 1
        assert len(self.seats) <= self.size
        close = cursor.close

        def leave():
            close()
            self.seats.remove(cursor)
            self.target.open_now -= 1

        cursor.close = leave
        return cursor

    def score(self, seats, drafts):
        assert set(map(id, seats)) == set(map(id, self.seats))
        self.target.passes.append(len(seats))
        self.prompt_seconds, self.joined = None if self.joined else 0.0, False
        return [seat.score(draft) for seat, draft in zip(seats, drafts, strict=True)]

    def close(self):
        assert not self.seats


def requests(verifier=Greedy, counts=COUNTS):
    return [
        Request(prompt, verifier(), Stop(count))
        for prompt, count in zip(PROMPTS, counts, strict=True)
    ]


def texts_of(events):
    texts, finishes = {}, {}
    for number, step in events:
        assert number not in finishes, "nothing comes after the end"
        texts.setdefault(number, []).extend(step.tokens.tolist())
        if step.finish is not None:
            finishes[number] = step.finish
    return [texts[n] for n in sorted(texts)], [finishes[n] for n in sorted(finishes)]


EXPECTED = [greedy_text(ROW, prompt, count) for prompt, count in zip(PROMPTS, COUNTS, strict=True)]


@pytest.mark.parametrize("target", [ToyTarget(ROW), BatchToy(ROW)], ids=["one by one", "batch"])
@pytest.mark.parametrize("max_batch", [1, 2, 3, 8])
@pytest.mark.parametrize("drafter", [NoDraft(), random_trees(12, seed=1)], ids=["plain", "trees"])
def test_every_sequence_gets_its_own_text(target, max_batch, drafter):
    events = decode_batch(target, drafter, requests(), max_batch=max_batch, budget=Budget(6))
    texts, finishes = texts_of(events)
    assert texts == EXPECTED
    assert finishes == ["length"] * 5


def test_sequences_join_when_others_leave():
    target = BatchToy(ROW)
    list(decode_batch(target, NoDraft(), requests(), max_batch=2))
    # pass    123456789.123456789
    # seat 0  000000000344444 4       of 9, 1 and 6 steps
    # seat 1  11122222222222222       of 3 and 14 steps
    assert target.passes == [2] * 16 + [1]
    assert target.open_now == 0


def test_requests_are_made_on_demand():
    made = []

    def ask():
        for number, request in enumerate(requests()):
            made.append(number)
            yield request

    events = decode_batch(BatchToy(ROW), NoDraft(), ask(), max_batch=2)
    assert made == []
    next(events)
    assert made == [0, 1]
    while not (event := next(events))[1].finish:
        pass
    assert (event[0], made) == (1, [0, 1])
    next(events)
    assert made == [0, 1, 2]
    list(events)
    assert made == [0, 1, 2, 3, 4]


def test_a_verifier_of_its_own_keeps_each_sequences_chance():
    sampling = Sampling(temperature=1.5)

    def chance(number):
        return SampleAndMatch(SeededChance(number), sampling)

    asked = [Request([number], chance(number), Stop(8)) for number in range(4)]
    texts, _ = texts_of(decode_batch(BatchToy(ROW), NoDraft(), asked, max_batch=3))
    for number, text in enumerate(texts):
        steps = decode(ToyTarget(ROW), NoDraft(), chance(number), [number], stop=Stop(8))
        assert [token for step in steps for token in step.tokens.tolist()] == text


def test_one_seed_makes_one_text_alone_and_among_others():
    verifier = SharedGumbel(GumbelNoise(3), Sampling(temperature=1.0))
    alone = [
        [
            token
            for step in decode(ToyTarget(ROW), NoDraft(), verifier, prompt, stop=Stop(10))
            for token in step.tokens.tolist()
        ]
        for prompt in PROMPTS
    ]
    asked = [Request(prompt, verifier, Stop(10)) for prompt in PROMPTS]
    for drafter in (NoDraft(), random_trees(12, seed=2)):
        assert texts_of(decode_batch(BatchToy(ROW), drafter, asked, max_batch=3))[0] == alone


def test_each_sequence_ends_by_its_own_rules():
    target = BatchToy(ROW, context_limit=None)
    end = EXPECTED[2][4]
    ended = EXPECTED[2][: EXPECTED[2].index(end) + 1]
    asked = [
        Request(PROMPTS[0], Greedy(), Stop(5)),
        Request(PROMPTS[2], Greedy(), Stop(14, end_tokens=(end,))),
        Request(PROMPTS[2], Greedy(), Stop(14, ends=(lambda tokens: 1,))),
    ]
    texts, finishes = texts_of(decode_batch(target, NoDraft(), asked))
    assert texts == [EXPECTED[0][:5], ended, EXPECTED[2][:1]]
    assert finishes == ["length", "stop", "stop"]


def test_a_drafter_that_fails_for_one_sequence_drafts_on_for_the_others(caplog):
    def propose(context, budget):
        if context[0] == 1:
            raise RuntimeError("not for prompts that begin with 1")
        return Draft.chain([1, 2, 3][: budget.reach])

    with caplog.at_level(logging.ERROR):
        events = list(decode_batch(BatchToy(ROW), DraftFrom(propose), requests()))
    assert texts_of(events)[0] == EXPECTED
    assert sum("goes on without drafts" in record.getMessage() for record in caplog.records) == 1
    drafted = {number for number, step in events if len(step.draft)}
    assert drafted == {1, 2, 4}


def test_drafts_are_cut_to_chains_where_the_target_takes_none_else():
    target = BatchToy(ROW, trees=False)
    events = list(decode_batch(target, random_trees(12), requests(), budget=Budget(6)))
    assert texts_of(events)[0] == EXPECTED
    assert all(step.draft.is_chain for _, step in events)
    assert any(len(step.draft) for _, step in events)


def test_drafts_keep_to_the_budget_and_to_what_is_left():
    drafter = DraftFrom(lambda context, budget: Draft.chain([1] * 20))
    for number, step in decode_batch(BatchToy(ROW), drafter, requests(), budget=Budget(4)):
        assert len(step.draft) <= min(4, COUNTS[number] - 1)


def test_what_one_sequence_says_its_namespace_keeps():
    opened = []

    class Asked:
        def open(self, prompt, *, namespace=""):
            opened.append((prompt.tolist(), namespace))
            return NoDraft().open(prompt)

    asked = [Request(as_tokens([1]), Greedy(), Stop(1), "a"), Request([2], Greedy(), Stop(1))]
    list(decode_batch(BatchToy(ROW), Asked(), asked))
    assert opened == [([1], "a"), ([2], "")]


def test_leaving_early_closes_all_sequences():
    target = BatchToy(ROW)
    events = decode_batch(target, NoDraft(), requests(), max_batch=3)
    next(events)
    assert target.open_now == 3
    events.close()
    assert target.open_now == 0


def test_the_seconds_of_a_shared_pass_are_shared(monkeypatch):
    now = 0.0
    monkeypatch.setattr(decoder_module, "perf_counter", lambda: now)
    monkeypatch.setattr(request_module, "perf_counter", lambda: now)

    class Slow(BatchToy):
        def open_batch(self, size):
            opened = super().open_batch(size)
            score = opened.score

            def slowly(seats, drafts):
                nonlocal now
                now += 1.0
                return score(seats, drafts)

            opened.score = slowly
            return opened

    target = Slow(ROW)
    events = list(decode_batch(target, NoDraft(), requests(counts=[2] * 5), max_batch=5))
    assert target.passes == [5, 5]
    assert [step.seconds.score for _, step in events] == [0.2] * 10


def test_no_requests_are_no_steps():
    assert list(decode_batch(BatchToy(ROW), NoDraft(), [])) == []


def test_a_batch_of_none_and_an_empty_prompt_are_refused():
    with pytest.raises(InvalidOption, match="max_batch is 0; use 1 or more"):
        decode_batch(ToyTarget(ROW), NoDraft(), [], max_batch=0)
    target = BatchToy(ROW)
    events = decode_batch(target, NoDraft(), [Request([1], Greedy()), Request([], Greedy())])
    with pytest.raises(InvalidTokens, match="prompt of request 1 has 0 tokens"):
        next(events)
    assert target.open_now == 0


class Together:
    """A drafter that serves all streams in a call; `calls` lists what it was asked, for how many.

    propose, observe: called with the number of calls so far, may raise.
    """

    def __init__(self, drafter, *, propose=lambda call: None, observe=lambda call: None):
        self.drafter, self.calls, self.closed = drafter, [], 0
        self.propose, self.observe = propose, observe

    def open(self, prompt, *, namespace=""):
        stream = self.drafter.open(prompt)
        close = stream.close

        def leave():
            self.closed += 1
            close()

        stream.close = leave
        return stream

    def propose_all(self, streams, budgets):
        self.calls.append(("propose", len(streams)))
        self.propose(len(self.calls))
        assert all(budget.reach for budget in budgets)
        return [stream.propose(budget) for stream, budget in zip(streams, budgets, strict=True)]

    def observe_all(self, streams, feedback):
        self.calls.append(("observe", len(streams)))
        self.observe(len(self.calls))
        for stream, each in zip(streams, feedback, strict=True):
            stream.observe(each)


def copies(context, budget):
    """What the target would say: always right."""
    return Draft.chain(greedy_text(ROW, context.tolist(), budget.reach))


def test_a_batch_drafter_is_asked_once_for_all():
    drafter = Together(DraftFrom(copies))
    events = list(decode_batch(BatchToy(ROW), drafter, requests(counts=[5] * 5), budget=Budget(2)))
    assert texts_of(events)[0] == [greedy_text(ROW, prompt, 5) for prompt in PROMPTS]
    # 3 tokens a step, then 2
    assert drafter.calls == [("propose", 5), ("observe", 5)] * 2
    assert drafter.closed == 5


def test_drafts_of_a_batch_drafter_keep_to_each_budget():
    drafter = Together(DraftFrom(lambda context, budget: Draft.chain([1] * 20)))
    for number, step in decode_batch(BatchToy(ROW), drafter, requests(), budget=Budget(4)):
        assert len(step.draft) <= min(4, COUNTS[number] - 1)


def failing(at):
    def fail(call):
        if call == at:
            raise RuntimeError("this call fails")

    return fail


def test_when_a_call_for_all_drafts_fails_each_stream_is_asked_by_itself(caplog):
    def propose(context, budget):
        if context[0] == 1:
            raise RuntimeError("not for prompts that begin with 1")
        return copies(context, budget)

    drafter = Together(DraftFrom(propose), propose=failing(1))
    with caplog.at_level(logging.ERROR):
        events = list(decode_batch(BatchToy(ROW), drafter, requests()))
    assert texts_of(events)[0] == EXPECTED
    # one is to say a single token; one stream is dropped, the others move in a call for all
    assert drafter.calls == [("propose", 4), ("observe", 4)]
    messages = [record.getMessage() for record in caplog.records]
    assert sum("served one by one" in message for message in messages) == 1
    assert sum("this sequence goes on without drafts" in message for message in messages) == 1
    assert {number for number, step in events if len(step.draft)} == {1, 2, 4}


def test_when_a_call_to_move_all_fails_no_stream_that_ran_drafts_on(caplog):
    drafter = Together(DraftFrom(copies), observe=failing(2))
    with caplog.at_level(logging.ERROR):
        events = list(
            decode_batch(BatchToy(ROW), drafter, requests(), max_batch=2, budget=Budget(2))
        )
    assert texts_of(events)[0] == EXPECTED
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["drafter failed in observe_all; 2 sequences go on without drafts"]
    assert drafter.calls[-1][0] == "observe"  # the next ones are served in a call for all again
    first = [number for number, step in events if len(step.draft)]
    assert first.count(0) == first.count(1) == 1  # the drafts before the failure
    assert 2 in first  # a stream that was opened later is whole
    assert drafter.closed == 5


@pytest.mark.parametrize("target", [ToyTarget(ROW), BatchToy(ROW)], ids=["one by one", "batch"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("cost", [LinearCost(0.05), GeometricCost(1.3), MeasuredCost()])
def test_texts_are_the_same_with_and_without_spending(target, cost, padded, monkeypatch):
    monkeypatch.setattr(ToyBatch, "padded", padded, raising=False)
    for drafter in (DraftFrom(copies), random_trees(12, seed=3), NoDraft()):
        spending = Spending(cost)
        events = list(decode_batch(target, drafter, requests(), max_batch=3, budget=spending))
        assert texts_of(events)[0] == EXPECTED


def test_one_budget_is_spent_over_all_sequences():
    sure = {1: 0.9, 4: 0.2, 0: 0.3, 3: 0.8, 9: 0.0}

    def propose(context, budget):
        return Draft.chain([1], confidence=sure[int(context[0])])

    # at plain decoding's pace five sequences say five tokens a step: a node costs 0.4
    spending = Spending(LinearCost(0.08))
    asked = requests(counts=[9] * 5)
    events = decode_batch(BatchToy(ROW), DraftFrom(propose), asked, budget=spending)
    assert [len(next(events)[1].draft) for _ in range(5)] == [1, 0, 0, 1, 0]
    events.close()


def test_a_spender_is_told_every_pass():
    told = []

    class Watched(Spending):
        def observe(self, spent):
            told.append(spent)
            super().observe(spent)

    cost, target = MeasuredCost(), BatchToy(ROW)
    watched = Watched(cost, limit=Budget(1))
    events = list(decode_batch(target, DraftFrom(copies), requests(), max_batch=2, budget=watched))
    assert [len(spent.drafts) for spent in told] == target.passes
    assert sum(sum(spent.accepted) for spent in told) == sum(len(s.verdict.path) for _, s in events)
    assert told[0].pass_seconds is None  # the prompts were computed in it
    timed = [spent.pass_seconds for spent in told if spent.pass_seconds is not None]
    assert timed
    assert all(seconds > 0.0 for seconds in timed)
    unknown = MeasuredCost().seconds(0, batch=2, context=8)
    assert cost.seconds(0, batch=2, context=8) != unknown
