"""Which calls belong together: by ids, or because a prompt goes on from an earlier answer."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.logs.call import ChatMessage, Conversation, LoggedCall

_MOST = 1 << 17
_MOST_TEXTS = 4096
_SHORTEST = 8
"""Bytes of a text that may be the beginning of another: less may be so by chance."""
_BASE = 0x9E3779B97F4A7C15


class SessionJoiner:
    """Gives calls the session that they go on with; calls must come in order.

    A conversation goes on where a prefix of its messages is the prompt and the answer of an earlier
    call; so does a text or ids. The first call of such a session keeps its own name, `~` and its
    number, as it was given out. The latest 131 072 calls are remembered, of texts 4 096.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[str, str] = OrderedDict()
        self._known: OrderedDict[bytes, tuple[str, bool]] = OrderedDict()
        self._texts = _TextPrefixes()
        self._count = 0

    def joined(self, call: LoggedCall) -> LoggedCall | None:
        """The call with its session; None: a turn that an earlier entry of the log ended with."""
        session, repeated = call.session, False
        if session is None and call.follows is not None:
            session = self._answers.get(call.follows)
        name = session or f"~{self._count}"
        if isinstance(call.prompt, Conversation):
            *before, prompt = _hashes(call.prompt.messages)
            answer = (
                call.response if isinstance(call.response, dict) else {"content": call.response}
            )
            whole = _chained(prompt, {"role": "assistant", **answer})
            if session is None:
                longest = (self._known.get(key) for key in (prompt, *reversed(before)))
                known = next((each for each in longest if each is not None), None)
                session = known and known[0]
            earlier, ended = self._known.get(whole, ("", False))
            repeated = not call.last and ended
            name = session or (earlier if repeated else name)
            self._known[whole] = (name, call.last or repeated)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        elif session is None and not call.delta:
            session = self._texts.session_of(call.prompt, call.response, name)
        if repeated:
            return None
        if call.answer_id is not None:
            self._answers[call.answer_id] = session or name
            if len(self._answers) > _MOST:
                self._answers.popitem(last=False)
        self._count += 1
        return call if session == call.session else replace(call, session=session)


def _hashes(messages: tuple[ChatMessage, ...]) -> list[bytes]:
    """A hash of the first 1, 2, .. messages."""
    found, last = [], b""
    for message in messages:
        last = _chained(last, message)
        found.append(last)
    return found or [b""]


def _chained(before: bytes, message: ChatMessage) -> bytes:
    """A hash of what comes before and of what a message says; not of ids, which change."""
    calls = [each.get("function") for each in message.get("tool_calls") or ()]
    content = message.get("content")
    text = content.strip() if isinstance(content, str) else str(content)
    said = json.dumps([message.get("role"), text, calls], sort_keys=True, default=str)
    return hashlib.blake2b(before + said.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class _TextPrefixes:
    """Texts and ids that later prompts may begin with."""

    def __init__(self) -> None:
        self._powers: NDArray[np.uint64] = np.ones(1, np.uint64)
        self._known: OrderedDict[tuple[int, int], str] = OrderedDict()

    def session_of(self, prompt: object, response: object, name: str) -> str | None:
        """The session that a prompt goes on with; `name` is that of a new one."""
        if not isinstance(prompt, str | np.ndarray) or not isinstance(response, str | np.ndarray):
            return None
        asked, answered = _bytes(prompt), _bytes(response)
        sums = self._sums(np.concatenate((asked, answered)))
        lengths = {length for length, _ in self._known if length <= len(asked)}
        session = next(
            (
                self._known[key]
                for length in sorted(lengths, reverse=True)
                if (key := (length, int(sums[length]))) in self._known
            ),
            None,
        )
        if len(answered) and len(sums) > _SHORTEST:
            self._known[len(sums) - 1, int(sums[-1])] = session or name
        if len(self._known) > _MOST_TEXTS:
            self._known.popitem(last=False)
        return session

    def _sums(self, data: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """uint64 [n + 1]: a hash of the first 0, 1, .. n bytes, a polynomial modulo 2^64."""
        while len(self._powers) < len(data):
            more = np.full(len(self._powers), _BASE, np.uint64)
            step = np.cumprod(more, dtype=np.uint64)
            self._powers = np.concatenate((self._powers, self._powers[-1] * step))
        sums = np.zeros(len(data) + 1, np.uint64)
        np.cumsum((data.astype(np.uint64) + 1) * self._powers[: len(data)], out=sums[1:])
        return sums


def _bytes(text: str | TokenIds) -> NDArray[np.uint8]:
    if isinstance(text, str):
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    return np.ascontiguousarray(text, dtype=np.int32).view(np.uint8)
