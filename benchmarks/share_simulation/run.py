"""What 64 replicas gain by sharing, by recorded answers: tokens a step against their number.

    python benchmarks/share_simulation/run.py --traces T/*.gz --tokenizer PATH --json

Recorded calls arrive at random times, `--rate` a second in all, each at a replica chosen at random
(a session's calls at one), and take `--token-seconds` a token. What a replica finishes it knows
then, and not while it is generated; the others get it after a delay (log-normal, half of them
within `--delay`, 99 % within ten times that), or never, for the share `--loss` of all deliveries.
Each replica drafts greedily, 32 nodes, from its own Recall. `alone`: nothing is delivered. `one`: a
single replica gets all calls.
`events`: with the most replicas, by the events of an engine's cache with blocks of so many tokens:
whole blocks only come, the prompt's last tokens along with them. `bytes_a_second`: of messages, as
they are packed, for the whole fleet's texts, that each replica reads. `index_bytes`: of a replica's
history.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common.command import parser, publish, read, require
from draftwood.decode import decode
from draftwood.draft import Budget, TokenIds
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallPolicy, RecallStream
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer
from draftwood.share.envelope import Origin, packed_batch
from draftwood.share.records import CONTEXT_TOKENS, TextRecord
from draftwood.stats import Stats
from draftwood.targets.replay import ReplayTarget
from draftwood.verify.greedy import Greedy

NODES = 32
SPREAD = np.log(10.0) / 2.3263
"""Of the log-normal law of delays: its 99th percentile is ten times its median."""


@dataclass(frozen=True, slots=True)
class Call:
    """A recorded call. when: seconds at which it arrives."""

    prompt: TokenIds
    answer: TokenIds
    session: str
    when: float


@dataclass(frozen=True, slots=True)
class Network:
    """How texts get from one replica to the others."""

    delay: float
    loss: float
    token_seconds: float


def calls_of(trace: Path, tokenizer: TraceTokenizer, limit: int, rate: float) -> list[Call]:
    """The first calls of a trace, up to so many tokens of answers, at random times."""
    random = np.random.default_rng(3)
    calls: list[Call] = []
    tokens, when = 0, 0.0
    for number, record in enumerate(Log(trace, tokenizer)):
        when += float(random.exponential(1.0 / rate))
        session = record.session or f"call {number}"
        calls.append(Call(record.prompt, record.response, session, when))
        tokens += len(record.response)
        if tokens >= limit:
            break
    return calls


class _KnownAtEnd(RecallStream):
    """A request whose output is not in history until somebody adds it."""

    __slots__ = ()

    def close(self) -> None:
        """End; nothing is shared."""
        self.abandon()


class KnownAtEnd:
    """Drafts from one replica's history."""

    def __init__(self, slots: int) -> None:
        self.recall = Recall(slots, seed=1)
        self._policy = RecallPolicy(floor=0.005, nodes=NODES, share=2**31 - 1)

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> RecallStream:
        """A request."""
        return _KnownAtEnd(self.recall, prompt, policy=self._policy)

    def close(self) -> None:
        """Let go of the history."""
        self.recall.close()


def simulated(
    calls: Sequence[Call], replicas: int, network: Network, *, share: bool, block: int = 1
) -> Stats:
    """Serve all calls, in the order of their arrival. block: only whole ones are delivered."""
    random = np.random.default_rng(4)
    stats = Stats()
    homes: dict[str, int] = {}
    slots = max(4096, int(sum(len(call.answer) + 32 for call in calls) * 1.2))
    with ExitStack() as stack:
        drafters = [KnownAtEnd(slots) for _ in range(replicas)]
        for drafter in drafters:
            stack.callback(drafter.close)
        coming: list[list[tuple[float, int]]] = [[] for _ in range(replicas)]
        for number, call in enumerate(calls):
            home = homes.setdefault(call.session, int(random.integers(replicas)))
            waiting, recall = coming[home], drafters[home].recall
            while waiting and waiting[0][0] <= call.when:
                done = heapq.heappop(waiting)[1]
                mine = homes[calls[done].session] == home
                context, text = delivered(calls[done], 1 if mine else block)
                recall.add(text, context=context)
            target = ReplayTarget(call.answer)
            steps = decode(
                target,
                drafters[home],
                Greedy(),
                call.prompt,
                budget=Budget(NODES),
                stop=target.stop(),
            )
            for at, step in enumerate(steps):
                stats.add(step, first=not at)
            ends = call.when + network.token_seconds * len(call.answer)
            delays = network.delay * np.exp(SPREAD * random.standard_normal(replicas))
            lost = random.random(replicas) < network.loss
            heapq.heappush(waiting, (ends, number))
            for other in range(replicas) if share else ():
                if other != home and not lost[other]:
                    heapq.heappush(coming[other], (ends + float(delays[other]), number))
    return stats


