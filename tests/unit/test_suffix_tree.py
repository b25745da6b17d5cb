import threading

import numpy as np
import pytest

from draftwood import _native
from draftwood.errors import InvalidOption, InvalidTokens, UnknownSequence
from draftwood.index.suffix_tree import SuffixPolicy, SuffixTree

WHOLE = SuffixPolicy(alpha=100.0, floor=0.0)
TREE = SuffixPolicy(alpha=100.0, floor=0.0, mode="tree")


def tokens(guess):
    return guess.tokens.tolist()


def test_a_string_is_counted_wherever_it_occurs():
    tree = SuffixTree(4)
    tree.begin([1, 2, 1, 2, 3])
    tree.begin([1, 2])
    assert [tree.count(string) for string in ([], [1], [1, 2], [1, 2, 3], [3], [9])] == [
        7, 3, 3, 1, 1, 0,
    ]  # fmt: skip


def test_nothing_is_counted_beyond_the_depth():
    tree = SuffixTree(3)
    tree.begin([1, 2, 3, 4, 5])
    assert tree.count([1, 2, 3]) == 1
    assert tree.count([1, 2, 3, 4]) == 0


def test_a_draft_is_at_most_the_depth_less_the_match_long():
    tree = SuffixTree(6)
    tree.begin(range(20))
    guess = tree.speculate([3, 4], WHOLE)
    # behind [4]: 5 to 9; behind [3, 4] one less
    assert (guess.match, tokens(guess)) == (1, [5, 6, 7, 8, 9])


def test_a_string_never_crosses_sequences():
    tree = SuffixTree(8)
    tree.begin([1, 2])
    tree.begin([3, 4])
    assert tree.count([2, 3]) == 0
    assert not len(tree.speculate([1, 2], WHOLE))


def test_sequences_grow_side_by_side():
    tree = SuffixTree(8)
    first, second = tree.begin(), tree.begin()
    for a, b in zip([1, 2, 3], [1, 2, 4], strict=True):
        tree.extend(first, [a])
        tree.extend(second, [b])
    assert tree.count([1, 2]) == 2
    assert tree.count([1, 2, 3]) == tree.count([1, 2, 4]) == 1


def test_the_two_counting_rules_differ_by_the_suffixes_that_end():
    # "1 2" occurs three times: twice followed by 3, once at the end
    tree = SuffixTree(8)
    for text in ([1, 2, 3], [1, 2, 3], [1, 2]):
        tree.begin(text)
    code = tree.speculate([1, 2], SuffixPolicy(counts="code", floor=0.0))
    paper = tree.speculate([1, 2], SuffixPolicy(counts="paper", floor=0.0))
    assert code.confidence.tolist() == [np.float32(2 / 3)]
    assert paper.confidence.tolist() == [1.0]


def test_a_chain_ends_where_its_probability_falls_below_the_floor():
    tree = SuffixTree(8)
    for text in ([1, 2, 3], [1, 2, 4], [1, 5], [1, 6]):
        tree.begin(text)
    sure = tree.speculate([0, 1], SuffixPolicy(alpha=9.0, floor=0.5))
    bold = tree.speculate([0, 1], SuffixPolicy(alpha=9.0, floor=0.25))
    assert tokens(sure) == [2]
    assert tokens(bold) == [2, 3]
    assert bold.probability.tolist() == [0.5, 0.25]
    assert bold.score == 0.75


def test_a_tree_takes_the_most_probable_nodes_first():
    #  1 -+- 2 (3/6) -+- 3 (2/6)          2, then 5, then 3 of equal probability,
    #     |           +- 4 (1/6)          then the singles in the order of their parents
    #     +- 5 (2/6)
    #     +- 6 (1/6)
    tree = SuffixTree(8)
    for text in ([1, 2, 3], [1, 2, 3], [1, 2, 4], [1, 5], [1, 5], [1, 6]):
        tree.begin(text)
    guess = tree.speculate([1], TREE)
    assert tokens(guess) == [2, 5, 3, 6, 4]
    assert guess.parents.tolist() == [-1, -1, 0, -1, 0]
    np.testing.assert_allclose(guess.probability, np.array([3, 2, 2, 1, 1]) / 6, rtol=1e-6)
    np.testing.assert_allclose(guess.confidence[2], 2 / 3, rtol=1e-6)


def test_nodes_and_reach_bound_a_tree():
    tree = SuffixTree(8)
    tree.begin([1, 2, 3, 4])
    tree.begin([1, 5, 6, 7])
    assert len(tree.speculate([1], TREE, nodes=3)) == 3
    assert sorted(tokens(tree.speculate([1], TREE, reach=1))) == [2, 5]
    assert not len(tree.speculate([1], TREE, nodes=0))


def test_the_limit_grows_with_the_match():
    tree = SuffixTree(32)
    tree.begin(range(20))
    for alpha, offset, expected in ((1.0, 0.0, 3), (2.0, 0.0, 6), (1.0, -1.0, 2), (0.5, 2.0, 3)):
        guess = tree.speculate([4, 5, 6], SuffixPolicy(alpha=alpha, offset=offset))
        assert (guess.match, len(guess)) == (3, expected)


