"""An adapter of about 30 lines for an engine that verifies token trees with masks.

The engine is imaginary, and like SGLang's workers in what it asks for: it knows its requests by id,
takes a fixed number of slots for each (the last committed token's first), a mask that says which
slots see which, and says when a request has ended. Run it:

    python examples/tree_engine.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from draftwood.budget.cost import LinearCost
from draftwood.budget.spending import Spending
from draftwood.draft import Budget
from draftwood.drafters.recall import RecallDrafter
from draftwood.sessions import PaddedDrafts, Sessions

# ---- the adapter


class TreeAdapter:
    """What the engine calls when requests begin and end, and before every pass."""

    def __init__(self, vocab_size: int, context_len: int, slots: int) -> None:
        self.sessions = Sessions(
            RecallDrafter(),
            vocab_size=vocab_size,
            context_limit=context_len,
            nodes=slots - 1,
            spender=Spending(LinearCost(0.01), limit=Budget(slots - 1)),
        )
        self._slots = slots

    def started(self, rid: str, prompt: Sequence[int]) -> None:
        """A request has begun."""
        self.sessions.open(rid, prompt)

    def finished(self, rid: str, *, naturally: bool) -> None:
        """It has ended; what was cut off in the middle is not learned."""
        (self.sessions.close if naturally else self.sessions.abandon)(rid)

    def prepare(self, rids: Sequence[str], new: Sequence[Sequence[int]]) -> PaddedDrafts:
        """Trees for the next pass, after the tokens that the last one brought."""
        return self.sessions.step(rids, new).padded(self._slots, root=True)


# ---- the imaginary engine


class TreeEngine:
    """Decodes all its requests in every pass; a request's model is the text that it will say."""

    def __init__(self, answers: dict[str, list[int]]) -> None:
        self.answers = answers
        self.texts: dict[str, list[int]] = {rid: [] for rid in answers}
        self.passes = 0

    def run(self, prompts: dict[str, list[int]], adapter: TreeAdapter, batch: int) -> None:
        """Serve all requests, `batch` at a time."""
        waiting, running = list(prompts), list[str]()
        new: dict[str, list[int]] = {}
        while waiting or running:
            while waiting and len(running) < batch:
                rid = waiting.pop(0)
                adapter.started(rid, prompts[rid])
                running.append(rid)
                new[rid] = []
            trees = adapter.prepare(running, [new[rid] for rid in running])
            self.passes += 1
            for row, rid in enumerate(running):
                new[rid] = self._verify(rid, trees, row)
                self.texts[rid] += new[rid]
            for rid in [rid for rid in running if self.texts[rid] == self.answers[rid]]:
                running.remove(rid)
                adapter.finished(rid, naturally=True)

    def _verify(self, rid: str, trees: PaddedDrafts, row: int) -> list[int]:
        """Walk down the tree as far as the model says its tokens; then the model's own.

        A slot's parent is the last other slot that it sees: the mask is all there is to know.
        """
        rest = self.answers[rid][len(self.texts[rid]) :]
        tokens, mask = trees.tokens[row], trees.mask[row]
        parents = [-1] + [
            int(np.flatnonzero(mask[slot, :slot])[-1]) for slot in range(1, trees.counts[row])
        ]
        at, accepted = 0, 0
        while accepted < len(rest) - 1:
            here = [
                slot
                for slot, parent in enumerate(parents)
                if parent == at and tokens[slot] == rest[accepted]
            ]
            if not here:
                break
            at = here[0]
            accepted += 1
            assert trees.depths[row, at] == accepted
        return rest[: accepted + 1]


def main() -> None:
    """Serve requests whose answers resemble one another."""
    random = np.random.default_rng(0)
    phrases = [random.integers(0, 1000, 12).tolist() for _ in range(8)]
    prompts, answers = {}, {}
    for number in range(24):
        prompts[f"r{number}"] = random.integers(0, 1000, 20).tolist()
        answers[f"r{number}"] = [t for at in random.integers(0, 8, 6) for t in phrases[at]]
    adapter = TreeAdapter(vocab_size=1000, context_len=512, slots=16)
    engine = TreeEngine(answers)
    engine.run(prompts, adapter, batch=4)
    assert engine.texts == answers
    tokens = sum(map(len, answers.values()))
    print(f"{tokens} tokens in {engine.passes} passes of up to 4 requests;", end=" ")
    print(f"{adapter.sessions.accepted} of {adapter.sessions.drafted} drafted tokens accepted")


if __name__ == "__main__":
    main()
