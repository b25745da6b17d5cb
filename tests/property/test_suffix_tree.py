"""The native suffix tree against its slow twin, through random histories."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from draftwood.index.suffix_tree import SuffixPolicy, SuffixTree
from draftwood.testing.twins import suffix_tree as reference

# Few tokens make many repeats; a wide vocabulary makes lists of children long.
narrow = st.integers(0, 2)
wide = st.integers(0, 40)
texts = st.lists(narrow, min_size=1, max_size=12) | st.lists(wide, min_size=1, max_size=40)
policies = st.builds(
    SuffixPolicy,
    alpha=st.sampled_from([0.5, 1.0, 1.7, 4.0]),
    offset=st.sampled_from([-1.0, 0.0, 2.0]),
    floor=st.sampled_from([0.0, 0.1, 0.35]),
    mode=st.sampled_from(["linear", "tree"]),
    counts=st.sampled_from(["code", "paper"]),
)


class SuffixTreeMachine(RuleBasedStateMachine):
    @initialize(depth=st.sampled_from([2, 3, 4, 7, 12]))
    def plant(self, depth: int) -> None:
        self.tree = SuffixTree(depth)
        self.twin = reference.SuffixTree(depth)
        self.pairs: list[tuple[int, int]] = []
        self.leaving: list[tuple[int, int]] = []

    @rule(text=texts)
    def begin(self, text: list[int]) -> None:
        self.pairs.append((self.tree.begin(text), self.twin.begin(text)))

    @rule(data=st.data(), text=texts)
    def extend(self, data: st.DataObject, text: list[int]) -> None:
        if self.pairs:
            native, twin = data.draw(st.sampled_from(self.pairs))
            self.tree.extend(native, text)
            self.twin.extend(twin, text)

    @rule(data=st.data(), length=st.integers(1, 30))
    def repeat(self, data: st.DataObject, length: int) -> None:
        """A sequence says what another (or itself) said before."""
        if self.pairs:
            said = self.twin.text[data.draw(st.sampled_from(self.pairs))[1]]
            start = data.draw(st.integers(0, max(0, len(said) - 1)))
            native, twin = data.draw(st.sampled_from(self.pairs))
            text = said[start : start + length]
            self.tree.extend(native, text)
            self.twin.extend(twin, text)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.pairs:
            self.tree.finish(data.draw(st.sampled_from(self.pairs))[0])

    @rule(work=st.integers(0, 40))
    def compact(self, work: int) -> None:
        before = self.tree.native.nbytes
        self.tree.native.compact(work)
        assert 0 <= self.tree.idle <= self.tree.nbytes <= before

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.pairs:
            native, twin = self.pairs.pop(data.draw(st.integers(0, len(self.pairs) - 1)))
            self.tree.remove(native)
            self.twin.remove(twin)

    @rule(data=st.data())
    def begin_to_leave(self, data: st.DataObject) -> None:
        if self.pairs:
            pair = self.pairs.pop(data.draw(st.integers(0, len(self.pairs) - 1)))
            if self.tree.evict(pair[0], tokens=0):
                assert self.twin.text.pop(pair[1]) == []
            else:
                self.leaving.append(pair)

    @rule(data=st.data(), tokens=st.integers(0, 9))
    def leave(self, data: st.DataObject, tokens: int) -> None:
        """A share of a sequence goes while the others go on; labels may take some more calls."""
        if not self.leaving:
            return
        at = data.draw(st.integers(0, len(self.leaving) - 1))
        native, twin = self.leaving[at]
        before = self.tree.tokens
        out = self.tree.evict(native, tokens=tokens)
        self.twin.evict(twin, tokens=before - self.tree.tokens)
        assert before - self.tree.tokens <= tokens
        if out:
            assert self.twin.text.pop(twin) == []
            del self.leaving[at]

    @rule(
        data=st.data(),
        policy=policies,
        nodes=st.sampled_from([0, 1, 5, 32]),
        reach=st.sampled_from([None, 0, 1, 3]),
    )
    def speculate(
        self, data: st.DataObject, policy: SuffixPolicy, nodes: int, reach: int | None
    ) -> None:
        context = data.draw(texts)
        if self.pairs and data.draw(st.booleans()):
            said = self.twin.text[data.draw(st.sampled_from(self.pairs))[1]]
            context = said[: data.draw(st.integers(0, len(said)))]
        ours = self.tree.speculate(context, policy, nodes=nodes, reach=reach)
        twin = self.twin.speculate(context, policy, nodes=nodes, reach=reach)
        np.testing.assert_array_equal(ours.tokens, twin.tokens)
        np.testing.assert_array_equal(ours.parents, twin.parents)
        np.testing.assert_array_equal(ours.confidence, twin.confidence)
        np.testing.assert_array_equal(ours.probability, twin.probability)
        assert (ours.score, ours.match) == (twin.score, twin.match)

    @invariant()
    def the_tree_is_sound(self) -> None:
        if not hasattr(self, "tree"):
            return
        assert self.tree.check() == ""
        assert self.tree.tokens == sum(map(len, self.twin.text.values()))
        assert self.tree.sequences == len(self.pairs)

    def teardown(self) -> None:
        if hasattr(self, "tree"):
            for string, count in self.twin.counts.items():
                assert self.tree.count(list(string)) == count


TestSuffixTree = SuffixTreeMachine.TestCase
