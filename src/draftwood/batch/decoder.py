"""The same loop over many sequences at once: one pass of the target for all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from time import perf_counter

from draftwood.batch.one_by_one import open_batch
from draftwood.batch.request import Request, RunningRequest
from draftwood.budget.spender import PassReport, Spender, spender_of
from draftwood.decode import vocab_size_of
from draftwood.draft import Budget
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.guarded import GuardedStreams
from draftwood.protocols import Drafter, Feedback, Target
from draftwood.step import Step


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """What one `BatchDecoder.step` did, by request id.

    steps: the step of each sequence that ran, in the order in which they joined. failed: the error
    of each request that ended with one.
    """

    steps: dict[int, Step]
    failed: dict[int, Exception]


class BatchDecoder:
    """Continuous batching: many requests at once, which join and leave between steps.

        decoder = BatchDecoder(target, drafter)
        number = decoder.submit(request)
        while decoder.busy:
            turn = decoder.step()        # turn.steps[number], or turn.failed[number]

    max_batch: sequences that run at once, at most; the others wait, and join in the order in which
    they were submitted. budget: the largest draft of one sequence (None: 64 nodes), or a spender
    that cuts all drafts of a pass together to what pays.

    A target with `batches` takes all running sequences in one pass, whatever the shapes of their
    drafts; any other takes one after the other. The texts equal those of `decode` as far as the
    target computes the same rows in both (in float32 all but always). A step's `seconds` are its
    share of what was done for all; only `verify` is its own. A drafter that raises, or makes an
    invalid draft, costs its drafts, not the request (`GuardedStreams`). Peak memory is that of the
    target's batch of `max_batch` (stated at `TransformersBatch`), plus a stream for each sequence.

    `submit` and `abort`, `busy`, `running` and `waiting` may be used from any thread at any time;
    `step` and `close` by one thread at a time.

    Raises:
        InvalidOption: for a batch below one sequence.
    """

    def __init__(
        self,
        target: Target,
        drafter: Drafter,
        *,
        max_batch: int = 8,
        budget: Budget | Spender | None = None,
    ) -> None:
        if max_batch < 1:
            raise InvalidOption(f"max_batch is {max_batch}; use 1 or more")
        self.max_batch = max_batch
        self._trees = target.trees
        self._spender = spender_of(budget)
        self._streams = GuardedStreams(drafter, vocab_size=vocab_size_of(target))
        self._batch = open_batch(target, max_batch)
        self._waiting: deque[tuple[int, Request]] = deque()
        self._running: list[RunningRequest] = []
        self._aborted: set[int] = set()
        self._submitted = 0
        self._closed = False
        self._lock = fork_lock()  # held for moments: who waits, runs and was aborted
        self._turn = fork_lock()  # held by whoever touches seats and streams

    def __repr__(self) -> str:
        return f"BatchDecoder({self.running} running, {self.waiting} waiting)"

    def submit(self, request: Request) -> int:
        """Queue a request; returns its id: 0, 1, 2, ..

        The prompt is checked when the request joins; an error is then in `Turn.failed`.

        Raises:
            InvalidOption: after `close`.
        """
        with self._lock:
            if self._closed:
                raise InvalidOption("this decoder is closed; make another one")
            number = self._submitted
            self._submitted += 1
            self._waiting.append((number, request))
        return number

    def abort(self, number: int) -> bool:
        """End a request, waiting or running; no later step reports it.

        Its seat is free at once or, while another thread runs a step, when that step ends. Returns
        False for a request that has ended or never existed.
        """
        with self._lock:
            for at, (waits, _) in enumerate(self._waiting):
                if waits == number:
                    del self._waiting[at]
                    return True
            if number in self._aborted or all(one.number != number for one in self._running):
                return False
            self._aborted.add(number)
        self._sweep()
        return True

    @property
    def running(self) -> int:
        """Sequences that have joined and not ended."""
        with self._lock:
            return len(self._running) - len(self._aborted)

    @property
    def waiting(self) -> int:
        """Requests that have not joined yet."""
        return len(self._waiting)

    @property
    def drafter_failures(self) -> int:
        """Calls of the default drafter that raised, plus its drafts that were invalid."""
        return self._streams.failures

    @property
    def busy(self) -> bool:
        """Whether any request is running or waiting."""
        return self.waiting + self.running > 0

    def step(self) -> Turn:
        """Let requests join that wait and find a seat, then make one pass for all that run.

        Each running sequence generates one or more tokens; those that end give their seats back.
        Does nothing where nobody runs or waits.

        An error of one sequence (an invalid or too long prompt, a verifier or a stop rule that
        raises) ends that sequence only; one in the pass itself ends all that took part in it.
        """
        failed: dict[int, Exception] = {}
        with self._turn:
            gone = self._leave()
            gone |= self._join(failed)
            steps = self._pass(failed) if self._running else {}
            ended = {number for number, step in steps.items() if step.finish is not None}
            gone |= self._leave(failed.keys() | ended)
        self._sweep()
        return Turn(
            {number: step for number, step in steps.items() if number not in gone},
            {number: error for number, error in failed.items() if number not in gone},
        )

    def close(self) -> None:
        """End all sequences and free their caches; waiting requests are dropped."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
        with self._turn:
            try:
                self._leave([one.number for one in self._running])
            finally:
                self._batch.close()

    def _join(self, failed: dict[int, Exception]) -> set[int]:
        """Seat those that wait, as far as there are seats; returns what was aborted meanwhile."""
        gone = set[int]()
        while True:
            with self._lock:
                if not self._waiting or len(self._running) == self.max_batch:
                    return gone
                one = RunningRequest(*self._waiting.popleft())
                self._running.append(one)
            try:
                one.open(self._batch, self._streams)
            except Exception as error:
                failed[one.number] = error
                gone |= self._leave([one.number])

    def _leave(self, ended: Collection[int] = ()) -> set[int]:
        """Close the sequences that ended or were aborted; returns the aborted ones."""
        with self._lock:
            gone, self._aborted = self._aborted, set()
            out = [one for one in self._running if one.number in gone or one.number in ended]
            self._running = [one for one in self._running if one not in out]
        with ExitStack() as closing_all:
            for one in out:
                closing_all.callback(one.close)
        return gone

    def _sweep(self) -> None:
        """Close what was aborted, unless a step is on its way, which will."""
        while self._aborted and self._turn.acquire(blocking=False):
            try:
                self._leave()
            finally:
                self._turn.release()

    def _pass(self, failed: dict[int, Exception]) -> dict[int, Step]:
        """One pass for all that run; errors go to `failed`."""
        running, start = self._running, perf_counter()
        guards = [one.stream for one in running]
        context = max(one.context for one in running)
        padded = self._batch.padded
        try:
            budget = self._spender.plan(len(running), context, padded=padded)
            drafts = self._streams.propose(guards, [one.within(budget) for one in running])
            if not self._trees:
                drafts = [draft.to_chain() for draft in drafts]
            drafts = self._spender.spend(drafts, context, padded=padded)
            drafted = perf_counter()
            scored = self._batch.score([one.seat for one in running], drafts)
        except Exception as error:
            failed.update((one.number, error) for one in running)
            return {}
        passed = perf_counter()
        told: dict[RunningRequest, Feedback] = {}
        for one, draft, rows in zip(running, drafts, scored, strict=True):
            try:
                told[one] = one.verify(draft, rows)
            except Exception as error:
                failed[one.number] = error
        verified = perf_counter()
        self._streams.observe([one.stream for one in told], list(told.values()))
        observed = perf_counter()
        prompts = self._batch.prompt_seconds
        self._spender.observe(
            PassReport(
                asked=budget.nodes > 0,
                drafts=drafts,
                accepted=[len(told[one].verdict.path) if one in told else 0 for one in running],
                context=context,
                padded=padded,
                draft_seconds=drafted - start,
                pass_seconds=None if prompts is None else observed - drafted - prompts,
            )
        )
        share = 1.0 / len(running)
        return {
            one.number: one.step(
                each,
                (drafted - start) * share,
                (passed - drafted) * share,
                (observed - verified) * share,
            )
            for one, each in told.items()
        }


