"""Texts that join and leave while others are generated, and where their tokens came from."""

import pytest

import draftwood as dw
from draftwood.errors import InvalidOption

pytest.importorskip("torch")
pytest.importorskip("transformers")

PROMPTS = ["SELECT title FROM films WHERE year =", "List all open orders.", "Which customers?"]


@pytest.fixture(scope="module")
def llm():
    with dw.load("demo", cost="none") as model:
        yield model


def finished(batch, until=lambda: False):
    """All pieces by number, and the generations of the texts that ended."""
    pieces, done = {}, {}
    while batch.busy and not until():
        for number, news in batch.step().items():
            pieces[number] = pieces.get(number, "") + news.piece
            if news.generation is not None:
                done[number] = news.generation
    return pieces, done


def test_texts_that_join_one_another_are_those_of_generate(llm):
    options = [{}, {"temperature": 1.0, "seed": 4}, {"stop": "s", "drafter": "none"}]
    with llm.batch(max_batch=2) as batch:
        for prompt, own in zip(PROMPTS, options, strict=True):
            batch.submit(prompt, max_tokens=20, **own)
        pieces, done = finished(batch)
    for number, (prompt, own) in enumerate(zip(PROMPTS, options, strict=True)):
        expected = llm.generate(prompt, max_tokens=20, **own)
        assert done[number].text == pieces[number] == expected.text
        assert done[number].finish == expected.finish
    assert done[2].stats.drafted == 0


def test_a_text_that_is_aborted_is_given_as_far_as_it_came(llm):
    with llm.batch() as batch:
        number = batch.submit(PROMPTS[0], max_tokens=100, logit_bias={1: -100.0})
        other = batch.submit(PROMPTS[1], max_tokens=30, drafter="none")
        batch.step()
        early = batch.abort(number)
        assert early.finish is None
        assert early.text
        assert batch.abort(number) is None
        assert batch.running == 1
        _, done = finished(batch)
    assert set(done) == {other}


def test_a_text_that_fails_fails_alone(llm):
    def broken(ids, logits):
        raise RuntimeError("no")

    with llm.batch() as batch:
        bad = batch.submit(PROMPTS[0], max_tokens=8, logits_processors=[broken])
        good = batch.submit(PROMPTS[1], max_tokens=8)
        _, done = finished(batch)
    assert isinstance(done[bad].error, RuntimeError)
    assert done[good].error is None


def test_what_is_refused_is_refused_when_it_is_submitted(llm):
    with llm.batch() as batch:
        with pytest.raises(InvalidOption, match="texts that share passes have one nodes"):
            batch.submit(PROMPTS[0], nodes=3)
        with pytest.raises(dw.ContextTooLong):
            batch.submit([3] * 5000)
        assert not batch.busy


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 2}], ids=["greedy", "drawn"])
def test_origins_tell_of_every_token_whence_it_came(llm, options):
    done = llm.generate(PROMPTS[0], max_tokens=40, **options)
    origins = list(done.origins)
    assert [each.token for each in origins] == done.tokens.tolist()
    assert "".join(each.text for each in origins) == done.text
    accepted = [each for each in origins if each.accepted is not None]
    assert len(accepted) == done.stats.accepted
    assert all(each.accepted.token == each.token for each in accepted)
    assert {each.accepted.drafter for each in accepted} <= {"recall"}
    refused = [each for each in origins if each.refused is not None]
    assert all(each.accepted is None for each in refused)
    assert all(each.refused.token != each.token for each in refused)
    assert all(llm.decode([each.refused.token]) == each.refused_text for each in refused)
    assert max(each.step for each in origins) + 1 == done.stats.steps


def test_a_predicted_text_says_that_it_was_predicted(llm):
    said = llm.generate(PROMPTS[1], max_tokens=24, namespace="one")
    again = llm.generate(PROMPTS[1], max_tokens=24, namespace="two", prediction=said.text)
    kinds = {each.accepted.kind for each in again.origins if each.accepted is not None}
    assert "prediction" in kinds
