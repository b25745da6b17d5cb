"""From a request to the texts that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from draftwood.draft import TokenIds
from draftwood.grammar.compiled import Grammars
from draftwood.grammar.rule import GrammarRule
from draftwood.sampling.penalties import CountPenalty
from draftwood.sampling.processors import LogitsProcessor
from draftwood.server.engine import Engine, WantedText
from draftwood.server.fields import GenerationFields, ResponseFormat
from draftwood.server.keys import Caller
from draftwood.server.limits import ServerLimits
from draftwood.server.refusal import Refusal
from draftwood.server.requests import ChatRequest, CompletionRequest

COMPLETION_TOKENS: Final = 16
"""What a completion generates at most where it does not say, as in OpenAI's API."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What a request comes to.

    texts: in the order of the answer's choices. prompt_tokens: of all prompts, each counted once.
    namespace: where they learn and draft. predicted: whether there is a prediction.
    """

    texts: list[WantedText]
    prompt_tokens: int
    namespace: str
    predicted: bool


async def chat_work(engine: Engine, request: ChatRequest, caller: Caller) -> Work:
    """What a chat request comes to.

    Raises:
        Refusal: for a request that the server does not take.
        DraftwoodError: for one that the model cannot answer.
    """
    template: dict[str, Any] = {"chat_template_kwargs": request.chat_template_kwargs}
    for name in request.chat_template_kwargs or ():
        if name in _TEMPLATE:
            raise Refusal(400, f"chat_template_kwargs has {name!r}, which is not the caller's")
    if request.tools and request.tool_choice != "none":
        template["tools"] = request.tools
    if request.top_logprobs is not None and not request.logprobs:
        raise Refusal(400, "top_logprobs is given without logprobs; set logprobs to true")
    wanted = request.max_completion_tokens or request.max_tokens
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    _check_choices(engine.limits, request, 1)
    ids = await engine.encode([each.turn() for each in request.messages], **template)
    return await _work(engine, request, caller, [ids], logprobs, wanted)


_TEMPLATE: Final = frozenset(
    {
        "chat_template",
        "conversation",
        "max_length",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""Arguments of `apply_chat_template` that are the server's; a template is a program."""


async def completion_work(engine: Engine, request: CompletionRequest, caller: Caller) -> Work:
    """What a completion request comes to.

    Raises:
        Refusal: for a request that the server does not take.
        DraftwoodError: for one that the model cannot answer.
    """
    if request.best_of not in (None, request.n or 1):
        raise Refusal(400, f"best_of is {request.best_of}; leave it out", param="best_of")
    _check_choices(engine.limits, request, len(request.prompts))
    ids = [await engine.encode(each, chat=False) for each in request.prompts]
    wanted = request.max_tokens or COMPLETION_TOKENS
    return await _work(engine, request, caller, ids, request.logprobs, wanted)


async def _work(
    engine: Engine,
    request: GenerationFields,
    caller: Caller,
    prompts: list[TokenIds],
    logprobs: int | None,
    max_tokens: int | None,
) -> Work:
    limits = engine.limits
    _check_tokens(limits, prompts, max_tokens)
    namespace = caller.namespace(request.cache_salt or request.user)
    options = {
        **request.options(engine.llm.target.vocab_size),
        "namespace": namespace,
        "logprobs": logprobs,
    }
    options["max_tokens"] = limits.max_tokens if max_tokens is None else max_tokens
    if "prediction" in options:
        options["prediction"] = await _predictions(engine, options["prediction"])
    texts: list[WantedText] = []
    for ids in prompts:
        for _ in range(request.n or 1):
            own = dict(options)
            if request.seed is not None:
                own["seed"] = (request.seed + len(texts)) % 2**64
            own["logits_processors"] = await _processors(engine, request, len(ids))
            texts.append(WantedText(ids, own))
    total = sum(map(len, prompts))
    return Work(texts, total, namespace, request.prediction is not None)


async def _predictions(engine: Engine, texts: list[str]) -> list[TokenIds]:
    ids = [each for each in await engine.predictions(texts) if len(each)]
    total, most = sum(map(len, ids)), engine.limits.max_prompt_tokens
    if total > most:
        raise Refusal(
            400,
            f"the predictions have {total} tokens, more than {most}; send less",
            param="prediction",
        )
    return ids


async def _processors(
    engine: Engine, request: GenerationFields, prompt_tokens: int
) -> list[LogitsProcessor]:
    """Penalties and the response format, as processors of one text."""
    found: list[LogitsProcessor] = []
    presence, frequency = request.presence_penalty or 0.0, request.frequency_penalty or 0.0
    if presence or frequency:
        found.append(CountPenalty(presence, frequency, prompt_tokens))
    make = _grammar(request.response_format, prompt_tokens)
    if make is not None:
        found.append(await engine.rule(make))
    return found


def _grammar(
    wanted: ResponseFormat | None, prompt_tokens: int
) -> Callable[[Grammars], GrammarRule] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema is not None:
        schema = wanted.json_schema.schema_
        return lambda grammars: grammars.json_schema(schema, prompt_tokens)
    if wanted.regex is not None:
        expression = wanted.regex
        return lambda grammars: grammars.regex(expression, prompt_tokens)
    return lambda grammars: grammars.json(prompt_tokens)


def _check_choices(limits: ServerLimits, request: GenerationFields, prompts: int) -> None:
    choices = prompts * (request.n or 1)
    if choices > limits.max_choices:
        raise Refusal(
            400,
            f"{choices} texts are asked for, more than {limits.max_choices}; send several requests",
            param="n",
        )


def _check_tokens(limits: ServerLimits, prompts: list[TokenIds], max_tokens: int | None) -> None:
    longest = max(map(len, prompts))
    if longest > limits.max_prompt_tokens:
        raise Refusal(
            400,
            f"a prompt has {longest} tokens, more than {limits.max_prompt_tokens}; send less",
            code="context_length_exceeded",
        )
    if max_tokens is not None and max_tokens > limits.max_tokens:
        raise Refusal(
            400,
            f"max_tokens is {max_tokens}, more than {limits.max_tokens}; ask for less",
            param="max_tokens",
        )
