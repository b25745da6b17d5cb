"""The five stages of one agentic request: what each asks for, and what a right answer looks like.

    classify   kind, level and tables of the question
    extract    the columns needed, copied from the schema
    draft      one or two ways to write the SQL
    repair     one draft and what SQLite answered to it: the SQL, fixed where it was wrong
    combine    all candidates with their answers: the final SQL and its result

Every prompt begins with the schema (system part) and the question, and grows by what earlier
stages gave, so the prompts of one request share long prefixes, as agents' prompts do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from draftwood.demo.questions import Question
from draftwood.demo.schema import Schema
from draftwood.demo.sqlite import Answer

Stage = Literal["classify", "extract", "draft", "repair", "combine"]
STAGES: tuple[Stage, ...] = ("classify", "extract", "draft", "repair", "combine")

SYSTEM, USER, ASSISTANT, END, PAD = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call of the model: `system` and `user` are the prompt, `response` a right answer."""

    stage: Stage
    system: str
    user: str
    response: str

    @property
    def prompt(self) -> str:
        """The prompt with its role markers, ready for the tokenizer."""
        return chat(self.system, self.user)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A candidate query and what SQLite answered to it."""

    sql: str
    answer: Answer


def chat(system: str, user: str) -> str:
    """The prompt text; the tokenizer's chat template renders the same."""
    return f"{SYSTEM}{system}{USER}{user}{ASSISTANT}"


def candidates_for(level: str) -> int:
    """How many candidates the draft stage is asked for: two for hard questions, else one."""
    return 2 if level == "hard" else 1


# What the user part holds before each stage's last line, "task: ...".


def asked(question: str) -> str:
    """The user part at the start of a request."""
    return f"question: {question}\n"


def classified(before: str, classification: str) -> str:
    """The user part after the classify stage."""
    return f"{before}{classification}\n"


def extracted(before: str, lines: str) -> str:
    """The user part after the extract stage."""
    return f"{before}{lines}\n"


def tried(before: str, attempt: Attempt) -> str:
    """The user part for the repair of one candidate."""
    return f"{before}tried: {attempt.sql}\nsqlite: {attempt.answer.line}\n"


def listed(before: str, attempts: Sequence[Attempt]) -> str:
    """The user part for the combination of all candidates."""
    lines = (f"{n}: {a.sql}\nsqlite: {a.answer.line}\n" for n, a in enumerate(attempts, 1))
    return before + "".join(lines)


def task(stage: Stage, count: int = 1) -> str:
    """The last line of the user part."""
    return f"task: {stage} {count}" if stage == "draft" else f"task: {stage}"


# Right responses.


def classify_response(question: Question) -> str:
    """`kind: join, level: hard, tables: concerts, singers`."""
    return f"kind: {question.kind}, level: {question.level}, tables: {', '.join(question.tables)}"


def extract_response(schema: Schema, question: Question) -> str:
    """The used columns, a line for each table."""
    names = {t: frozenset(c for u, c in question.uses if u == t) for t in question.tables}
    return "\n".join(schema[table].line(names[table]) for table in question.tables)


def draft_response(candidates: Sequence[str]) -> str:
    """`1: SELECT ...`, a line for each candidate."""
    return "\n".join(f"{n}: {sql}" for n, sql in enumerate(candidates, 1))


def combine_response(attempts: Sequence[Attempt], best: int) -> str:
    """`final: SELECT ...` and its result."""
    chosen = attempts[best]
    return f"final {best + 1}: {chosen.sql}\nresult: {chosen.answer.line}"


# Reading responses back.


def read_level(classification: str) -> str:
    """The level that a classification names ("" if it names none)."""
    return _field(classification, "level: ", ",")


def read_candidates(draft: str) -> list[str]:
    """The queries of a draft response; a response out of form counts as one query."""
    lines = [line.partition(": ")[2] or line for line in draft.splitlines() if line.strip()]
    return lines or [""]


def read_final(combination: str) -> str:
    """The query of a combine response ("" if it has none)."""
    first = combination.splitlines()[0] if combination else ""
    return first.partition(": ")[2]


def _field(text: str, start: str, end: str) -> str:
    _, _, rest = text.partition(start)
    return rest.partition(end)[0].strip()