def delivered(call: Call, block: int) -> tuple[TokenIds, TokenIds]:
    """What comes of a text, and what stands before it."""
    whole, prompt = np.concatenate((call.prompt, call.answer)), len(call.prompt)
    first, last = prompt - prompt % block, len(whole) - len(whole) % block
    return whole[max(0, first - CONTEXT_TOKENS) : first], whole[first : max(first, last)]


def packed_bytes(calls: Sequence[Call]) -> int:
    """Bytes of all answers in messages of one text each: the most that they can take."""
    origin = Origin(bytes(8), "replica", bytes(32), "model")
    total = 0
    for number, call in enumerate(calls):
        record = TextRecord(
            bytes(16),
            number.to_bytes(16, "big"),
            0,
            call.when,
            call.prompt[-CONTEXT_TOKENS:],
            call.answer[:65_536],
        )
        total += len(packed_batch(origin, number, [record]))
    return total


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Tokens a step against replicas, a panel for each trace."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["trace"] for row in rows))
    figure = Figure(figsize=(4 * len(names), 3.2), layout="constrained")
    for at, name in enumerate(names, 1):
        panel = figure.add_subplot(1, len(names), at)
        mine = [row for row in rows if row["trace"] == name]
        count = [row["replicas"] for row in mine]
        panel.plot(count, [row["shared"] for row in mine], "o-", label="shared")
        panel.plot(count, [row["alone"] for row in mine], "s--", label="alone")
        panel.set_xscale("log", base=2)
        panel.set_xlabel("replicas")
        panel.set_title(name, fontsize=9)
        panel.set_ylim(bottom=1.0)
        panel.grid(alpha=0.3)
        if at == 1:
            panel.set_ylabel("tokens a step")
            panel.legend()
    figure.savefig(path)


def main() -> None:
    """Run, and print the table."""
    made = parser(__doc__, traces=True)
    made.add_argument("--tokens", type=int, default=40_000, help="of answers, of each trace")
    made.add_argument("--replicas", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64])
    made.add_argument("--blocks", nargs="+", type=int, default=[16, 128], help="of events")
    made.add_argument("--rate", type=float, default=20.0, help="calls a second, in all")
    made.add_argument("--delay", type=float, default=0.1, help="seconds, the median")
    made.add_argument("--loss", type=float, default=0.001, help="share of deliveries")
    made.add_argument("--token-seconds", type=float, default=0.01)
    options = read(made, tokens=300, replicas=[1, 2], blocks=[16])
    network = Network(options.delay, options.loss, options.token_seconds)
    tokenizer = TraceTokenizer.load(str(options.tokenizer))
    rows: list[dict[str, Any]] = []
    traffic: list[dict[str, Any]] = []
    print("| trace | replicas | alone | shared | of one |")
    print("|---|---|---|---|---|")
    for trace in options.traces:
        calls = calls_of(trace, tokenizer, options.tokens, options.rate)
        require(len(calls) > 0, f"{trace} has calls")
        name = trace.name.removesuffix(".gz").removesuffix(".jsonl")
        one = simulated(calls, 1, network, share=True).tokens_per_step
        for replicas in options.replicas:
            alone = simulated(calls, replicas, network, share=False).tokens_per_step
            shared = simulated(calls, replicas, network, share=True).tokens_per_step
            rows.append(
                {
                    "trace": name,
                    "replicas": replicas,
                    "alone": alone,
                    "shared": shared,
                    "one": one,
                    "of_one": shared / one,
                }
            )
            print(f"| {name} | {replicas} | {alone:.2f} | {shared:.2f} | {shared / one:.3f} |")
        most = max(options.replicas)
        events = {
            str(block): simulated(calls, most, network, share=True, block=block).tokens_per_step
            for block in options.blocks
        }
        print(f"{name}, {most} replicas, by events of blocks: {events}")
        seconds = calls[-1].when
        tokens = sum(len(call.answer) for call in calls)
        traffic.append(
            {
                "trace": name,
                "calls": len(calls),
                "tokens": tokens,
                "events": events,
                "tokens_a_second": tokens / seconds,
                "bytes_a_second": packed_bytes(calls) / seconds,
                "index_bytes": 25 * max(4096, int((tokens + 32 * len(calls)) * 1.2)),
            }
        )
    most = max(row["replicas"] for row in rows)
    last = [row for row in rows if row["replicas"] == most]
    require(all(row["shared"] >= 0.99 * row["alone"] for row in last), "sharing does not lose")
    publish(
        {
            "rows": rows,
            "traffic": traffic,
            "rate": options.rate,
            "delay": options.delay,
            "loss": options.loss,
        },
        options,
    )
    if options.out:
        draw(rows, options.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