def test_of_equal_scores_the_longer_match_wins():
    tree = SuffixTree(8)
    tree.begin([1, 2, 3])
    tree.begin([7, 2, 3])
    assert tree.speculate([7, 2], SuffixPolicy(alpha=0.0, offset=1.0)).match == 2


def test_what_only_a_removed_sequence_said_is_gone():
    tree = SuffixTree(8)
    kept = tree.begin([1, 2, 3, 4])
    gone = tree.begin([1, 2, 3, 5])
    tree.remove(gone)
    assert tree.count([3, 5]) == 0
    assert tree.count([1, 2, 3]) == 1
    assert tokens(tree.speculate([2, 3], WHOLE)) == [4]
    tree.remove(kept)
    assert (tree.tokens, tree.sequences, tree.nodes) == (0, 0, 0)


def test_text_outlives_its_sequence_while_others_said_it_before():
    # The younger sequence is removed: what the older one shares with it stays right, and when
    # pages are used again too.
    tree = SuffixTree(8)
    old = tree.begin(range(100))
    young = tree.begin(range(100))
    tree.remove(young)
    tree.begin([7] * 300)
    assert tree.check() == ""
    assert tokens(tree.speculate([41, 42], SuffixPolicy(alpha=2.0))) == [43, 44, 45, 46]
    tree.remove(old)
    assert tree.check() == ""


def test_memory_is_used_again():
    tree = SuffixTree(16)
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(30):
        sequences = [tree.begin(rng.integers(0, 50, 400)) for _ in range(20)]
        sizes.append(tree.nbytes)
        for sequence in sequences:
            tree.remove(sequence)
    assert max(sizes[3:]) <= 1.1 * sizes[2]
    assert tree.nodes == 0


def test_a_finished_sequence_can_grow_again():
    tree, twin = SuffixTree(8), SuffixTree(8)
    text = [1, 2, 1, 2, 3, 1, 2]
    paused, straight = tree.begin(text), twin.begin(text)
    tree.finish(paused)
    tree.extend(paused, [1, 2, 3])
    twin.extend(straight, [1, 2, 3])
    assert tree.check() == ""
    for start in range(10):
        for end in range(start, 11):
            string = [*text, 1, 2, 3][start:end]
            assert tree.count(string) == twin.count(string)


def test_a_removed_sequence_is_unknown():
    tree = SuffixTree(8)
    sequence = tree.begin([1])
    tree.remove(sequence)
    again = tree.begin([2])
    assert again != sequence
    for act in (tree.remove, tree.finish, lambda number: tree.extend(number, [1])):
        with pytest.raises(UnknownSequence, match=f"sequence {sequence} is not in this tree"):
            act(sequence)


def test_tokens_that_are_none_are_refused_and_nothing_is_appended():
    tree = SuffixTree(8)
    sequence = tree.begin([1])
    for bad in ([1, -1], [2**31], [1.5], [[1]], ["a"]):
        with pytest.raises(InvalidTokens):
            tree.extend(sequence, bad)
    assert tree.tokens == 1


def test_the_extension_converts_nothing():
    tree = _native.SuffixTree(8)
    sequence = tree.begin()
    for bad in (np.array([1, 2]), np.array([1.0], np.float32), np.arange(8, dtype=np.int32)[::2]):
        with pytest.raises(TypeError):
            tree.extend(sequence, bad)
    with pytest.raises(ValueError, match="token id -1 is negative"):
        tree.extend(sequence, np.array([3, -1], np.int32))
    assert tree.tokens == 0
    with pytest.raises(ValueError, match="depth 1 is outside"):
        _native.SuffixTree(1)


def test_options_outside_their_range_are_refused():
    with pytest.raises(InvalidOption, match="depth is 1; use 2 to 4096"):
        SuffixTree(1)
    for bad in (
        {"alpha": -1.0},
        {"alpha": float("nan")},
        {"offset": float("inf")},
        {"floor": 1.5},
        {"mode": "forest"},
        {"counts": "all"},
    ):
        with pytest.raises(InvalidOption):
            SuffixPolicy(**bad)