def decode_batch(
    target: Target,
    drafter: Drafter,
    requests: Iterable[Request | None],
    *,
    max_batch: int = 8,
    budget: Budget | Spender | None = None,
) -> Generator[tuple[int, Step], None, None]:
    """Generate for every request what `decode` would; yields (number of the request, its step).

    requests: taken one after the other, whenever fewer than `max_batch` sequences are running, so
    that they may be made on demand. Yield None when the queue is empty: the next pass starts with
    what is running. While nothing runs, the iterable is asked again at once, so an iterable that
    waits for work should block then; the run ends when the iterable does. A request's number is its
    position among all items yielded, from 0, each None counted.

    Built on `BatchDecoder`, whose docstring says how sequences share passes, drafters and memory.
    Use that class to submit from several threads, to abort requests, or to go on after one fails.

    Raises:
        InvalidOption: for a batch below one sequence.
        InvalidTokens: for an invalid prompt, when its request joins; running sequences end with it.
        ContextTooLong: the same for a prompt that leaves no room in the target's context.
    """
    if max_batch < 1:
        raise InvalidOption(f"max_batch is {max_batch}; use 1 or more")
    return _fold(target, drafter, enumerate(requests), max_batch, budget)


def _fold(
    target: Target,
    drafter: Drafter,
    waiting: Iterator[tuple[int, Request | None]],
    max_batch: int,
    budget: Budget | Spender | None,
) -> Generator[tuple[int, Step], None, None]:
    numbers: dict[int, int] = {}
    more = True
    with closing(BatchDecoder(target, drafter, max_batch=max_batch, budget=budget)) as decoder:
        while more or decoder.busy:
            while more and decoder.running + decoder.waiting < max_batch:
                try:
                    number, request = next(waiting)
                except StopIteration:
                    more = False
                    break
                if request is None:
                    break
                numbers[decoder.submit(request)] = number
            turn = decoder.step()
            for error in turn.failed.values():
                raise error
            for own, step in turn.steps.items():
                yield numbers.pop(own) if step.finish is not None else numbers[own], step
