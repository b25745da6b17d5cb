"""Requests that come, go and fail while others run, as in a server."""

import threading
from time import sleep

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draftwood.batch import BatchDecoder, Request, decode_batch
from draftwood.draft import Budget
from draftwood.drafters.none import NoDraft
from draftwood.errors import ContextTooLong, InvalidOption, InvalidTokens
from draftwood.sampling.law import Sampling
from draftwood.testing import ToyTarget, greedy_text, hash_model, raising, random_trees
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy
from draftwood.verify.gumbel import GumbelNoise, SharedGumbel

ROW = hash_model(seed=5)


class Seats(ToyTarget):
    """A toy with a number of seats, which refuses prompts of more than 20 tokens.

    held: seats that are taken now.
    """

    batches = True
    padded = False
    prompt_seconds = None

    def __init__(self, row=ROW, **options):
        super().__init__(row, **options)
        self.held = 0
        self.size = 0
        self.closed = False
        self.on_score = lambda: None

    def open_batch(self, size):
        self.size = size
        return _Batch(self)


class _Batch:
    padded = False
    prompt_seconds = None

    def __init__(self, target):
        self.target = target

    def open(self, prompt):
        if len(prompt) > 20:
            raise ContextTooLong("a prompt of more than 20 tokens")
        cursor = self.target.open(prompt)
        self.target.held += 1
        assert self.target.held <= self.target.size

        def leave():
            self.target.held -= 1

        cursor.close = leave
        return cursor

    def score(self, seats, drafts):
        assert len(seats) == self.target.held
        self.target.on_score()
        return [seat.score(draft) for seat, draft in zip(seats, drafts, strict=True)]

    def close(self):
        assert self.target.held == 0
        self.target.closed = True


def request(prompt, count=5, **options):
    return Request(prompt, Greedy(), Stop(count), **options)


def drain(decoder, texts=None, failures=None):
    """All that is left to be said, by request."""
    texts = {} if texts is None else texts
    failures = {} if failures is None else failures
    while decoder.busy:
        turn = decoder.step()
        for number, step in turn.steps.items():
            texts.setdefault(number, []).extend(step.tokens.tolist())
        failures |= turn.failed
    return texts, failures


def test_requests_are_numbered_and_join_in_the_order_in_which_they_came():
    target = Seats()
    decoder = BatchDecoder(target, NoDraft(), max_batch=2)
    assert [decoder.submit(request([n], count=n + 1)) for n in range(4)] == [0, 1, 2, 3]
    assert (decoder.running, decoder.waiting, decoder.busy) == (0, 4, True)
    assert list(decoder.step().steps) == [0, 1]
    assert (decoder.running, decoder.waiting) == (1, 2)  # the first said its one token
    assert list(decoder.step().steps) == [1, 2]
    assert list(decoder.step().steps) == [2, 3]
    texts, failures = drain(decoder)
    assert not failures
    assert texts[3] == greedy_text(ROW, [3], 4)[1:]
    decoder.close()
    assert target.closed


def test_failures_of_the_drafter_are_counted():
    decoder = BatchDecoder(Seats(), raising())
    for number in range(2):
        decoder.submit(request([number]))
    assert decoder.drafter_failures == 0
    texts, _ = drain(decoder)
    assert decoder.drafter_failures == 2
    assert texts == {n: greedy_text(ROW, [n], 5) for n in range(2)}


def test_a_step_without_requests_does_nothing():
    decoder = BatchDecoder(Seats(), NoDraft())
    assert not decoder.busy
    turn = decoder.step()
    assert (turn.steps, turn.failed) == ({}, {})


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ([], InvalidTokens),
        ([-1], InvalidTokens),
        ([0.5], InvalidTokens),
        ([[1, 2]], InvalidTokens),
        ([2**40], InvalidTokens),
        (list(range(12)) * 2, ContextTooLong),
    ],
)
def test_a_bad_prompt_fails_its_own_request_and_no_other(prompt, error):
    target = Seats()
    decoder = BatchDecoder(target, random_trees(12, seed=1), max_batch=2)
    for asked in ([1, 2], prompt, [3], prompt, [4, 5]):
        decoder.submit(request(asked))
    texts, failures = drain(decoder)
    assert {number: type(failure) for number, failure in failures.items()} == {1: error, 3: error}
    assert texts == {n: greedy_text(ROW, p, 5) for n, p in ((0, [1, 2]), (2, [3]), (4, [4, 5]))}
    assert target.held == 0


