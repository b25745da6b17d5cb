"""What sharing brings to two servers, how long texts are on their way, and what breaks.

    python benchmarks/share/run.py --log redis --json

Sessions of the demo's agents are spread over two `draftwood serve` at random. `alone`, `shared` and
`ceiling` are tokens a step without sharing, with it, and with one server that gets all. A session's
calls come one after the other, and so do sessions. Then drafts are made from a file that a follower
writes while two publishers send `--rate` texts of 200 tokens a second: `checked` drafted tokens, of
which `drafted_foreign` are of another namespace and `drafted_torn` of no text; `published` texts,
of which `lost` never came; `delay_p50_s` and `delay_p99_s` from a text's end until others draft
from it. At last a new replica begins with a snapshot of `--snapshot-tokens`: seconds until a draft
from the first of its texts, and until all are there.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common.command import parser, publish, read, require
from benchmarks.share.broker import running_log
from benchmarks.share.servers import Server, serving
from benchmarks.share.stress import checked_drafts
from benchmarks.share.warm import warm_start
from draftwood.demo.workload import workload
from draftwood.load import load

DRAFTER = "recall:cost=none,seed=1"
CHOICE_SEED = 5


def sessions(count: int, databases: int) -> list[list[list[int]]]:
    """Prompts of each session's calls, as ids, with the model's own answers in them."""
    found = []
    with closing(load("demo", "recall", cost=None)) as model:
        for request in workload(11, count, databases=databases):
            answers: list[str] = []
            prompts = []
            for call in request.calls:
                prompt = model.encode(call.prompt(answers), chat=False)
                prompts.append(prompt.tolist())
                answers.append(model.generate(prompt, max_tokens=64).text)
            found.append(prompts)
    return found


def tokens_a_step(servers: Sequence[Server], traffic: list[list[list[int]]]) -> float:
    """All sessions, each on a server chosen at random."""
    choose = random.Random(CHOICE_SEED)
    tokens = steps = 0
    for prompts in traffic:
        server = choose.choice(servers)
        for prompt in prompts:
            more, took = server.complete(prompt, 64)
            tokens += more
            steps += took
    return tokens / max(1, steps)


def main() -> None:
    """Run, and print the figures."""
    made = parser(__doc__)
    made.add_argument("--log", choices=["redis", "nats", "files"], default="redis")
    made.add_argument("--sessions", type=int, default=80)
    made.add_argument("--databases", type=int, default=20, help="that the sessions ask about")
    made.add_argument("--rate", type=float, default=200.0, help="texts a second")
    made.add_argument("--checked", type=int, default=1_000_000, help="drafted tokens to check")
    made.add_argument("--snapshot-tokens", type=int, default=10_000_000)
    options = read(made, log="files", sessions=4, databases=1, checked=3000, snapshot_tokens=20_000)
    traffic = sessions(options.sessions, options.databases)
    with serving(2, "demo", DRAFTER, None) as servers:
        alone = tokens_a_step(servers, traffic)
    with running_log(options.log) as url, serving(2, "demo", DRAFTER, url) as servers:
        shared = tokens_a_step(servers, traffic)
        said = [server.shared() for server in servers]
    with serving(1, "demo", DRAFTER, None) as servers:
        ceiling = tokens_a_step(servers, traffic)
    with running_log(options.log) as url:
        checks = checked_drafts(url, options.checked, options.rate)
    warm = warm_start(options.snapshot_tokens)
    print(f"tokens a step: alone {alone:.3f}, shared {shared:.3f}, ceiling {ceiling:.3f}")
    print(f"texts between the servers: {said}")
    print(f"under {options.rate:.0f} texts a second: {checks}")
    print(f"warm start: {warm}")
    require(checks["drafted_foreign"] == checks["drafted_torn"] == 0, "every draft is of one text")
    require(checks["lost"] == checks["dropped"] == 0, "all texts come")
    publish(
        {
            "alone": alone,
            "shared": shared,
            "ceiling": ceiling,
            "of_ceiling": shared / ceiling,
            "log": options.log,
            "sessions": options.sessions,
            "calls": sum(map(len, traffic)),
            "rate": options.rate,
            "servers": said,
            **checks,
            **warm,
        },
        options,
    )


if __name__ == "__main__":
    main()
