"""Streams and asyncio: pieces as they come, ends from outside, and seats that are given back."""

import asyncio
import threading
import time

import pytest

import draftwood as dw
from draftwood.errors import InvalidOption
from draftwood.testing import save_tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

PROMPT = "SELECT name FROM trees;"


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("plain"))
    with dw.load(folder, "lookup", device="cpu") as model:
        yield model


@pytest.fixture
def seats(llm, monkeypatch):
    """The cursors that are open, whoever opened them."""
    held = set()
    opened = type(llm.target).open

    def watch(self, prompt):
        cursor = opened(self, prompt)
        close = cursor.close
        held.add(id(cursor))

        def closing():
            held.discard(id(cursor))
            close()

        cursor.close = closing
        return cursor

    monkeypatch.setattr(type(llm.target), "open", watch)
    return held


def test_a_stream_ends_with_its_generation(llm):
    whole = llm.generate(PROMPT, max_tokens=30, logprobs=1)
    stream = llm.stream(PROMPT, max_tokens=30, logprobs=1)
    text = "".join(stream)
    done = stream.generation
    assert text == done.text == whole.text
    assert done.tokens.tolist() == whole.tokens.tolist()
    assert (done.finish, done.prompt_tokens) == (whole.finish, whole.prompt_tokens)
    assert done.stats.tokens == len(done.tokens)
    assert len(done.logprobs.chosen) == len(done.tokens)
    assert list(stream) == []


def test_a_stream_tells_what_has_come_so_far(llm):
    stream = llm.stream(PROMPT, max_tokens=30)
    assert stream.generation.text == ""
    first = next(stream)
    assert stream.generation.text == first
    assert stream.generation.finish is None
    assert stream.generation.stats.steps >= 1


def test_closing_a_stream_gives_its_seat_back(llm, seats):
    stream = llm.stream(PROMPT, max_tokens=40)
    next(stream)
    assert len(seats) == 1
    stream.close()
    stream.close()
    assert not seats
    assert list(stream) == []
    assert stream.generation.finish is None


def test_a_with_block_closes_the_stream(llm, seats):
    with llm.stream(PROMPT, max_tokens=40) as stream:
        next(stream)
        assert seats
    assert not seats


def test_a_stream_is_checked_before_it_is_iterated(llm):
    with pytest.raises(InvalidOption, match="max_tokens is 0"):
        llm.stream(PROMPT, max_tokens=0)
    with pytest.raises(InvalidOption, match="no option is named 'max_batch'"):
        llm.stream(PROMPT, max_batch=2)


def test_agenerate_gives_what_generate_gives(llm):
    async def main():
        one = await llm.agenerate(PROMPT, max_tokens=12)
        several = await llm.agenerate([PROMPT, "abc"], max_tokens=12, n=1)
        return one, several

    one, several = asyncio.run(main())
    assert one.text == llm.generate(PROMPT, max_tokens=12).text
    assert several[0][0].text == one.text
    assert several[1][0].text == llm.generate("abc", max_tokens=12).text


def test_several_agenerates_run_side_by_side(llm, seats):
    prompts = ["a", "bc", PROMPT, "xyz"]

    async def main():
        return await asyncio.gather(*(llm.agenerate(p, max_tokens=15) for p in prompts))

    done = asyncio.run(main())
    assert [one.text for one in done] == [llm.generate(p, max_tokens=15).text for p in prompts]
    assert not seats


def test_decoding_does_not_block_the_loop(llm):
    loops = []

    def note(step):
        loops.append(threading.get_ident())

    async def main():
        work = asyncio.ensure_future(
            llm.agenerate(
                PROMPT, max_tokens=20, on_step=lambda step: loops.append(threading.get_ident())
            )
        )
        while not work.done():
            await asyncio.sleep(0)
        await work

    asyncio.run(main())
    assert loops
    assert threading.get_ident() not in loops


def test_canceling_ends_the_sequence_and_frees_its_seat(llm, seats):
    begun = threading.Event()
    steps = []

    def slow(step):
        steps.append(step)
        begun.set()
        time.sleep(0.01)

    async def main():
        work = asyncio.ensure_future(llm.agenerate(PROMPT, max_tokens=200, on_step=slow, nodes=0))
        await asyncio.to_thread(begun.wait)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return len(steps), bool(seats)

    made, held = asyncio.run(main())
    assert made < 150
    assert not held
    assert len(steps) == made  # nothing went on in the background


def test_a_bad_option_of_agenerate_is_refused(llm):
    with pytest.raises(InvalidOption, match="temperature is 'hot'"):
        asyncio.run(llm.agenerate(PROMPT, temperature="hot"))


def test_astream_gives_the_pieces_of_stream(llm):
    async def main():
        stream = llm.astream(PROMPT, max_tokens=25)
        return [piece async for piece in stream], stream.generation

    pieces, done = asyncio.run(main())
    assert "".join(pieces) == done.text == llm.generate(PROMPT, max_tokens=25).text
    assert len(pieces) > 1


def test_a_canceled_astream_frees_its_seat(llm, seats):
    first = asyncio.Event()

    async def read(stream):
        async for _ in stream:
            first.set()

    async def main():
        stream = llm.astream(PROMPT, max_tokens=200, nodes=0, on_step=lambda step: time.sleep(0.01))
        work = asyncio.ensure_future(read(stream))
        await first.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert not seats
        assert len(stream.generation.tokens) < 200

    asyncio.run(main())


def test_an_async_with_block_closes_the_stream(llm, seats):
    async def main():
        async with llm.astream(PROMPT, max_tokens=40) as stream:
            await anext(stream)
            assert seats
        assert not seats

    asyncio.run(main())
