"""Agent traffic for the demo: requests whose prompts are made of the model's own answers.

    for request in workload(seed=0, requests=50):
        answers: list[str] = []
        for call in request.calls:
            answers.append(generate(call.prompt(answers)))     # your model
        print(request.question.text, request.final(answers))

Few databases, many questions to each, all held out from training. What an agent's tools would do
between the calls (running a candidate in SQLite) happens inside `Call.prompt`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from draftwood.demo import stages
from draftwood.demo.questions import Question, make_question
from draftwood.demo.schema import Database, make_database, make_schema
from draftwood.demo.sqlite import run
from draftwood.demo.stages import Attempt, Stage

DATABASES = 4
ROWS = 12
STAY = 0.6  # chance that a question goes to the same database as the one before


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the model. `prompt` makes its text from the answers to all earlier calls.

    `prompt` runs SQL in the request's database; calls of requests to one database must not be
    made from two threads at a time.
    """

    stage: Stage
    prompt: Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """A question, the calls that answer it, and the name of its database (a session)."""

    session: str
    question: Question
    database: Database
    calls: tuple[Call, ...]

    def final(self, answers: Sequence[str]) -> str:
        """The final SQL: the last answer's query."""
        return stages.read_final(answers[-1])


def workload(seed: int, requests: int, *, databases: int = DATABASES) -> Iterator[AgentRequest]:
    """Requests to a few held-out databases; the same for the same arguments."""
    rng = Random(f"workload/{seed}")
    made = [make_database(rng, make_schema(rng, "held-out"), rows=ROWS) for _ in range(databases)]
    connections = [database.connect() for database in made]
    at = rng.randrange(databases)
    for _ in range(requests):
        if rng.random() > STAY:
            at = rng.randrange(databases)
        question = make_question(rng, made[at])
        yield agent_request(f"db{at}", made[at], question, connections[at])


def agent_request(
    session: str, database: Database, question: Question, connection: sqlite3.Connection
) -> AgentRequest:
    """Lay out the calls: classify, extract, draft, a repair for each candidate, combine."""
    count = stages.candidates_for(question.level)
    system, asked = database.schema.text, stages.asked(question.text)

    def prompt(user: str, stage: Stage) -> str:
        return stages.chat(system, user + stages.task(stage, count))

    def extracted(answers: Sequence[str]) -> str:
        return stages.extracted(stages.classified(asked, answers[0]), answers[1])

    def attempt(sql: str) -> Attempt:
        return Attempt(sql, run(connection, sql))

    def repair(number: int) -> Callable[[Sequence[str]], str]:
        def made(answers: Sequence[str]) -> str:
            candidates = stages.read_candidates(answers[2])
            sql = candidates[min(number, len(candidates) - 1)]
            return prompt(stages.tried(extracted(answers), attempt(sql)), "repair")

        return made

    def combine(answers: Sequence[str]) -> str:
        attempts = [attempt(sql) for sql in dict.fromkeys(answers[3:])]
        return prompt(stages.listed(extracted(answers), attempts), "combine")

    calls = [
        Call("classify", lambda answers: prompt(asked, "classify")),
        Call("extract", lambda answers: prompt(stages.classified(asked, answers[0]), "extract")),
        Call("draft", lambda answers: prompt(extracted(answers), "draft")),
        *(Call("repair", repair(number)) for number in range(count)),
        Call("combine", combine),
    ]
    return AgentRequest(session, question, database, tuple(calls))
