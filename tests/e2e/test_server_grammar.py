"""Answers within a schema or an expression: the same with drafts, which end where it does."""

import json
import re

import pytest

import draftwood as dw
from draftwood.draft import Draft
from draftwood.errors import InvalidOption

pytest.importorskip("torch")
pytest.importorskip("xgrammar", reason="pip install 'draftwood[grammar]'")
openai = pytest.importorskip("openai", reason="pip install openai")
pytest.importorskip("fastapi", reason="pip install 'draftwood[server]'")
from serving import served  # noqa: E402

from draftwood.grammar.compiled import Grammars  # noqa: E402

CHAT = [{"role": "user", "content": "A film as JSON"}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["ab", "abc"]}, "n": {"type": "integer", "maximum": 9}},
    "required": ["name", "n"],
    "additionalProperties": False,
}
DATE = r"20[0-9]{2}-[01][0-9](-x+)?"


@pytest.fixture(scope="module")
def llm():
    with dw.load("demo", cost="none") as model:
        yield model


@pytest.fixture(scope="module")
def grammars(llm):
    return Grammars(llm.tokenizer, llm.target.vocab_size, llm.end_tokens)


@pytest.fixture(scope="module")
def client(llm):
    with (
        served(llm) as server,
        openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0) as made,
    ):
        yield made


@pytest.mark.parametrize("drawn", [{}, {"temperature": 1.0, "seed": 3}], ids=["greedy", "drawn"])
@pytest.mark.parametrize("kind", ["schema", "regex"])
def test_drafts_change_nothing_within_a_grammar(llm, grammars, kind, drawn):
    prompt = llm.encode(CHAT)

    def text(drafter, prediction=None):
        rule = (
            grammars.json_schema(SCHEMA, len(prompt))
            if kind == "schema"
            else grammars.regex(DATE, len(prompt))
        )
        return llm.generate(
            prompt,
            max_tokens=60,
            drafter=drafter,
            logits_processors=[rule],
            prediction=prediction,
            **drawn,
        ).text

    plain = text("none")
    assert text("recall") == text("suffix") == plain
    assert text("recall", prediction=plain) == plain
    assert text("recall", prediction='no {"n": words of "name" 20') == plain


def test_drafts_are_cut_at_the_first_token_that_the_grammar_refuses(llm, grammars):
    prompt = llm.encode(CHAT)
    rule = grammars.regex("abc", len(prompt))
    a, b, c, x = (llm.encode(letter, chat=False).tolist() for letter in "abcx")
    draft = Draft.tree([a[-1], x[-1], b[-1], a[-1], c[-1]], [-1, -1, 0, 1, 2], confidence=0.5)
    assert rule.keeps(prompt, draft) == [0, 2, 4]
    assert rule.keeps(prompt, draft) == [0, 2, 4]  # it stands where it stood

    proposed = []
    done = llm.generate(
        prompt,
        max_tokens=20,
        prediction="abxabx",
        logits_processors=[grammars.regex("(ab){4}", len(prompt))],
        on_step=proposed.append,
    )
    assert done.text == "ab" * 4
    unwanted = llm.encode("x", chat=False)[-1]
    assert all(unwanted not in step.draft.tokens for step in proposed)


def test_an_answer_keeps_to_its_schema(client):
    wanted = {"type": "json_schema", "json_schema": {"name": "film", "schema": SCHEMA}}
    for options in ({}, {"temperature": 1.0, "seed": 5}):
        done = client.chat.completions.create(
            model="demo", messages=CHAT, response_format=wanted, max_tokens=200, **options
        )
        said = json.loads(done.choices[0].message.content)
        assert set(said) == {"name", "n"}
        assert said["name"] in ("ab", "abc")
    pieces = client.chat.completions.create(
        model="demo", messages=CHAT, response_format=wanted, max_tokens=200, stream=True
    )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert set(json.loads(text)) == {"name", "n"}


def test_an_answer_keeps_to_its_expression(client):
    done = client.completions.create(
        model="demo",
        prompt="A date:",
        max_tokens=30,
        logprobs=0,
        extra_body={"response_format": {"type": "regex", "regex": r"20[0-9]{2}-[01][0-9]"}},
    )
    assert re.fullmatch(r"20[0-9]{2}-[01][0-9]", done.choices[0].text)
    assert done.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no such"}}},
        {"type": "regex", "regex": "(((("},
        {"type": "regex"},
        {"type": "json_schema"},
        {"type": "xml"},
    ],
)
def test_a_grammar_that_is_none_is_refused(client, wanted):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="demo", messages=CHAT, response_format=wanted)


def test_an_expression_beyond_all_measure_is_refused(grammars):
    with pytest.raises(InvalidOption, match="characters, more than"):
        grammars.regex("a" * 70_000, 1)
