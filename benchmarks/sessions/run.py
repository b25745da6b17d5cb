"""What a step of drafting costs an engine: `Sessions` with Recall, beside the released calls.

    python benchmarks/sessions/run.py --traces T/*.gz --tokenizer PATH [--json]

Recorded responses stand for the engine: a draft is accepted as far as it agrees with them. Both
sides serve the same requests in turns, a step of ours, then a step of the released suffix decoding
(`arctic-inference` 0.3.0, its calls as vLLM makes them: add the new tokens, speculate a chain from
the last 64), each with its own history, which first takes in the responses that are not served.
Ours is what an adapter pays for: rows of the engine's matrix in, lists of tokens and parents out.
Times are medians of milliseconds a step, by the wall clock and of the calling thread's processor
time; opening and closing are not counted. `cost`: drafts cut by `Spending` at a fixed cost, a
drafted token adding 0.2 % to a plain step. No draft depends on a clock, so that tokens a row are
the same in every run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from draftwood.budget.cost import LinearCost
from draftwood.budget.spending import Spending
from draftwood.draft import ROOT, Budget
from draftwood.drafters.recall import RecallDrafter
from draftwood.logs.call import Record
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer
from draftwood.sessions import Sessions, TokenRows

PEER_INSTALLED = find_spec("arctic_inference") is not None
BATCHES = (1, 8, 32)
NODES = 16
MATCHED = 64
TOKEN_COST = 0.002
"""Of a drafted token, in plain steps of one sequence."""


class Side(Protocol):
    """One way to draft; keys are the places of the batch."""

    def open(self, place: int, record: Record) -> None:
        """A request takes the place of the last one there, if there was one."""

    def step(self, came: Sequence[np.ndarray[Any, Any]]) -> list[tuple[list[int], list[int]]]:
        """Tokens and parents of a draft for each place, after the tokens that came."""


class Ours:
    """`Sessions` as an adapter holds it: the engine keeps one matrix of token ids."""

    def __init__(self, history: Sequence[Record], batch: int, vocab_size: int, cost: bool) -> None:
        drafter = RecallDrafter(max_tokens=1_000_000, nodes=NODES)
        for record in history:
            drafter.recall.add(record.response, context=record.prompt[-8:])
        spender = Spending(LinearCost(TOKEN_COST), limit=Budget(NODES)) if cost else None
        self.sessions = Sessions(
            drafter, vocab_size=vocab_size, context_limit=2**20, nodes=NODES, spender=spender
        )
        self._keys = list(range(batch))
        self._matrix = np.zeros((batch, 1024), np.int32)
        self._ends = np.zeros(batch, np.int32)
        self.seconds: list[float] = []
        self.busy: list[float] = []

    def open(self, place: int, record: Record) -> None:
        """Write the prompt into the row."""
        if place in self.sessions:
            self.sessions.close(place)
        room = len(record.prompt) + len(record.response) + NODES + 1
        if room > self._matrix.shape[1]:
            self._matrix = np.pad(self._matrix, ((0, 0), (0, 2 * room)))
        self._matrix[place, : len(record.prompt)] = record.prompt
        self._ends[place] = len(record.prompt)
        self.sessions.open(place, record.prompt)

    def step(self, came: Sequence[np.ndarray[Any, Any]]) -> list[tuple[list[int], list[int]]]:
        """Write what came, as an engine does; then the step that is timed."""
        for place, tokens in enumerate(came):
            end = int(self._ends[place])
            self._matrix[place, end : end + len(tokens)] = tokens
            self._ends[place] += len(tokens)
        start, busy = perf_counter(), thread_time()
        drafts = self.sessions.step(self._keys, TokenRows(self._matrix, self._ends))
        trees = drafts.trees()
        self.busy.append(thread_time() - busy)
        self.seconds.append(perf_counter() - start)
        return trees


class Released:
    """The released cache, a call to add and one to speculate for each request."""

    def __init__(self, history: Sequence[Record], batch: int) -> None:
        from arctic_inference.suffix_decoding import SuffixDecodingCache

        self.cache = SuffixDecodingCache(max_tree_depth=MATCHED)
        self._opened = 0
        for record in history:
            name = self._name()
            self.cache.start_request(name, record.prompt)
            self.cache.add_active_response(name, record.response)
            self.cache.stop_request(name)
        self._names: list[int | None] = [None] * batch
        self._texts: list[np.ndarray[Any, Any]] = [np.empty(0, np.int32)] * batch
        self.seconds: list[float] = []
        self.busy: list[float] = []

    def _name(self) -> int:
        self._opened += 1
        return self._opened

    def open(self, place: int, record: Record) -> None:
        """Start a request; stop the one before it."""
        last = self._names[place]
        if last is not None:
            self.cache.stop_request(last)
        self._names[place] = name = self._name()
        self.cache.start_request(name, record.prompt)
        self._texts[place] = record.prompt[-MATCHED:]

    def step(self, came: Sequence[np.ndarray[Any, Any]]) -> list[tuple[list[int], list[int]]]:
        """The two calls for every request."""
        for place, tokens in enumerate(came):
            self._texts[place] = np.concatenate([self._texts[place], tokens])[-MATCHED:]
        drafts = []
        start, busy = perf_counter(), thread_time()
        for name, text, tokens in zip(self._names, self._texts, came, strict=True):
            self.cache.add_active_response(name, tokens)
            drafts.append(self.cache.speculate(name, text, max_spec_tokens=NODES))
        self.busy.append(thread_time() - busy)
        self.seconds.append(perf_counter() - start)
        return [(draft.token_ids, draft.parents) for draft in drafts]


class Served:
    """Requests in the places of a batch, decoded by their recorded responses."""

    def __init__(self, side: Side, records: Iterator[Record], batch: int) -> None:
        self._side = side
        self._records = records
        self._at = [0] * batch
        self._record: list[Record] = []
        for place in range(batch):
            self._record.append(next(records))
            side.open(place, self._record[place])
        self._came = [np.empty(0, np.int32)] * batch
        self.tokens = self.rows = 0

    def step(self) -> None:
        """One pass: draft, and accept what agrees."""
        drafts = self._side.step(self._came)
        for place, draft in enumerate(drafts):
            response = self._record[place].response
            at = self._at[place]
            if at >= len(response):
                self._at[place] = at = 0
                self._record[place] = next(self._records)
                self._side.open(place, self._record[place])
                self._came[place] = np.empty(0, np.int32)
                continue
            end = min(at + 1 + _agreement(draft, response, at), len(response))
            self._came[place] = response[at:end]
            self._at[place] = end
            self.tokens += end - at
            self.rows += 1


def _agreement(draft: tuple[list[int], list[int]], response: np.ndarray[Any, Any], at: int) -> int:
    """How many tokens of the draft the response goes on with."""
    child = {step: node for node, step in enumerate(zip(draft[1], draft[0], strict=True))}
    node, count = ROOT, 0
    while at + count < len(response):
        node = child.get((node, int(response[at + count])), ROOT)
        if node == ROOT:
            break
        count += 1
    return count


def main() -> None:
    """Run, and print the table."""
    made = parser(__doc__, traces=True)
    made.add_argument("--records", type=int, default=400, help="of each trace, at most")
    made.add_argument("--steps", type=int, default=600, help="timed ones of each row")
    made.add_argument(
        "--streamed",
        type=int,
        default=0,
        help="MB read and written before each step",
    )
    options = read(made, records=12, steps=12)
    require(PEER_INSTALLED or options.smoke, "arctic-inference is installed")
    records = _records(options)
    vocab_size = 1 + max(int(text.max()) for each in records for text in each if len(text))
    found = [Record(prompt, response) for prompt, response in records]
    asked, history = found[::4], [each for at, each in enumerate(found) if at % 4]
    rows = []
    print("batch  cost   ours ms  cpu ms  released ms  cpu ms  tokens/row  released tokens/row")
    for batch in BATCHES:
        for cost in (False, True):
            ours = Ours(history, batch, vocab_size, cost)
            sides: list[Any] = [ours]
            if PEER_INSTALLED:
                sides.append(Released(history, batch))
            served = [Served(side, cycle(asked), batch) for side in sides]
            streamed = np.zeros(options.streamed << 17)  # of 8 bytes
            for _ in range(options.steps):
                for each in served:
                    streamed += 1.0
                    each.step()
            require(not ours.sessions.failures, f"nothing fails: {ours.sessions.failures}")
            times, busy = (
                [1e3 * median(spent[len(spent) // 4 :]) for spent in each]
                for each in ([side.seconds for side in sides], [side.busy for side in sides])
            )
            per_row = [each.tokens / each.rows for each in served]
            require(min(per_row) >= 1.0, "a step gives at least one token")
            row = {
                "batch": batch,
                "cost": cost,
                "ours_ms": times[0],
                "ours_cpu_ms": busy[0],
                "released_ms": times[1] if len(times) > 1 else None,
                "released_cpu_ms": busy[1] if len(busy) > 1 else None,
                "tokens_per_row": per_row[0],
                "released_tokens_per_row": per_row[1] if len(per_row) > 1 else None,
            }
            rows.append(row)
            print("  ".join(map(_shown, row.values())))
    publish({"rows": rows}, options)


def _shown(value: float | bool | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value!s:5}"


def _records(options: Any) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Prompts and responses of all traces, mixed."""
    tokenizer = TraceTokenizer.load(options.tokenizer)
    found = []
    for path in options.traces:
        for number, record in enumerate(Log(path, tokenizer)):
            if number == options.records:
                break
            if len(record.response):
                found.append((record.prompt[-16_384:], record.response))
    order = np.random.default_rng(1).permutation(len(found))
    return [found[at] for at in order]


if __name__ == "__main__":
    main()