class Unruly:
    """A verifier that raises in its second step."""

    lossless = True

    def __init__(self):
        self.calls = 0

    def verify(self, draft, rows):
        self.calls += 1
        if self.calls == 2:
            raise ValueError("no more")
        return Greedy().verify(draft, rows)


def test_a_verifier_that_raises_ends_its_own_request_only():
    target = Seats()
    decoder = BatchDecoder(target, random_trees(12), budget=Budget(3))
    decoder.submit(request([1]))
    decoder.submit(Request([2], Unruly(), Stop(50)))
    decoder.submit(request([3]))
    texts, failures = drain(decoder)
    assert str(failures[1]) == "no more"
    assert list(failures) == [1]
    assert texts[0] == greedy_text(ROW, [1], 5)
    assert texts[2] == greedy_text(ROW, [3], 5)
    assert target.held == 0


def test_a_pass_that_fails_ends_what_took_part_in_it_and_the_next_ones_run():
    target = Seats()
    decoder = BatchDecoder(target, NoDraft(), max_batch=2)
    for number in range(3):
        decoder.submit(request([number], count=3))

    def fail():
        raise MemoryError("no room")

    target.on_score = fail
    turn = decoder.step()
    assert turn.steps == {}
    assert {number: str(error) for number, error in turn.failed.items()} == {
        0: "no room",
        1: "no room",
    }
    assert target.held == 0
    target.on_score = lambda: None
    assert drain(decoder)[0] == {2: greedy_text(ROW, [2], 3)}


def test_an_aborted_request_gives_its_seat_to_the_next_at_once():
    target = Seats()
    decoder = BatchDecoder(target, NoDraft(), max_batch=1)
    for number in range(4):
        decoder.submit(request([number], count=3))
    decoder.step()
    assert target.held == 1
    assert decoder.abort(0)
    assert target.held == 0
    assert decoder.abort(2)  # it was waiting
    assert not decoder.abort(0)
    assert not decoder.abort(2)
    assert not decoder.abort(99)
    texts, failures = drain(decoder)
    assert texts == {n: greedy_text(ROW, [n], 3) for n in (1, 3)}
    assert failures == {}
    assert not decoder.abort(1)  # it has ended


def test_an_abort_during_a_step_is_heard_when_that_ends():
    target = Seats()
    decoder = BatchDecoder(target, NoDraft(), max_batch=2)
    decoder.submit(request([1], count=3))
    decoder.submit(request([2], count=1))
    target.on_score = lambda: (decoder.abort(0), decoder.abort(1))
    turn = decoder.step()
    assert (turn.steps, turn.failed) == ({}, {})
    assert target.held == 0
    assert not decoder.busy


def test_a_request_that_is_aborted_while_it_fails_is_not_heard_of_again():
    target = Seats()
    decoder = BatchDecoder(target, NoDraft())
    decoder.submit(request([1]))

    def fail():
        decoder.abort(0)
        raise MemoryError("no room")

    target.on_score = fail
    assert decoder.step().failed == {}


def test_closing_ends_everything_and_refuses_what_comes_then():
    target = Seats()
    decoder = BatchDecoder(target, random_trees(12), max_batch=2)
    for number in range(4):
        decoder.submit(request([number]))
    decoder.step()
    decoder.close()
    assert target.closed
    assert not decoder.busy
    with pytest.raises(InvalidOption, match="this decoder is closed; make another one"):
        decoder.submit(request([1]))


def test_no_batch_of_fewer_than_one():
    with pytest.raises(InvalidOption, match="max_batch is 0; use 1 or more"):
        BatchDecoder(Seats(), NoDraft(), max_batch=0)


