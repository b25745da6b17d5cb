"""Answers a request: whole, or in server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from draftwood.language_model.generation import Generation
from draftwood.server.answer import ChoiceWriter, extension_of, figures_of, usage_of
from draftwood.server.engine import Engine
from draftwood.server.fields import GenerationFields
from draftwood.server.forms import AnswerForm, Heading, Piece
from draftwood.server.refusal import Refusal
from draftwood.server.shapes import dumped
from draftwood.server.work import Work

T = TypeVar("T")
Finished = Callable[[list[Generation]], None]
"""Told the texts of a request once all have ended."""


class Gone(Exception):
    """The client went away."""


async def whole_answer(
    engine: Engine, work: Work, form: AnswerForm, asked: GenerationFields, finished: Finished
) -> Response:
    """The answer, once all texts have ended."""
    origins = asked.draftwood.origins
    writers = [ChoiceWriter(engine.llm, origins=origins) for _ in work.texts]
    pieces: list[list[Piece]] = [[] for _ in work.texts]
    async with engine.texts(work.texts) as news:
        async for place, step in news:
            pieces[place].append(writers[place].take(step))
    done = _generations(writers)
    finished(done)
    choices = []
    for place, (writer, own, each) in enumerate(zip(writers, pieces, done, strict=True)):
        tokens = [token for piece in own for token in piece.tokens or ()] if origins else None
        choices.append(form.choice(place, each.text, own, extension_of(work, writer, tokens)))
    heading = Heading(asked.model or engine.llm.name, form.prefix)
    return JSONResponse(
        dumped(form.whole(heading, choices, usage_of(work, done), figures_of(done)))
    )


async def streamed_answer(
    engine: Engine, work: Work, form: AnswerForm, asked: GenerationFields, finished: Finished
) -> Response:
    """The answer in pieces.

    What can be refused is refused before the first one, as a plain response; an error on the way is
    an event of its own, the last one.
    """
    events = _events(engine, work, form, asked, finished)
    first = await anext(events)  # the texts are admitted

    return _EventStream(first, events)


class _EventStream(StreamingResponse):
    """Server-sent events; however the response ends, what generates them ends with it."""

    def __init__(self, first: str, rest: AsyncGenerator[str, None]) -> None:
        self._rest = rest
        super().__init__(
            _chained(first, rest),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._rest.aclose()


async def _chained(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for event in rest:
        yield event


async def _events(
    engine: Engine, work: Work, form: AnswerForm, asked: GenerationFields, finished: Finished
) -> AsyncGenerator[str, None]:
    heading = Heading(asked.model or engine.llm.name, form.prefix)
    origins = asked.draftwood.origins
    writers = [ChoiceWriter(engine.llm, origins=origins) for _ in work.texts]
    async with engine.texts(work.texts) as news:
        opening = [form.opening(heading, place) for place in range(len(writers))]
        yield "".join(_event(each) for each in opening if each is not None) or ": admitted\n\n"
        try:
            async for place, step in news:
                piece = writers[place].take(step)
                if _says_something(piece):
                    extension = extension_of(work, writers[place], piece.tokens)
                    yield _event(form.chunk(heading, place, piece, extension))
        except Refusal as refusal:
            yield f"data: {json.dumps(refusal.body())}\n\n"
            return
    done = _generations(writers)
    finished(done)
    if asked.stream_options is not None and asked.stream_options.include_usage:
        yield _event(form.closing(heading, usage_of(work, done), figures_of(done)))
    yield "data: [DONE]\n\n"


def _says_something(piece: Piece) -> bool:
    return bool(piece.text or piece.finish or piece.tokens or piece.logprobs is not None)


def _generations(writers: list[ChoiceWriter]) -> list[Generation]:
    return [each.generation for each in writers if each.generation is not None]


def _event(answer: BaseModel) -> str:
    return f"data: {json.dumps(dumped(answer), ensure_ascii=False)}\n\n"


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is canceled as soon as the client goes away.

    Raises:
        Gone: where it did.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait([task, watch], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
