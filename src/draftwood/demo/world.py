"""The demo's world: any number of databases and requests, the same for the same seed.

`episode` is the unit of training and of evaluation: one database with a few questions, each
played through all five stages with right answers. Nothing here imports torch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from random import Random

from draftwood.demo import stages
from draftwood.demo.faults import inject
from draftwood.demo.questions import Question, make_question
from draftwood.demo.schema import Database, Schema, Split, make_database, make_schema
from draftwood.demo.sqlite import run
from draftwood.demo.stages import Attempt, Exchange

FAULTY_SHARE = 0.6  # of the drafts shown to the repair stage
FAULTY_CANDIDATE_SHARE = 0.4  # of the candidate lists shown to the combine stage


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question with right answers to all its stages."""

    question: Question
    exchanges: tuple[Exchange, ...]


@dataclass(frozen=True, slots=True)
class Episode:
    """A database and the requests made to it."""

    database: Database
    requests: tuple[AnsweredQuestion, ...]


def episode(seed: int, index: int, *, split: Split = "train", questions: int = 2) -> Episode:
    """The episode with this number; it depends on nothing but the arguments."""
    rng = Random(f"{seed}/{split}/{index}")
    database = make_database(rng, make_schema(rng, split))
    with closing(database.connect()) as connection:
        requests = [_request(rng, database, connection) for _ in range(questions)]
    return Episode(database, tuple(requests))


def episodes(seed: int, *, split: Split = "train", start: int = 0) -> Iterator[Episode]:
    """Episodes without end, from number `start`."""
    index = start
    while True:
        yield episode(seed, index, split=split)
        index += 1


def _request(rng: Random, database: Database, connection: sqlite3.Connection) -> AnsweredQuestion:
    question = make_question(rng, database)
    return AnsweredQuestion(question, tuple(play(rng, database.schema, question, connection)))


def play(
    rng: Random, schema: Schema, question: Question, connection: sqlite3.Connection
) -> list[Exchange]:
    """All stages of one request, the earlier stages answered right.

    The repair stage sees a faulty draft in `FAULTY_SHARE` of the cases and else a right one; the
    combine stage sees a faulty candidate beside the right one in `FAULTY_CANDIDATE_SHARE`.
    """
    count = stages.candidates_for(question.level)
    candidates = [question.sql, question.alternate][:count]
    asked = stages.asked(question.text)
    classification = stages.classify_response(question)
    classified = stages.classified(asked, classification)
    lines = stages.extract_response(schema, question)
    extracted = stages.extracted(classified, lines)

    right = rng.choice(candidates)
    shown = Attempt(right, run(connection, right))
    if rng.random() < FAULTY_SHARE:
        shown = _faulty(rng, schema, question, right, connection) or shown

    attempts = [Attempt(sql, run(connection, sql)) for sql in candidates]
    best = 0
    if rng.random() < FAULTY_CANDIDATE_SHARE:
        wrong = _faulty(rng, schema, question, candidates[0], connection)
        if wrong is not None:
            best = rng.randrange(2)
            attempts = [attempts[-1], wrong] if best == 0 else [wrong, attempts[-1]]

    system = schema.text
    return [
        Exchange("classify", system, asked + stages.task("classify"), classification),
        Exchange("extract", system, classified + stages.task("extract"), lines),
        Exchange("draft", system, extracted + stages.task("draft", count),
                 stages.draft_response(candidates)),
        Exchange("repair", system, stages.tried(extracted, shown) + stages.task("repair"), right),
        Exchange("combine", system, stages.listed(extracted, attempts) + stages.task("combine"),
                 stages.combine_response(attempts, best)),
    ]  # fmt: skip


def _faulty(
    rng: Random, schema: Schema, question: Question, sql: str, connection: sqlite3.Connection
) -> Attempt | None:
    fault = inject(rng, schema, question, sql, connection)
    return Attempt(fault.sql, fault.answer) if fault else None