def test_none_while_idle_ends_nothing():
    asked = iter([None, None, request([1]), None, None, None, None, None, None, request([2]), None])
    events = list(decode_batch(Seats(), NoDraft(), asked, max_batch=2))
    texts = {}
    for number, step in events:
        texts.setdefault(number, []).extend(step.tokens.tolist())
    assert texts == {2: greedy_text(ROW, [1], 5), 9: greedy_text(ROW, [2], 5)}


def test_threads_may_submit_and_abort_while_another_steps():
    target = Seats()
    target.on_score = lambda: sleep(0.0002)
    decoder = BatchDecoder(target, random_trees(12, seed=3), max_batch=3, budget=Budget(4))
    kept, dropped, lock = {}, set(), threading.Lock()

    def ask(seed):
        random = np.random.default_rng(seed)
        for _ in range(25):
            prompt = random.integers(0, 12, 3).tolist()
            number = decoder.submit(request(prompt, count=6))
            if random.random() < 0.3:
                sleep(random.random() / 500)
                if decoder.abort(number):
                    with lock:
                        dropped.add(number)
                    continue
            with lock:
                kept[number] = prompt

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    texts, finished = {}, set()
    while any(thread.is_alive() for thread in threads) or decoder.busy:
        for number, step in decoder.step().steps.items():
            texts.setdefault(number, []).extend(step.tokens.tolist())
            if step.finish is not None:
                finished.add(number)
    for thread in threads:
        thread.join()
    assert finished == kept.keys()
    assert not finished & dropped
    for number, prompt in kept.items():
        assert texts[number] == greedy_text(ROW, prompt, 6)
    assert target.held == 0


BAD = [[], [-3], list(range(12)) * 2]
actions = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 40), st.integers(1, 9), st.booleans()),
        st.tuples(st.just("bad"), st.integers(0, 2)),
        st.tuples(st.just("abort"), st.integers(0, 12)),
        st.tuples(st.just("step")),
        st.tuples(st.just("step")),
    ),
    max_size=40,
)


@given(actions, st.integers(1, 4), st.booleans(), st.sampled_from([None, 1, 2]))
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_order_of_calls_gives_each_request_the_text_it_would_have_alone(
    calls, max_batch, batches, seed
):
    target = Seats()
    target.batches = batches
    drafter = NoDraft() if seed is None else random_trees(12, seed=seed)
    decoder = BatchDecoder(target, drafter, max_batch=max_batch, budget=Budget(5))
    noise = GumbelNoise(7)
    expected, texts, failures, aborted, bad = {}, {}, {}, set(), set()

    def step():
        turn = decoder.step()
        assert len(turn.steps) <= max_batch
        for number, each in turn.steps.items():
            assert number not in aborted
            texts.setdefault(number, []).extend(each.tokens.tolist())
        failures.update(turn.failed)

    for name, *given_ in calls:
        if name == "submit":
            first, count, drawn = given_
            prompt = [first % 12, first // 12]
            verifier = SharedGumbel(noise, Sampling(temperature=1.0)) if drawn else Greedy()
            number = decoder.submit(Request(prompt, verifier, Stop(count)))
            expected[number] = alone(prompt, verifier, count)
        elif name == "bad":
            number = decoder.submit(request(BAD[given_[0]]))
            # one batch refuses what is too long, the other takes it
            (bad if given_[0] < 2 or batches else expected_long(expected, number)).add(number)
        elif name == "abort":
            if decoder.abort(given_[0]):
                aborted.add(given_[0])
                if decoder.running == 0:
                    assert target.held == 0
        else:
            step()
    while decoder.busy:
        step()
    assert failures.keys() == bad - aborted
    assert {n: text for n, text in texts.items() if n not in aborted} == {
        n: text for n, text in expected.items() if n not in aborted
    }
    for number in aborted & texts.keys():
        assert expected[number][: len(texts[number])] == texts[number]
    decoder.close()
    assert target.held == 0


def alone(prompt, verifier, count):
    decoder = BatchDecoder(ToyTarget(ROW), NoDraft())
    decoder.submit(Request(prompt, verifier, Stop(count)))
    return drain(decoder)[0][0]


def expected_long(expected, number):
    expected[number] = greedy_text(ROW, BAD[2], 5)
    return set()
