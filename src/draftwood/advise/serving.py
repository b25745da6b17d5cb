"""What a pass takes on a running OpenAI-compatible server, estimated from outside.

Requests of one output token differ in the length of their prompts only: the pass that computes n
tokens more stands for one that verifies n drafted tokens. A prompt begins with text that the server
has seen, so that its prefix cache holds all but the tokens that differ; where it has none, the
whole prompt is computed each time, and the curve is too flat: the file says what was seen.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from time import perf_counter
from typing import Any

from draftwood.budget.curve import BATCHES, DRAFTED, CostCurve, check_sizes, estimated_curve
from draftwood.errors import InvalidOption

_WORDS = ("the", "of", "and", "to", "in", "is", "on", "it", "as", "at", "by", "we", "or", "an")
"""Words that are one token, with the space before them, in the usual tokenizers."""
_TIMEOUT = 120.0


class Server:
    """An OpenAI-compatible server. model: None: the first that it serves.

    Raises:
        InvalidOption: it cannot be reached, or serves no model.
    """

    def __init__(self, url: str, model: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidOption(f"--openai is {url!r}; give a URL such as http://localhost:8000/v1")
        self.url = url.rstrip("/")
        self.model = model or self._first_model()

    def _first_model(self) -> str:
        found = self.ask("models").get("data") or []
        if not found:
            raise InvalidOption(f"{self.url} serves no model; name one with --served-model")
        return str(found[0]["id"])

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request, a POST where there is a body.

        Raises:
            InvalidOption: no answer, or an error.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                found = json.loads(answer.read())
        except (OSError, ValueError) as error:
            code = f", {error.read()[:200]!r}" if isinstance(error, urllib.error.HTTPError) else ""
            raise InvalidOption(
                f"{self.url}/{path} gives no answer ({error}{code}); check the address, and that "
                "the server runs"
            ) from None
        return found if isinstance(found, dict) else {}

    def seconds(self, prompt: str, tokens: int) -> float:
        """The time of an answer of so many tokens."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
        start = perf_counter()
        self.ask("completions", body)
        return perf_counter() - start


def measured_server(
    server: Server,
    *,
    batches: Sequence[int] = BATCHES,
    drafted: Sequence[int] = DRAFTED,
    context: int = 256,
    repeats: int = 5,
    progress: Callable[[float], None] | None = None,
) -> CostCurve:
    """An estimate of the curve of a server, at as many requests at once as a batch has sequences.

    How it is worked out, and how good it is, says `estimated_curve`.

    Raises:
        InvalidOption: sizes that cannot be measured, or no answer.
    """
    check_sizes(batches, drafted, context, repeats)
    fresh = count(1)

    def batch_of(size: int) -> Callable[[int, int], float]:
        begins = [_text(each, context) for each in range(size)]

        def at_once(extra: int, tokens: int) -> float:
            prompts = [each + _text(next(fresh) * 7919, extra) for each in begins]
            with ThreadPoolExecutor(size) as pool:
                start = perf_counter()
                list(pool.map(lambda each: server.seconds(each, tokens), prompts))
                return perf_counter() - start

        return at_once

    about = {
        "server": server.url,
        "model": server.model,
        "how": "estimated from prompts of different lengths",
        "context": context,
    }
    return estimated_curve(
        batch_of,
        batches=batches,
        drafted=drafted,
        repeats=repeats,
        about=about,
        progress=progress,
    )


def _text(seed: int, words: int) -> str:
    """Words that differ by seed from the first one on."""
    state, found = seed * 2_654_435_761 + 1, []
    for _ in range(words):
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        found.append(_WORDS[(state >> 33) % len(_WORDS)])
    return "".join(f" {each}" for each in found)
