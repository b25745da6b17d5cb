"""What the texts of earlier policies are worth to the drafts of the next one, by replay."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from draftwood.draft import TokenIds
from draftwood.drafters.recall import RecallDrafter
from draftwood.logs.log import Log
from draftwood.logs.tokenizer import TraceTokenizer
from draftwood.sessions import Sessions

NODES = 24
KEPT = ("all policies", "the last policy's amount", "the own policy's", "nothing shared")
"""How much of the texts is kept: everything; a ring of one policy's size; emptied at each policy;
only each request's own text."""


@dataclass(frozen=True)
class Generation:
    """Answers of one policy, in their order."""

    policy: str
    answers: list[tuple[TokenIds, TokenIds]]


def generations(path: Path, tokenizer: Path, *, answer: int) -> list[Generation]:
    """A trace whose records name the policy ("model") that gave them, policy by policy.

    answer: the most tokens of each.
    """
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        policies = [json.loads(line)["model"] for line in lines]
    reader = TraceTokenizer.load(tokenizer)
    records = zip(policies, Log(path, reader), strict=True)
    return [
        Generation(policy, [(record.prompt, record.response[:answer]) for _, record in found])
        for policy, found in groupby(records, key=lambda pair: pair[0])
    ]


def two_policies(path: Path) -> Path:
    """A copy of a plain trace, beside it, whose halves are of two policies; for --smoke."""
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    made = path.with_name("policies.jsonl.gz")
    with gzip.open(made, "wt", encoding="utf-8") as out:
        for number, record in enumerate(records):
            policy = "first" if number < len(records) // 2 else "second"
            out.write(json.dumps({**record, "model": policy}) + "\n")
    return made


def tokens_per_step(found: Sequence[Generation], kept: str) -> Iterator[dict[str, Any]]:
    """By policy, the tokens that a step gives."""
    size = max(sum(len(text) for _, text in each.answers) for each in found)
    highest = max(int(text.max()) for each in found for pair in each.answers for text in pair)
    drafter = _drafter(kept, size)
    for each in found:
        if kept == "the own policy's":
            drafter = _drafter(kept, size)
        sessions = Sessions(
            drafter, vocab_size=highest + 1, context_limit=1 << 20, nodes=NODES, trees=False
        )
        tokens = steps = 0
        for prompt, answer in each.answers:
            sessions.open(0, prompt)
            at, count = 0, 1
            while at < len(answer):
                new = answer[at : at + count]
                at += len(new)
                tokens, steps = tokens + len(new), steps + 1
                (draft,) = sessions.step([0], [new]).lists()
                right = 0
                while (
                    right < len(draft)
                    and draft[right : right + 1] == answer[at + right : at + right + 1].tolist()
                ):
                    right += 1
                count = right + 1
            (sessions.abandon if kept == "nothing shared" else sessions.close)(0)
        yield {"policy": each.policy, "kept": kept, "tokens_per_step": tokens / steps}


def _drafter(kept: str, size: int) -> RecallDrafter:
    share = 2**31 - 1 if kept == "nothing shared" else 16
    slots = size if kept == "the last policy's amount" else 4_000_000
    return RecallDrafter(nodes=NODES, mode="chain", share=share, max_tokens=slots)