def test_many_threads_may_speculate_while_one_appends():
    tree = SuffixTree(16)
    rng = np.random.default_rng(0)
    text = np.tile(rng.integers(0, 20, 200, dtype=np.int32), 40)
    sequence = tree.begin(text[:400])
    faults = []
    stop = threading.Event()

    def speculate():
        at = 0
        while not stop.is_set():
            at = (at + 7) % 200
            context = text[at : at + 16]
            guess = tree.speculate(context, SuffixPolicy())
            follows = text[at + 16 : at + 16 + len(guess)]
            if not len(guess) or guess.tokens.tolist() != follows.tolist():
                faults.append((context, guess.tokens))

    threads = [threading.Thread(target=speculate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for at in range(400, len(text), 10):
        tree.extend(sequence, text[at : at + 10])
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults
    assert tree.check() == ""


# --- Leaving by and by ------------------------------------------------------------------------


def test_a_sequence_leaves_a_share_at_a_time():
    tree = SuffixTree(8)
    leaving, staying = tree.begin([1, 2, 3, 4, 5]), tree.begin([3, 4, 9])
    assert not tree.evict(leaving, tokens=2)
    assert (tree.tokens, tree.sequences, tree.extents()) == (6, 1, {staying: 3})
    assert [tree.count(string) for string in ([1], [2], [3, 4], [3, 4, 5])] == [0, 0, 2, 1]
    assert tree.check() == ""
    for call in (tree.finish, tree.text, lambda number: tree.extend(number, [1])):
        with pytest.raises(UnknownSequence):
            call(leaving)
    while not tree.evict(leaving, tokens=2):
        assert tree.check() == ""
    assert (tree.tokens, tree.count([3, 4]), tree.count([5])) == (3, 1, 0)
    with pytest.raises(UnknownSequence):
        tree.evict(leaving)


def test_a_sequence_that_leaves_can_be_removed_at_once():
    tree = SuffixTree(8)
    sequence = tree.begin([1, 2, 3])
    tree.evict(sequence, tokens=1)
    tree.remove(sequence)
    assert tree.tokens == tree.nodes == 0


def test_equal_sequences_leave_in_any_order():
    """The last one's text labels what the others say, too, and is kept for that."""
    said = list(range(50)) * 2
    tree = SuffixTree(6)
    first, second, third = (tree.begin(said) for _ in range(3))
    for sequence in (third, second, first):
        while not tree.evict(sequence, tokens=7):
            assert tree.check() == ""
        assert tree.check() == ""
    assert tree.tokens == tree.nodes == 0


def many_shapes(length: int) -> list[np.ndarray]:
    """Texts with repeats of every kind: long, short, nested, none."""
    random = np.random.default_rng(5)
    return [
        np.full(length, 3),
        np.resize([1, 2, 3], length),
        np.resize(random.integers(0, 9, 40), length),
        random.integers(0, 2, length),
        random.integers(0, 5, length),
        random.integers(0, 1000, length),
        np.where(random.random(length) < 0.1, random.integers(0, 50, length), 0),
    ]


@pytest.mark.parametrize("depth", [2, 3, 9, 30])
def test_many_tokens_at_once_are_as_good_as_one_at_a_time(depth):
    at_once, one_by_one = SuffixTree(depth), SuffixTree(depth)
    pairs = [(at_once.begin(), one_by_one.begin()) for _ in range(2)]
    said: list[int] = []
    for turn, text in enumerate(many_shapes(150)):
        whole, parts = pairs[turn % 2]
        at_once.extend(whole, text)
        for token in text:
            one_by_one.extend(parts, [token])
        said += text.tolist()
        assert at_once.check() == ""
        assert at_once.native.nodes == one_by_one.native.nodes
        for end in range(0, len(said), 7):
            context = said[max(0, end - depth) : end]
            ours = at_once.speculate(context, WHOLE, nodes=24)
            theirs = one_by_one.speculate(context, WHOLE, nodes=24)
            assert tokens(ours) == tokens(theirs)
            np.testing.assert_array_equal(ours.probability, theirs.probability)
            assert (ours.witness, ours.score) == (theirs.witness, theirs.score)


# --- Arrays at the border ---------------------------------------------------------------------


def test_every_array_of_ids_is_read_as_what_it_says():
    ids = np.array([1, 2, 3, 4, 1, 2], dtype=np.int32)
    frozen = ids.copy()
    frozen.flags.writeable = False
    wide = np.repeat(ids, 2)
    tree = SuffixTree(8)
    tree.begin(ids)
    for same in (ids, frozen, ids.tolist(), ids.astype(np.int64), ids.astype(">i4"), wide[::2]):
        assert tree.count(same) == 1
        assert tokens(tree.speculate(same, WHOLE)) == [3, 4, 1, 2]
    assert tree.count(ids[:0]) == 6
    assert not len(tree.speculate(ids[:0], WHOLE))
    for strange in (wide[::2], ids.astype(np.int64), ids.astype(">i4"), ids.reshape(2, 3)):
        with pytest.raises(TypeError):
            tree.native.count(strange)


def test_a_drafts_arrays_outlive_it():
    tree = SuffixTree(8)
    tree.begin([1, 2, 3, 4])
    arrays = [tree.speculate([1], WHOLE).tokens for _ in range(100)]
    assert all(array.tolist() == [2, 3, 4] for array in arrays)
    assert arrays[0].dtype == np.int32


def test_a_witness_is_named_only_where_it_is_asked_for():
    tree = SuffixTree(8)
    sequence = tree.begin([1, 2, 3, 4])
    assert tree.speculate([1, 2], WHOLE).witness == sequence
    assert tree.speculate([1, 2], WHOLE.native(witness=False)).witness == -1
