"""Tokens per step of history's drafters on recorded traces, with published figures beside them.

    python benchmarks/replay_table/run.py --traces traces/*.jsonl.gz --tokenizer tokenizers/qwen2.5
        [--out benchmarks/replay_table/results.json]

Each trace is replayed up to --limit-tokens output tokens, history online from empty. The figures
beside ours are those of a laboratory study with the released suffix-decoding code's draft rule on
the same traces, tokenized by another tokenizer (a 32k BPE), so they should agree within a few
percent and not exactly; more where a text is mostly digits, markup and indentation, which
tokenizers cut most differently. Fed the same tokens, the released code and ours take the same
steps (suffix/run.py).
"""

from __future__ import annotations

import sys
from math import exp, log
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.table import Table

from benchmarks.common.command import parser, publish, read, require
from draftwood.drafters.catalog import make_drafter
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer
from draftwood.replay.run import replay_trace

LINEAR = "suffix:alpha=1,floor=0.1,mode=linear,depth=24"
TREE = "suffix:alpha=4,floor=0,mode=tree,nodes=32"
LOOKUP = "lookup"
RECALL = "recall"
TITLES = {LINEAR: "suffix linear", TREE: "suffix tree", LOOKUP: "lookup", RECALL: "recall"}

# The study's (tokens per step, drafted per step): linear with alpha 1, tree with alpha 4.
PUBLISHED: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "agentcode-aider_swebench-gpt4o_opus": ((2.45, 3.1), (2.88, 8.3)),
    "agentcode-miniswe_django-deepseek_chat": ((2.12, 2.8), (2.53, 8.4)),
    "chat-arena_hard_v01-gpt4_0314": ((1.41, 1.6), (1.56, 5.5)),
    "chat-fastchat_arena1k-llama2_70b": ((1.54, 1.7), (1.72, 5.7)),
    "chat-mtbench-llama2_13b": ((1.45, 1.6), (1.60, 5.1)),
    "code-livecodebench_A-o1_mini": ((1.75, 2.6), (2.03, 8.7)),
    "edit-aider_chat_history": ((2.19, 2.7), (2.53, 7.6)),
    "reason-gsm8k-gpt3_175b_verif": ((1.65, 2.4), (1.91, 8.4)),
    "reason-skythought_math500-skyt1_27b": ((2.02, 2.9), (2.36, 9.3)),
    "rollout-codet_humaneval_A-codegen16b": ((2.05, 3.2), (2.42, 10.2)),
    "rollout-miniswe_dev_x4-deepseek_chat_A": ((2.30, 3.0), (2.80, 9.0)),
    "rollout-qwen25math_maj8_A": ((3.07, 3.8), (3.67, 9.4)),
    "rollout-skythought_aime24_ckpts_A-skyt1_32b": ((2.01, 2.9), (2.37, 9.4)),
    "specbench-vicuna7b_v13": ((1.66, 1.9), (1.88, 5.8)),
    "sql-bird_setA-dailsql_gpt4": ((2.29, 3.1), (2.87, 9.2)),
    "sql-ibm_bird-4models": ((1.83, 2.5), (2.20, 8.0)),
    "sqlagent-ibm_bird-gptoss120b": ((1.94, 2.7), (2.27, 8.2)),
    "sqlagent-rsl_bird_setA-gpt4o": ((3.34, 4.4), (4.32, 12.2)),
    "toolagent-taubench_airline_x4-gpt4o": ((2.61, 3.5), (3.25, 10.2)),
}


def measure(
    traces: list[Path], tokenizer: Path, limit: int, console: Console
) -> list[dict[str, Any]]:
    """The rows of `draftwood replay --json` for every trace and drafter."""
    text_tokenizer = TraceTokenizer.load(tokenizer)
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(traces, 1):
        console.print(f"{number}/{len(traces)} {path.name}")
        drafters = {spec: make_drafter(spec) for spec in TITLES}
        trace = Log(path, text_tokenizer)
        for row in replay_trace(trace, drafters, limit_tokens=limit):
            del row["path"]
            rows.append(row)
    return rows


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric mean of ours / published, by setting, over the traces that have both."""
    found = {}
    for place, spec in enumerate((LINEAR, TREE)):
        logs = [
            log(row["tokens_per_step"] / PUBLISHED[row["trace"]][place][0])
            for row in rows
            if row["drafter"] == spec and row["trace"] in PUBLISHED
        ]
        if logs:
            found[spec] = exp(sum(logs) / len(logs))
    return found


def table(rows: list[dict[str, Any]]) -> Table:
    """A line a trace: tokens per step (drafted per step), ours and the study's."""
    drawn = Table(title="tokens per step (drafted tokens per step)", title_justify="left")
    drawn.add_column("trace")
    for name in ("suffix linear", "study", "off", "suffix tree", "study", "off"):
        drawn.add_column(name, justify="right")
    for spec in (LOOKUP, RECALL):
        drawn.add_column(TITLES[spec], justify="right")
    cells = {(row["trace"], row["drafter"]): row for row in rows}
    for trace in dict.fromkeys(row["trace"] for row in rows):
        line = []
        for place, spec in enumerate((LINEAR, TREE)):
            line.append(_cell(cells[trace, spec]))
            if trace in PUBLISHED:
                rate, drafted = PUBLISHED[trace][place]
                off = cells[trace, spec]["tokens_per_step"] / rate - 1
                line += [f"{rate:.2f} ({drafted:.1f})", f"{off:+.1%}"]
            else:
                line += ["", ""]
        drawn.add_row(trace, *line, *(_cell(cells[trace, spec]) for spec in (LOOKUP, RECALL)))
    return drawn


def _cell(row: dict[str, Any]) -> str:
    return f"{row['tokens_per_step']:.2f} ({row['drafted_per_step']:.1f})"


def main() -> None:
    made = parser(__doc__, traces=True)
    made.add_argument("--limit-tokens", type=int, default=150_000)
    options = read(made, limit_tokens=2_000)
    rows = measure(options.traces, options.tokenizer, options.limit_tokens, Console(stderr=True))
    result = {
        "limit_tokens": options.limit_tokens,
        "tokenizer": options.tokenizer.name,
        "ours_over_published": ratios(rows),
        "rows": rows,
    }
    if not options.json:
        Console(width=150).print(table(rows))
        for spec, ratio in result["ours_over_published"].items():
            print(f"{TITLES[spec]}: {ratio:.3f} of the published tokens per step (geometric mean)")
    require(len(rows) == len(options.traces) * len(TITLES), "every trace has a row of each drafter")
    require(all(row["tokens_per_step"] >= 1.0 for row in rows), "a step gives a token or more")
    publish(result, options)


if __name__ == "__main__":
    main()
