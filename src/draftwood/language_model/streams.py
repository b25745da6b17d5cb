"""Text in pieces while it is generated, for `for` and for `async for`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Self, TypeVar

from draftwood.language_model.generation import Generation, Run
from draftwood.step import Step

T = TypeVar("T")


class GenerationStream:
    """The pieces of one text, as they come; none is empty. Used by one thread at a time.

    Iterating generates. `close` ends the text early and frees its cache; so does leaving a `with`
    block. generation: what was generated so far; complete after the last piece.
    """

    def __init__(self, run: Run, steps: Generator[Step, None, None]) -> None:
        self._run = run
        self._steps = steps
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while not self._ended:
            piece = self._next()
            if piece:
                return piece
        raise StopIteration

    def _next(self) -> str:
        try:
            step = next(self._steps, None)
        except Exception as error:
            self._ended = True
            self._run.fail(error)
            raise
        if step is None:
            self._ended = True
            return self._run.rest()
        if self._run.error is not None:
            self.close()
            raise self._run.error
        return self._run.piece()

    def __repr__(self) -> str:
        return f"GenerationStream({self._run.progress})"

    @property
    def generation(self) -> Generation:
        """Finish reason, tokens, figures and all else of what has been generated so far."""
        return self._run.generation()

    def close(self) -> None:
        """End the text here; a second call does nothing."""
        self._ended = True
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncGenerationStream:
    """The pieces of one text for asyncio; each step runs in a thread, one after the other.

    A task that is canceled while it waits for a piece waits for the current step, and the text ends
    there. Leave early with `aclose` or an `async with` block.
    """

    def __init__(self, stream: GenerationStream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        try:
            piece = await in_thread(lambda: next(self._stream, None))
        except asyncio.CancelledError:
            self._stream.close()
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece

    def __repr__(self) -> str:
        return f"Async{self._stream!r}"

    @property
    def generation(self) -> Generation:
        """What was generated so far; complete after the last piece."""
        return self._stream.generation

    async def aclose(self) -> None:
        """End the text here; a second call does nothing."""
        self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def in_thread(
    function: Callable[[], T], *, canceled: Callable[[], object] | None = None
) -> T:
    """Run a function in a thread of the loop's, and wait until it is done, even when canceled.

    canceled: called as soon as the waiting task is canceled, to make the function end.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if canceled is not None:
            canceled()
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError:
                continue  # canceled twice: the thread still has to end
        if not work.cancelled():
            work.exception()  # taken, so that it is not reported as lost
        raise
