"""What the demo's model can do: execution accuracy of its SQL on schemas it never saw.

    python benchmarks/demo_model/run.py [--model FOLDER] [--schemas 200] [--json]
        [--out benchmarks/demo_model/results.json]

End to end, the model plays whole requests on its own earlier answers. Its SQL is right if SQLite
gives the gold query's rows on the database shown and on two more fillings of the same schema.
By stage, the prompts hold right earlier answers, and the response must be right word for word.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.common.command import parser, publish, read, require
from draftwood.demo import stages
from draftwood.demo.model import target_path
from draftwood.demo.questions import Question
from draftwood.demo.schema import Database, make_database
from draftwood.demo.sqlite import run
from draftwood.demo.stages import STAGES
from draftwood.demo.workload import AgentRequest, agent_request
from draftwood.demo.world import Episode, episode

Generate = Callable[[Sequence[str]], list[str]]
FILLINGS = 3


@dataclass(frozen=True, slots=True)
class Played:
    """A request played to its end."""

    request: AgentRequest
    answers: tuple[str, ...]
    draft_right: bool
    final_right: bool


def greedy(folder: Path, *, batch: int = 32, max_tokens: int = 96) -> Generate:
    """A function that answers prompts by greedy decoding with the model in `folder`."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def generate(prompts: Sequence[str]) -> list[str]:
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found = [""] * len(prompts)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            inputs = tokenizer([prompts[i] for i in chosen], return_tensors="pt", padding=True)
            inputs.pop("token_type_ids", None)
            outputs = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
            fresh = outputs[:, inputs["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(fresh, skip_special_tokens=True)
            for place, text in zip(chosen, texts, strict=True):
                found[place] = text
        return found

    return generate


def answers_to(generate: Generate, requests: Sequence[AgentRequest]) -> list[list[str]]:
    """All requests side by side, call by call, each on its own earlier answers."""
    answers: list[list[str]] = [[] for _ in requests]
    for step in range(max(len(request.calls) for request in requests)):
        open_ = [i for i, request in enumerate(requests) if step < len(request.calls)]
        prompts = [requests[i].calls[step].prompt(answers[i]) for i in open_]
        for i, answer in zip(open_, generate(prompts), strict=True):
            answers[i].append(answer)
    return answers


def right(sql: str, question: Question, connections: Iterable[sqlite3.Connection]) -> bool:
    """Whether `sql` gives the gold rows on every filling of the schema."""
    return all(
        run(c, question.sql).same(run(c, sql), ordered=question.ordered) for c in connections
    )


def end_to_end(generate: Generate, made: Sequence[Episode], seed: int) -> list[Played]:
    """Play every request of the episodes and judge its first draft and its final SQL."""
    requests: list[AgentRequest] = []
    fillings: list[list[sqlite3.Connection]] = []
    for number, ep in enumerate(made):
        rng = Random(f"evaluate/{seed}/{number}")
        databases: list[Database] = [ep.database]
        databases += [make_database(rng, ep.database.schema, rows=14) for _ in range(FILLINGS - 1)]
        connections = [database.connect() for database in databases]
        for each in ep.requests:
            requests.append(
                agent_request(f"db{number}", ep.database, each.question, connections[0])
            )
            fillings.append(connections)
    played = []
    for request, answers, connections in zip(
        requests, answers_to(generate, requests), fillings, strict=True
    ):
        draft = stages.read_candidates(answers[2])[0]
        judged = [
            right(sql, request.question, connections) for sql in (draft, request.final(answers))
        ]
        played.append(Played(request, tuple(answers), *judged))
    for connections in fillings:
        for connection in connections:
            connection.close()
    return played


def by_stage(generate: Generate, made: Sequence[Episode]) -> dict[str, float]:
    """The share of responses right word for word, the earlier stages given right."""
    exchanges = [x for ep in made for request in ep.requests for x in request.exchanges]
    found = generate([x.prompt for x in exchanges])
    hits: dict[str, list[bool]] = defaultdict(list)
    for exchange, response in zip(exchanges, found, strict=True):
        hits[exchange.stage].append(response == exchange.response)
    return {stage: _share(hits[stage]) for stage in STAGES}


def evaluate(folder: Path, *, seed: int, schemas: int) -> dict[str, Any]:
    """Everything measured, with where it comes from."""
    generate = greedy(folder)
    made = [episode(seed, index, split="held-out") for index in range(schemas)]
    played = end_to_end(generate, made, seed)
    kinds: dict[str, list[bool]] = defaultdict(list)
    levels: dict[str, list[bool]] = defaultdict(list)
    for one in played:
        kinds[one.request.question.kind].append(one.final_right)
        levels[one.request.question.level].append(one.final_right)
    return {
        "end_to_end": {
            "questions": len(played),
            "schemas": schemas,
            "first_draft_execution": _share([one.draft_right for one in played]),
            "final_execution": _share([one.final_right for one in played]),
            "by_level": {level: _share(levels[level]) for level in ("easy", "medium", "hard")},
            "by_kind": {kind: _share(hits) for kind, hits in sorted(kinds.items())},
        },
        "stage_exact_match": by_stage(generate, made),
        "model": {**_model(folder), "evaluation_seed": seed, "sqlite": sqlite3.sqlite_version},
    }


def _share(hits: Sequence[bool]) -> float:
    return round(sum(hits) / len(hits), 4) if hits else 0.0


def _model(folder: Path) -> dict[str, Any]:
    """What was measured: the weights, and how they were trained."""
    weights = (folder / "model.safetensors").read_bytes()
    return {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "weights_bytes": len(weights),
        "training": json.loads((folder / "training.json").read_text("utf-8")),
    }


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    whole = result["end_to_end"]
    rows = [
        ("final SQL, all", whole["final_execution"]),
        ("first draft, all", whole["first_draft_execution"]),
        *((f"final SQL, {level}", share) for level, share in whole["by_level"].items()),
        *((f"final SQL, {kind}", share) for kind, share in whole["by_kind"].items()),
    ]
    lines = [f"| execution accuracy, {whole['questions']} questions | share |", "|---|---:|"]
    lines += [f"| {name} | {share:.1%} |" for name, share in rows]
    lines += ["", "| stage, right earlier answers | exact match |", "|---|---:|"]
    lines += [f"| {name} | {share:.1%} |" for name, share in result["stage_exact_match"].items()]
    return "\n".join(lines)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", type=Path, default=target_path())
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--schemas", type=int, default=200, help="two questions to each")
    options = read(made, schemas=1)
    result = evaluate(options.model, seed=options.seed, schemas=options.schemas)
    print(table(result))
    require(result["end_to_end"]["questions"] == 2 * options.schemas, "all questions are asked")
    right_stages = result["stage_exact_match"]
    require(set(right_stages) == set(STAGES), "every stage is judged")
    require(max(right_stages.values()) > 0.0, "the model answers some stage right")
    publish(result, options)


if __name__ == "__main__":
    main()
