"""What a predicted answer is worth: tokens a step with it and without it, and wall clock.

    python benchmarks/prediction/run.py --traces T/edit-*.gz --tokenizer PATH [--json]
    python benchmarks/prediction/run.py --model FOLDER [--json]

Recorded answers are replayed (greedy, 32 nodes). `overlap` is a number for predictions made from
the recorded answer: that part of its words is kept, the rest deleted, replaced or renamed by a
seed, and other text inserted; 0: another record's answer. `real` rows are edits of files: the
original is the prediction, the new text the answer. `prompt`: whether the prompt lacks or holds the
predicted text. `kept`: the part of the answers' tokens that the predictions have. `ours` is
Recall without the prediction; `with_prediction` with it, `chain` with it and chains;
`lookup` is prompt lookup with the prediction in its index, `suffix_in_prompt` suffix decoding with
the prediction put before the prompt. All have the answers before in their history.

With --model, the model writes: each prompt is answered without drafts, with Recall, and with a
version of that answer as prediction, in turns; tokens a step, and seconds.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from tokenizers import Tokenizer

from benchmarks.common.command import parser, publish, read, require
from benchmarks.prediction.edits import Edit, kept, real_edits, version
from draftwood.decode import decode
from draftwood.draft import Budget, TokenIds
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.logs.call import Record
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer
from draftwood.protocols import Drafter, TargetInfo
from draftwood.stats import Stats
from draftwood.targets.replay import ReplayTarget
from draftwood.verify.greedy import Greedy

OVERLAPS = (1.0, 0.9, 0.7, 0.4, 0.0)
NODES = 32
LONG = 100_000
"""Tokens of the prediction whose opening is timed."""
PROMPTS = (
    "Write a Python function that reads a CSV file and returns the mean of each column.",
    "Write a Python class for a bank account with deposit, withdraw and transfer methods.",
    "Explain how a hash table works, with an example in Python.",
    "Write a letter that invites a colleague to a conference.",
    "List ten tips for learning a new language, with a sentence for each.",
    "Write an HTML page with a form for a name, an address and a phone number.",
)


@dataclass(frozen=True, slots=True)
class Request:
    """An answer to replay, with what was predicted."""

    prompt: TokenIds
    answer: TokenIds
    prediction: TokenIds


@dataclass(frozen=True, slots=True)
class Way:
    """A drafter, and where it is given the prediction."""

    make: Callable[[], Drafter]
    predicted: bool = True
    in_prompt: bool = False


WAYS = {
    "ours": Way(lambda: RecallDrafter(nodes=NODES, seed=1), predicted=False),
    "with_prediction": Way(lambda: RecallDrafter(nodes=NODES, seed=1)),
    "chain": Way(lambda: RecallDrafter(nodes=NODES, mode="chain", seed=1)),
    "lookup": Way(PromptLookup),
    "suffix_in_prompt": Way(lambda: SuffixDrafter(alpha=4.0), predicted=False, in_prompt=True),
}


def served(requests: Sequence[Request], way: Way, target_info: TargetInfo, *, holds: bool) -> Stats:
    """All requests, one after the other, by one drafter."""
    stats = Stats()
    with closing(way.make()) as drafter:
        if isinstance(drafter, RecallDrafter):
            drafter.pair(target_info)
        for each in requests:
            before = holds or way.in_prompt
            prompt = np.concatenate((each.prediction, each.prompt)) if before else each.prompt
            target = ReplayTarget(each.answer)
            steps = decode(
                target,
                drafter,
                Greedy(),
                prompt,
                budget=Budget(NODES),
                stop=target.stop(),
                prediction=[each.prediction] if way.predicted else [],
            )
            for number, step in enumerate(steps):
                stats.add(step, first=not number)
    return stats


def row(
    trace: str, overlap: str, requests: Sequence[Request], target_info: TargetInfo, holds: bool
) -> Any:
    """Tokens a step of each way."""
    stats = {name: served(requests, way, target_info, holds=holds) for name, way in WAYS.items()}
    ours = stats["with_prediction"]
    return {
        "trace": trace,
        "overlap": overlap,
        "prompt": "holds" if holds else "lacks",
        "kept": round(float(np.mean([kept(r.answer, r.prediction) for r in requests])), 3),
        "requests": len(requests),
        "tokens": ours.tokens,
        "plain": 1.0,
        **{name: round(each.tokens_per_step, 3) for name, each in stats.items()},
        "drafted": round(ours.drafted_per_step, 2),
        "accepted_prediction_tokens": ours.accepted_prediction_tokens,
        "rejected_prediction_tokens": ours.rejected_prediction_tokens,
    }


def rows_of(path: Path, tokenizer: TraceTokenizer, options: Any) -> Iterator[Any]:
    """The rows of one trace."""
    log = Log(path, tokenizer)
    target_info = TargetInfo(tokenizer.vocab, tokenizer.vocab_size)
    texts = Tokenizer.from_file(str(tokenizer_file(options.tokenizer)))
    records: list[Record] = []
    edits: list[Edit] = []
    for record in log:
        if len(record.response) >= 64:
            prompt = record.prompt[-options.prompt_tokens :]
            records.append(Record(prompt, record.response[: options.answer_tokens]))
            decoded = [texts.decode(each.tolist()) for each in (prompt, record.response)]
            edits += real_edits(*decoded)
        if len(records) >= options.records and len(edits) >= options.records:
            break
    records, edits = records[: options.records], edits[: options.records]
    require(len(records) > 1, f"{log.name} has two answers of 64 tokens")
    found: dict[str, list[Request]] = {}
    for overlap in OVERLAPS:
        found[str(overlap)] = [
            Request(
                record.prompt, record.response, predicted(tokenizer, texts, records, at, overlap)
            )
            for at, record in enumerate(records)
        ]
    if edits:
        encoded = [tokenizer.encode([e.prompt, e.prediction, e.answer]) for e in edits]
        found["real"] = [Request(p[-options.prompt_tokens :], a, y) for p, y, a in encoded]
    for name, requests in found.items():
        for holds in (False, True):
            yield row(log.name, name, requests, target_info, holds)


def predicted(
    tokenizer: TraceTokenizer, texts: Any, records: Sequence[Record], at: int, overlap: float
) -> TokenIds:
    """A version of a record's answer, tokenized as a client's text is: by itself."""
    answer = texts.decode(records[at].response.tolist())
    other = texts.decode(records[at - 1].response.tolist())
    return tokenizer.encode([version(answer, other, overlap, at)])[0]


def tokenizer_file(path: Path) -> Path:
    """The tokenizer.json that is meant."""
    return path / "tokenizer.json" if path.is_dir() else path


def opened() -> dict[str, float]:
    """Milliseconds to open a request, with and without a prediction of `LONG` tokens."""
    drafter = RecallDrafter(nodes=NODES)
    prompt = np.arange(100, dtype=np.int32)
    answer = np.random.default_rng(0).integers(0, 50_000, LONG).astype(np.int32)
    found = {}
    for name, likely in {"open_ms": [], "open_100k_ms": [answer]}.items():
        times = []
        for _ in range(9):
            start = perf_counter()
            stream = drafter.open(prompt, prediction=likely)
            stream.propose(Budget(NODES))
            times.append(1e3 * (perf_counter() - start))
            stream.close()
        found[name] = round(median(times), 3)
    return found


def model_rows(options: Any) -> list[dict[str, Any]]:
    """A model's answers without drafts, with Recall, and with versions of them as predictions."""
    import draftwood as dw

    ways = ["plain", "ours", *map(str, OVERLAPS)]
    tokens, steps = Counter[str](), Counter[str]()
    seconds: dict[str, float] = defaultdict(float)
    with dw.load(str(options.model), "none") as llm:

        def timed(way: str, prompt: str, **more: Any) -> str:
            start = perf_counter()
            done = llm.generate(prompt, temperature=0, max_tokens=options.max_tokens, **more)
            seconds[way] += perf_counter() - start
            tokens[way] += done.stats.tokens
            steps[way] += done.stats.steps
            text: str = done.text
            return text

        prompts = PROMPTS[: options.prompts]
        llm.generate(prompts[0], temperature=0, max_tokens=8)
        other = version(prompts[-1] * 4, prompts[0], 1.0, 0)
        for at, prompt in enumerate(prompts):
            answer = timed("plain", prompt)
            told = [timed("ours", prompt, drafter=dw.make_drafter("recall"))]
            for overlap in OVERLAPS:
                likely = version(answer, other, overlap, at)
                drafter = dw.make_drafter("recall")
                told.append(timed(str(overlap), prompt, drafter=drafter, prediction=likely))
            require(set(told) == {answer}, "a prediction changes no text")
            other = answer
    rate = {way: round(tokens[way] / steps[way], 3) for way in ways}
    return [
        {
            "model": Path(options.model).name,
            "overlap": way,
            "tokens": tokens[way],
            "plain": rate["plain"],
            "ours": rate["ours"],
            "with_prediction": rate[way],
            "plain_seconds": round(seconds["plain"], 2),
            "ours_seconds": round(seconds["ours"], 2),
            "with_prediction_seconds": round(seconds[way], 2),
        }
        for way in ways[2:]
    ]


