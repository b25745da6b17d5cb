"""An adapter of about 30 lines for an engine that drafts chains and gives no request ids.

The engine is imaginary, and like vLLM's runner in what it shows its drafter: one int32 matrix of
token ids, whose rows move when requests come and go, and the length of each row. It verifies a
chain for each row, and is never told by whom a row is filled. Run it:

    python examples/chain_engine.py
"""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.typing import NDArray

from draftwood.drafters.recall import RecallDrafter
from draftwood.sessions import Sessions, TokenRows

# ---- the adapter


class ChainAdapter:
    """What the engine calls after every pass: `propose(token_ids, lengths)`."""

    def __init__(self, vocab_size: int, max_model_len: int, num_speculative_tokens: int) -> None:
        self.sessions = Sessions(
            RecallDrafter(mode="chain"),
            vocab_size=vocab_size,
            context_limit=max_model_len,
            nodes=num_speculative_tokens,
            trees=False,
        )
        self._numbers = count()

    def propose(self, token_ids: NDArray[np.int32], lengths: NDArray[np.int32]) -> list[list[int]]:
        """A chain of at most `num_speculative_tokens` ids for each row."""
        rows = TokenRows(token_ids, lengths)
        keys = self.sessions.recognize(rows)
        for row, key in enumerate(keys):
            if key is None:  # a request that was not here before
                keys[row] = next(self._numbers)
                self.sessions.open(keys[row], token_ids[row, : lengths[row]])
        return self.sessions.step(keys, rows).chains()


# ---- the imaginary engine


class ChainEngine:
    """Decodes requests in the rows of a matrix; a finished request's row is filled by the last."""

    def __init__(self, rows: int, width: int) -> None:
        self.token_ids = np.zeros((rows, width), np.int32)
        self.lengths = np.zeros(rows, np.int32)
        self.passes = 0
        self._running: list[tuple[int, list[int]]] = []  # number, tokens that the model will say
        self.texts: dict[int, list[int]] = {}

    def run(self, requests: list[tuple[list[int], list[int]]], adapter: ChainAdapter) -> None:
        """Serve (prompt, what the model will say) until all are done."""
        waiting = list(enumerate(requests))
        drafts: list[list[int]] = []
        while waiting or self._running:
            while waiting and len(self._running) < len(self.lengths):
                number, (prompt, answer) = waiting.pop(0)
                row = len(self._running)
                self.token_ids[row, : len(prompt)] = prompt
                self.lengths[row] = len(prompt)
                self.texts[number] = []
                self._running.append((number, list(answer)))
                drafts.append([])
            self.passes += 1
            for row, draft in enumerate(drafts):
                self._verify(row, draft)
            self._remove_finished()
            running = len(self._running)
            drafts = adapter.propose(self.token_ids[:running], self.lengths[:running])

    def _verify(self, row: int, draft: list[int]) -> None:
        """Keep what the model says as well, and its own token after that."""
        number, answer = self._running[row]
        right = 0
        while right < min(len(draft), len(answer) - 1) and draft[right] == answer[right]:
            right += 1
        new = answer[: right + 1]
        del answer[: right + 1]
        end = self.lengths[row]
        self.token_ids[row, end : end + len(new)] = new
        self.lengths[row] += len(new)
        self.texts[number] += new

    def _remove_finished(self) -> None:
        for row in range(len(self._running) - 1, -1, -1):
            if not self._running[row][1]:
                last = len(self._running) - 1
                self.token_ids[row], self.lengths[row] = self.token_ids[last], self.lengths[last]
                self._running[row] = self._running[last]
                self._running.pop()


def main() -> None:
    """Serve requests whose answers resemble one another, with and without drafts."""
    random = np.random.default_rng(0)
    phrases = [random.integers(0, 1000, 12).tolist() for _ in range(8)]

    def said() -> list[int]:
        return [token for at in random.integers(0, 8, 6) for token in phrases[at]]

    requests = [(random.integers(0, 1000, 20).tolist(), said()) for _ in range(24)]
    adapter = ChainAdapter(vocab_size=1000, max_model_len=512, num_speculative_tokens=8)
    engine = ChainEngine(rows=4, width=512)
    engine.run(requests, adapter)
    tokens = sum(map(len, engine.texts.values()))
    assert all(engine.texts[at] == answer for at, (_, answer) in enumerate(requests))
    print(f"{tokens} tokens in {engine.passes} passes of up to 4 rows;", end=" ")
    print(f"{adapter.sessions.accepted} of {adapter.sessions.drafted} drafted tokens accepted")


if __name__ == "__main__":
    main()
