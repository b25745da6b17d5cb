"""What one namespace generated is never drafted in another, whatever happens in between."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.suffix import SHARED, SuffixDrafter, SuffixStream
from draftwood.index.store import History
from draftwood.protocols import Feedback, Verdict

NAMES = ("", "a", "b")
WIDTH = 4
"""Tokens of each namespace: it generates no others. Prompts hold those of all."""
PROMPT = as_tokens(range(WIDTH * len(NAMES)))
NOTHING = Verdict(np.empty(0, dtype=np.int32), None)

names = st.sampled_from(range(len(NAMES)))
texts = st.lists(st.integers(0, WIDTH - 1), min_size=1, max_size=8)


def feedback(name: int, text: list[int]) -> Feedback:
    return Feedback(Draft.empty(), NOTHING, as_tokens([name * WIDTH + token for token in text]))


class NamespaceMachine(RuleBasedStateMachine):
    @initialize(
        mode=st.sampled_from(["linear", "tree"]),
        evict=st.sampled_from(["fifo", "lru"]),
        most=st.sampled_from([None, 1, 4]),
        size=st.sampled_from([None, 30]),
    )
    def plant(self, mode, evict, most, size) -> None:
        self.options = {
            "mode": mode, "evict": evict, "max_requests": most, "max_tokens": size,
            "depth": 6, "alpha": 4.0, "floor": 0.0,
        }  # fmt: skip
        self.drafter = SuffixDrafter(**self.options)
        self.streams: list[tuple[int, SuffixStream]] = []
        self.ended: list[int] = []

    @rule(name=names)
    def open(self, name: int) -> None:
        self.streams.append((name, self.drafter.open(PROMPT, namespace=NAMES[name])))

    @rule(data=st.data())
    def generate(self, data: st.DataObject) -> None:
        if self.streams:
            name, stream = data.draw(st.sampled_from(self.streams))
            stream.observe(feedback(name, data.draw(texts)))

    @rule(data=st.data())
    def generate_together(self, data: st.DataObject) -> None:
        said = [feedback(name, data.draw(texts)) for name, _ in self.streams]
        self.drafter.observe_all([stream for _, stream in self.streams], said)

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        if self.streams:
            _, stream = self.streams.pop(data.draw(st.integers(0, len(self.streams) - 1)))
            stream.close()
            self.ended.append(stream.sequence)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        known = [stream.sequence for _, stream in self.streams] + self.ended
        if known:
            with contextlib.suppress(LookupError):  # evicted, or forgotten before
                self.drafter.remove(data.draw(st.sampled_from(known)))

    @rule(together=st.booleans(), nodes=st.sampled_from([1, 4, 32]))
    def draft(self, together: bool, nodes: int) -> None:
        budget = Budget(nodes)
        drafts = (
            self.drafter.propose_all([stream for _, stream in self.streams], budget)
            if together
            else [stream.propose(budget) for _, stream in self.streams]
        )
        for (name, _), draft in zip(self.streams, drafts, strict=True):
            shared = draft.tokens[draft.source == SHARED]
            assert set((shared // WIDTH).tolist()) <= {name}

    @rule(restart=st.booleans())
    def save(self, restart: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "history.dw"
            self.drafter.save(path)
            history = History.open(path)
            for entry in history.entries():
                assert {NAMES[token // WIDTH] for token in entry.tokens} == {entry.namespace}
            if restart:
                self.drafter = SuffixDrafter(**self.options)
                self.streams, self.ended = [], []
            self.drafter.warm(history)

    def teardown(self) -> None:
        if hasattr(self, "drafter"):
            for name in NAMES:
                tree = self.drafter.shared(name)
                assert tree.check() == ""
                assert all(
                    tree.count([token]) == 0
                    for token in PROMPT.tolist()
                    if NAMES[token // WIDTH] != name
                )


TestNamespaces = NamespaceMachine.TestCase