def main() -> None:
    made = parser(__doc__, traces=True)
    made.add_argument("--records", type=int, default=60, help="answers of each trace")
    made.add_argument("--prompt-tokens", type=int, default=2000, help="of each prompt, its last")
    made.add_argument("--answer-tokens", type=int, default=600, help="of each answer, its first")
    made.add_argument("--model", help="a model that answers: a folder, file or name")
    made.add_argument("--max-tokens", type=int, default=160, help="of the model's answers")
    made.add_argument("--prompts", type=int, default=len(PROMPTS), help="prompts for the model")
    options = read(
        made, optional="--model" in sys.argv, records=3, answer_tokens=80, model="demo",
        max_tokens=24, prompts=2,
    )  # fmt: skip
    rows = []
    for path in options.traces:
        tokenizer = TraceTokenizer.load(options.tokenizer)
        for each in rows_of(path, tokenizer, options):
            rows.append(each)
            print(*(f"{name} {value}" for name, value in each.items()), flush=True)
    models = model_rows(options) if options.model else []
    for each in models:
        print(*(f"{name} {value}" for name, value in each.items()), flush=True)
    under = "traces" if options.traces else "model"
    publish({"rows": rows, "models": models, "open": opened()}, options, under=under)


if __name__ == "__main__":
    main()
