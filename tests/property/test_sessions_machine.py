"""Sessions in any order of calls draft what streams that are asked one by one would draft."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from draftwood.draft import ROOT, Budget, Draft, as_tokens
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.mix.blend import Blend
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.guarded import open_stream
from draftwood.protocols import Feedback
from draftwood.sessions import Sessions, TokenRows

VOCAB = 4  # few words: everything repeats
WORD = st.integers(0, VOCAB - 1)
TEXT = st.lists(WORD, max_size=30)
KEY = st.sampled_from(["a", "b", "c", "d"])
DRAFTERS = {
    "recall": partial(RecallDrafter, max_tokens=4096, share=8),
    "recall, two threads": partial(RecallDrafter, max_tokens=4096, share=8, threads=2),
    "suffix": SuffixDrafter,
    "suffix tree": partial(SuffixDrafter, mode="tree", alpha=4.0, floor=0.0),
    "lookup": partial(PromptLookup, nodes=16),
    "blend": lambda: Blend([RecallDrafter(max_tokens=4096), PromptLookup(nodes=16)]),
}


class Plain:
    """One sequence as a plain loop serves it."""

    def __init__(self, drafter, prompt, prediction):
        answers = [as_tokens(each) for each in prediction if each]
        self.stream = open_stream(drafter, as_tokens(prompt), "", answers)
        self.text = list(prompt)
        self.draft = Draft.empty()

    def observe(self, tokens):
        """How many of the tokens were drafted."""
        if not tokens:
            return 0
        feedback = Feedback.of(self.draft, np.array(tokens, np.int32))
        self.draft = Draft.empty()
        self.text += tokens
        self.stream.observe(feedback)
        return min(len(feedback.verdict.path), len(tokens) - 1)

    def abandon(self):
        getattr(self.stream, "abandon", self.stream.close)()


class Engine(RuleBasedStateMachine):
    """The same calls to `Sessions` and to streams of a twin of its drafter."""

    @initialize(
        name=st.sampled_from(sorted(DRAFTERS)), nodes=st.integers(1, 9), depth=st.integers(1, 9)
    )
    def begin(self, name, nodes, depth):
        self.drafter = DRAFTERS[name]()
        self.limit = Budget(nodes, depth)
        self.sessions = Sessions(
            DRAFTERS[name](), vocab_size=VOCAB, context_limit=10_000, nodes=nodes, depth=depth
        )
        self.plain: dict[str, Plain] = {}
        self.drafted = self.accepted = self.twice = 0

    @rule(key=KEY, prompt=TEXT, prediction=st.lists(TEXT, max_size=2))
    def open(self, key, prompt, prediction):
        self.sessions.open(key, prompt, prediction=prediction)
        opened = Plain(self.drafter, prompt, prediction)
        if key in self.plain:
            self.twice += 1
            self.plain.pop(key).abandon()
        self.plain[key] = opened

    @rule(prompts=st.lists(TEXT, min_size=2, max_size=4))
    def open_from_several_threads(self, prompts):
        keys = [("thread", at, len(self.plain)) for at in range(len(prompts))]
        threads = [
            threading.Thread(target=self.sessions.open, args=each)
            for each in zip(keys, prompts, strict=True)
            if each[0] not in self.plain
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for key, prompt in zip(keys, prompts, strict=True):
            if key not in self.plain:
                self.plain[key] = Plain(self.drafter, prompt, [])

    @precondition(lambda self: self.plain)
    @rule(data=st.data(), learn=st.booleans())
    def end(self, data, learn):
        key = data.draw(st.sampled_from(list(self.plain)))
        ended = self.plain.pop(key)
        if learn:
            self.sessions.close(key)
            ended.stream.close()
        else:
            self.sessions.abandon(key)
            ended.abandon()

    @precondition(lambda self: self.plain)
    @rule(data=st.data(), room=st.none() | st.integers(0, 12))
    def step(self, data, room):
        """Some of the sequences in any order, with any outcome of their drafts."""
        order = data.draw(st.permutations(list(self.plain)))
        keys = order[: data.draw(st.integers(1, len(order)))]
        came = [data.draw(outcomes(self.plain[key].draft)) for key in keys]
        if data.draw(st.booleans()):
            came = [np.array(tokens, np.int32) for tokens in came]
        self.check(keys, self.sessions.step(keys, came, room=room), came, room)

    @precondition(lambda self: self.plain)
    @rule(data=st.data())
    def step_of_rows_that_moved(self, data):
        """The engine gives no keys: rows of a matrix, in any order, one of them of nobody."""
        order = data.draw(st.permutations(list(self.plain)))
        texts = [[*self.plain[key].text, data.draw(WORD)] for key in order]
        matrix = np.full((len(texts) + 1, max(map(len, texts)) + 2), VOCAB, np.int32)
        for row, text in zip(matrix, texts, strict=False):
            row[: len(text)] = text
        ends = np.array([*map(len, texts), 1])
        *found, nobody = self.sessions.recognize(TokenRows(matrix, ends))
        assert nobody is None or not self.plain[nobody].text
        if nobody is not None:  # an empty text begins every row; this one holds no token
            return
        assert sorted(map(str, found)) == sorted(map(str, order))
        came = []
        for key, text in zip(found, texts, strict=True):
            before = self.plain[key].text
            assert text[: len(before)] == before
            came.append(text[len(before) :])
        drafts = self.sessions.step(found, TokenRows(matrix[:-1], ends[:-1]))
        self.check(found, drafts, came, None)

    def check(self, keys, drafts, came, room):
        for key, tokens in zip(keys, came, strict=True):
            self.accepted += self.plain[key].observe(list(map(int, tokens)))
        reach = self.limit.reach if room is None else min(self.limit.reach, max(room - 1, 0))
        budget = Budget(self.limit.nodes, reach)
        assert len(drafts) == len(keys)
        for key, draft in zip(keys, drafts, strict=True):
            plain = self.plain[key]
            plain.draft = plain.stream.propose(budget) if reach else Draft.empty()
            assert draft.tokens.tolist() == plain.draft.tokens.tolist()
            assert draft.parents.tolist() == plain.draft.parents.tolist()
            assert draft.confidence.tolist() == plain.draft.confidence.tolist()
            assert draft.source.tolist() == plain.draft.source.tolist()
            self.drafted += len(plain.draft)

    @invariant()
    def what_is_counted_is_what_happened(self):
        if not hasattr(self, "sessions"):
            return
        assert self.sessions.failures == ({"key opened twice": self.twice} if self.twice else {})
        assert self.sessions.drafted == self.drafted
        assert self.sessions.accepted == self.accepted
        assert len(self.sessions) == len(self.plain)
        for key, plain in self.plain.items():
            assert self.sessions.length(key) == len(plain.text)


@st.composite
def outcomes(draw, draft):
    """What a target may say to a draft: nothing yet, or some path of it and more."""
    if draw(st.integers(0, 5)) == 0:
        return []
    said, at = [], ROOT
    for _ in range(draw(st.integers(0, len(draft)))):
        below = draft.children(at).tolist()
        if not below:
            break
        at = draw(st.sampled_from(below))
        said.append(int(draft.tokens[at]))
    return said + draw(st.lists(WORD, min_size=1, max_size=3))


TestEngine = Engine.TestCase
TestEngine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
