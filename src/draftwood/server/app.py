"""The application: what the server answers under which path."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from draftwood.errors import DraftwoodError
from draftwood.page.document import STATIC, static_file
from draftwood.server.engine import Engine
from draftwood.server.fields import GenerationFields
from draftwood.server.forms import AnswerForm, ChatForm, CompletionForm
from draftwood.server.guard import RequestGuard
from draftwood.server.keys import ApiKeys, Caller
from draftwood.server.ledger import NamespaceCounts, history_figures
from draftwood.server.refusal import Refusal
from draftwood.server.requests import ChatRequest, CompletionRequest
from draftwood.server.shapes import (
    ChatCompletion,
    ErrorAnswer,
    ModelCard,
    ModelList,
    TextCompletion,
)
from draftwood.server.speaking import Gone, streamed_answer, while_connected, whole_answer
from draftwood.server.work import Work, chat_work, completion_work

_FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": says}
    for status, says in {
        400: "The request cannot be answered as it is.",
        401: "No key of this server's.",
        404: "Another model.",
        413: "Too large.",
        415: "Not JSON.",
        429: "The queue is full; see Retry-After.",
        503: "The server is shutting down.",
    }.items()
}


_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page asks this server only, runs its own scripts only, and stands in no frame."""


def page_file(name: str) -> Response:
    """A file of the page."""
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return Response(static_file(name), media_type=STATIC[name], headers=headers)


_BEARER = HTTPBearer(auto_error=False)


def caller_of(request: Request, _: Annotated[Any, Depends(_BEARER)]) -> Caller:
    """Who sends a request, by its key.

    Raises:
        Refusal: where the server has keys and this is none.
    """
    keys: ApiKeys | None = request.app.state.keys
    if keys is None:
        return Caller()
    caller = keys.caller(request.headers.get("authorization"))
    if caller is None:
        raise Refusal(
            401,
            "no key of this server's was given; send Authorization: Bearer KEY",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return caller


Known: TypeAlias = Annotated[Caller, Depends(caller_of)]
"""Who sent the request."""


def create_app(
    engine: Engine, *, keys: ApiKeys | None = None, hosts: Collection[str] | None = None
) -> FastAPI:
    """The application around an engine.

    keys: None: everybody is the same caller. hosts: see `RequestGuard`.
    """
    app = FastAPI(
        title="Draftwood",
        summary="OpenAI-compatible generation in fewer steps.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.keys = keys
    app.add_middleware(RequestGuard, limits=engine.limits, hosts=hosts)
    ledger = NamespaceCounts()
    began = int(time.time())

    def card() -> ModelCard:
        return ModelCard(
            id=engine.llm.name, created=began, max_model_len=engine.llm.target.context_limit
        )

    async def answer(
        request: Request,
        asked: GenerationFields,
        form: AnswerForm,
        caller: Caller,
        work: Callable[[], Awaitable[Work]],
    ) -> Response:
        if asked.model not in (None, engine.llm.name):
            raise Refusal(
                404,
                f"the model {asked.model!r} is not here; this server has {engine.llm.name!r}",
                param="model",
                code="model_not_found",
            )

        async def speak() -> Response:
            said = streamed_answer if asked.stream else whole_answer
            salt = asked.cache_salt or asked.user
            return await said(
                engine, await work(), form, asked, lambda done: ledger.add(caller, salt, done)
            )

        return await while_connected(request, speak())

    @app.post(
        "/v1/chat/completions", response_model=ChatCompletion, responses=_FAULTS, tags=["OpenAI"]
    )
    async def chat_completions(request: Request, body: ChatRequest, caller: Known) -> Response:
        """Answer a chat."""
        form = ChatForm(engine.llm)
        return await answer(request, body, form, caller, lambda: chat_work(engine, body, caller))

    @app.post("/v1/completions", response_model=TextCompletion, responses=_FAULTS, tags=["OpenAI"])
    async def completions(request: Request, body: CompletionRequest, caller: Known) -> Response:
        """Complete a text."""
        form = CompletionForm(engine.llm)
        return await answer(
            request, body, form, caller, lambda: completion_work(engine, body, caller)
        )

    @app.get("/v1/models", responses={401: _FAULTS[401]}, tags=["OpenAI"])
    async def models(caller: Known) -> ModelList:
        """The model that is served."""
        return ModelList(data=[card()])

    @app.get(
        "/v1/models/{name:path}", responses={401: _FAULTS[401], 404: _FAULTS[404]}, tags=["OpenAI"]
    )
    async def model(name: str, caller: Known) -> ModelCard:
        """The model of this name."""
        if name != engine.llm.name:
            raise Refusal(
                404,
                f"the model {name!r} is not here; this server has {engine.llm.name!r}",
                code="model_not_found",
            )
        return card()

    @app.get("/health", responses={503: _FAULTS[503]}, tags=["operation"])
    async def health() -> dict[str, str]:
        """200 while requests are taken, 503 while the server shuts down."""
        if not engine.healthy:
            raise Refusal(503, "the server takes no requests", kind="server_error")
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response, responses={401: _FAULTS[401]}, tags=["operation"])
    async def metrics(caller: Known) -> Response:
        """Figures for Prometheus."""
        return Response(engine.metrics.page(), media_type="text/plain; version=0.0.4")

    @app.get("/draftwood/history", responses={401: _FAULTS[401]}, tags=["operation"])
    async def history(caller: Known) -> dict[str, Any]:
        """What drafts are made from: figures of the whole, and the caller's own namespaces."""
        figures = history_figures(engine.llm)
        return {**figures, "namespaces": ledger.shown(caller)}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_file("index.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name not in STATIC:
            raise Refusal(404, f"the page has no part {name!r}")
        return page_file(name)

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> JSONResponse:
        return JSONResponse(refusal.body(), refusal.status, refusal.headers)

    @app.exception_handler(DraftwoodError)
    async def wrong(_: Request, error: DraftwoodError) -> JSONResponse:
        return await refused(_, Refusal.of(error))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return await refused(_, Refusal.of(error))

    @app.exception_handler(Gone)
    async def gone(_: Request, error: Gone) -> Response:
        return Response(status_code=499)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return await refused(_, Refusal.of_fields(error.errors()))

    @app.exception_handler(HTTPException)
    async def missing(_: Request, error: HTTPException) -> JSONResponse:
        refusal = Refusal(error.status_code, str(error.detail), headers=error.headers)
        return await refused(_, refusal)

    return app
