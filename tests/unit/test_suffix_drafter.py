import dataclasses
import threading

import numpy as np
import pytest

from draftwood.draft import Budget, Draft, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.suffix import OWN, SHARED, SuffixDrafter
from draftwood.errors import (
    InvalidOption,
    InvalidSpec,
    InvalidTokens,
    TokenizerMismatch,
    UnknownSequence,
)
from draftwood.index.history_writer import HistoryWriter
from draftwood.index.store import History
from draftwood.index.suffix_tree import EVICT_TOKENS, SuffixTree
from draftwood.protocols import BatchDrafter, Feedback, Verdict

AMPLE = Budget(64)
NOTHING = Verdict(np.empty(0, dtype=np.int32), None)


def say(stream, tokens):
    """Commit `tokens` that no draft foresaw, one step each."""
    for token in tokens:
        stream.observe(Feedback(Draft.empty(), NOTHING, as_tokens([token])))


def run(drafter, prompt, response, namespace=""):
    """A whole request."""
    stream = drafter.open(as_tokens(prompt), namespace=namespace)
    say(stream, response)
    stream.close()


def ask(drafter, prompt, said=(), *, namespace="", budget=AMPLE):
    """What is drafted behind a prompt and some output."""
    stream = drafter.open(as_tokens(prompt), namespace=namespace)
    say(stream, said)
    return stream.propose(budget)


def test_a_repeat_of_the_prompt_is_copied():
    draft = ask(SuffixDrafter(), [1, 2, 3, 4, 5, 6], [2, 3])
    assert draft.tokens.tolist() == [4, 5]
    assert draft.source.tolist() == [OWN, OWN]
    # "2 3" occurs twice, once at the end of what there is
    assert draft.confidence.tolist() == [0.5, 1.0]


def test_earlier_outputs_are_continued():
    drafter = SuffixDrafter()
    run(drafter, [9], [1, 2, 3, 4])
    draft = ask(drafter, [8], [1, 2])
    assert draft.tokens.tolist() == [3, 4]
    assert draft.source.tolist() == [SHARED, SHARED]


def test_outputs_are_shared_while_they_are_generated():
    drafter = SuffixDrafter()
    running = drafter.open(as_tokens([9]))
    say(running, [1, 2, 3])
    assert ask(drafter, [8], [1]).tokens.tolist() == [2]
    say(running, [4])
    assert ask(drafter, [8], [1, 2, 3]).tokens.tolist() == [4]


def test_prompts_are_not_shared():
    drafter = SuffixDrafter()
    run(drafter, [1, 2, 3, 4], [9])
    assert not len(ask(drafter, [8], [1, 2]))


def test_the_better_score_wins_and_equal_scores_are_the_requests_own():
    drafter = SuffixDrafter()
    for _ in range(3):
        run(drafter, [9], [1, 2, 3])
    # own: 1 -> 7 with 1/2; shared: 1 -> 2 with 3/4
    assert ask(drafter, [1, 7], [1]).source.tolist() == [SHARED]
    one = SuffixDrafter()
    run(one, [9], [1, 2, 3])
    assert ask(one, [1, 7], [1]).tokens.tolist() == [7]


def test_a_match_may_begin_in_the_prompt():
    drafter = SuffixDrafter()
    run(drafter, [9], [1, 2, 3, 4, 5, 6])
    assert ask(drafter, [8, 2, 3]).tokens.tolist() == [4, 5]


def test_namespaces_never_meet():
    drafter = SuffixDrafter()
    run(drafter, [9], [1, 2, 3, 4], namespace="a")
    assert not len(ask(drafter, [8], [1, 2], namespace="b"))
    assert ask(drafter, [8], [1, 2], namespace="a").tokens.tolist() == [3, 4]


def test_budgets_and_the_drafters_own_limit_hold():
    prompt = list(range(40)) * 2
    assert len(ask(SuffixDrafter(), prompt, budget=AMPLE)) == 32
    assert len(ask(SuffixDrafter(nodes=5), prompt)) == 5
    assert len(ask(SuffixDrafter(), prompt, budget=Budget(3))) == 3
    tree = ask(SuffixDrafter(mode="tree", floor=0.0), prompt, budget=Budget(16, depth=2))
    assert tree.height == 2
    assert not len(ask(SuffixDrafter(), prompt, budget=Budget(0)))


def test_alpha_floor_depth_and_mode_reach_the_trees():
    prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9, 2]
    assert ask(SuffixDrafter(alpha=3.0), prompt).tokens.tolist() == [3, 4, 5]
    assert ask(SuffixDrafter(alpha=3.0, depth=3), prompt).tokens.tolist() == [3, 4]
    assert not len(ask(SuffixDrafter(floor=0.6), prompt))
    assert len(ask(SuffixDrafter(floor=0.6, counts="paper"), prompt)) == 1
    forked = [1, 2, 1, 3, 1]
    draft = ask(SuffixDrafter(alpha=4.0, floor=0.0, mode="tree"), forked, budget=Budget(2))
    assert sorted(draft.tokens.tolist()) == [2, 3]
    assert draft.parents.tolist() == [-1, -1]


def test_proposing_does_not_move():
    stream = SuffixDrafter().open(as_tokens([1, 2, 3, 1, 2]))
    first, second = stream.propose(AMPLE), stream.propose(AMPLE)
    assert first.tokens.tolist() == second.tokens.tolist() == [3, 1]


def test_a_long_prompt_is_remembered_whole():
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 1000, 100_000, dtype=np.int32)
    stream = SuffixDrafter(counts="paper").open(prompt)
    say(stream, prompt[500:504].tolist())
    assert stream.propose(AMPLE).tokens.tolist() == prompt[504:508].tolist()
    stream.close()


def test_a_request_without_output_leaves_nothing():
    drafter = SuffixDrafter()
    run(drafter, [1, 2, 3], [])
    assert drafter.shared().sequences == 0


def test_several_requests_interleave():
    drafter = SuffixDrafter()
    first, second = (drafter.open(as_tokens([9])) for _ in range(2))
    for token in (1, 2, 3, 4):
        say(first, [token])
        say(second, [token + 10])
    assert first.propose(AMPLE).tokens.tolist() == []
    assert ask(drafter, [8], [11, 12]).tokens.tolist() == [13, 14]
    assert drafter.shared().sequences == 3
    assert drafter.nbytes > 0


def test_options_outside_their_range_are_refused():
    for bad in ({"nodes": -1}, {"depth": 1}, {"mode": "forest"}, {"floor": 2.0}):
        with pytest.raises(InvalidOption):
            SuffixDrafter(**bad)


# --- Batches ----------------------------------------------------------------------------------


def feedback(tokens):
    return Feedback(Draft.empty(), NOTHING, as_tokens(tokens))


@pytest.mark.parametrize("mode", ["linear", "tree"])
def test_a_batch_call_gives_what_single_calls_give(mode):
    rng = np.random.default_rng(5)
    batch, single = (SuffixDrafter(mode=mode, alpha=2.0, threads=3) for _ in range(2))
    names = [f"n{i % 3}" for i in range(24)]
    prompts = [rng.integers(0, 5, 20) for _ in names]
    ours, twins = (
        [d.open(as_tokens(p), namespace=n) for p, n in zip(prompts, names, strict=True)]
        for d in (batch, single)
    )
    for step in range(12):
        said = [feedback(rng.integers(0, 5, rng.integers(0, 4))) for _ in names]
        batch.observe_all(ours, said)
        for twin, each in zip(twins, said, strict=True):
            twin.observe(each)
        budgets = [Budget(1 + (i + step) % 40, depth=i % 7) for i in range(len(names))]
        for draft, twin, budget in zip(
            batch.propose_all(ours, budgets), twins, budgets, strict=True
        ):
            expected = twin.propose(budget)
            assert draft.tokens.tolist() == expected.tokens.tolist()
            assert draft.parents.tolist() == expected.parents.tolist()
            assert draft.confidence.tolist() == expected.confidence.tolist()
            assert draft.source.tolist() == expected.source.tolist()
    assert [len(d) for d in batch.propose_all(ours, Budget(0))] == [0] * 24
    assert batch.propose_all([], AMPLE) == []
    batch.observe_all([], [])


def test_the_drafter_serves_batches():
    assert isinstance(SuffixDrafter(), BatchDrafter)


@pytest.mark.parametrize("mode", ["linear", "tree"])
def test_no_node_is_less_probable_than_the_budgets_floor(mode):
    rng = np.random.default_rng(4)
    drafter = SuffixDrafter(mode=mode, alpha=4.0, floor=0.05)
    stream = drafter.open(as_tokens(rng.integers(0, 3, 300)))
    least = {}
    for floor in (0.0, 0.02, 0.3):
        draft = stream.propose(Budget(32, floor=floor))
        (batched,) = drafter.propose_all([stream], [Budget(32, floor=floor)])
        assert draft.tokens.tolist() == batched.tokens.tolist()
        reached = np.empty(len(draft))
        for node, parent in enumerate(draft.parents):
            reached[node] = draft.confidence[node] * (1.0 if parent < 0 else reached[parent])
        least[floor] = reached.min()
    assert least[0.0] == least[0.02] < 0.3  # the drafter's own floor is higher than 0.02
    assert least[0.3] >= 0.3 - 1e-6


def test_a_draft_that_is_trusted_has_every_field():
    draft = ask(SuffixDrafter(), [1, 2, 3, 4, 5, 6], [2, 3])
    checked = Draft(draft.tokens, draft.parents, draft.confidence, draft.source)
    for field in dataclasses.fields(Draft):
        assert getattr(draft, field.name) is getattr(checked, field.name)


def test_arrays_of_a_draft_are_its_own_but_for_the_source():
    stream = SuffixDrafter(counts="paper").open(as_tokens([1, 2, 3, 4, 1, 2]))
    draft = stream.propose(AMPLE)
    again = stream.propose(AMPLE)
    draft.tokens[:] = 9
    assert again.tokens.tolist() == stream.propose(AMPLE).tokens.tolist() == [3, 4]
    with pytest.raises(ValueError, match="read-only"):
        draft.source[:] = 7
    dtypes = [draft.tokens, draft.parents, draft.confidence, draft.source]
    assert [each.dtype for each in dtypes] == [np.int32, np.int32, np.float32, np.uint8]
    checked = Draft(draft.tokens, draft.parents, draft.confidence, draft.source)
    assert checked.parents.tolist() == [-1, 0]


def test_a_stream_stands_once_in_a_batch():
    drafter = SuffixDrafter()
    stream = drafter.open(as_tokens([1]))
    with pytest.raises(ValueError, match="twice"):
        drafter.observe_all([stream, stream], [feedback([2]), feedback([3])])
    assert drafter.shared().tokens == 0


def test_closed_streams_of_a_batch_propose_nothing():
    drafter = SuffixDrafter()
    stream = drafter.open(as_tokens([1, 2, 1, 2, 1]))
    stream.close()
    stream.close()
    assert [len(d) for d in drafter.propose_all([stream], AMPLE)] == [0]


def test_ids_that_are_none_are_refused_and_others_taken():
    stream = SuffixDrafter().open(as_tokens([1]))
    with pytest.raises(InvalidTokens):
        stream.observe(Feedback(Draft.empty(), NOTHING, np.array([2, -1], dtype=np.int32)))
    stream.observe(Feedback(Draft.empty(), NOTHING, np.array([2, 3], dtype=np.int64)))
    assert stream.native.generated == 2


# --- Eviction ---------------------------------------------------------------------------------


def known(drafter, start, namespace=""):
    return len(ask(drafter, [99], [start], namespace=namespace)) > 0


def test_the_request_that_ended_first_leaves_first():
    drafter = SuffixDrafter(max_requests=2)
    for start in (10, 20, 30):
        run(drafter, [9], [start, start + 1])
    assert [known(drafter, start) for start in (10, 20, 30)] == [False, True, True]
    assert drafter.history.requests == 2


def test_the_request_that_was_longest_not_drafted_from_leaves_first():
    drafter = SuffixDrafter(max_requests=2, evict="lru", threads=1)
    run(drafter, [9], [10, 11])
    run(drafter, [9], [20, 21])
    stream = drafter.open(as_tokens([9]))
    say(stream, [10])
    assert stream.propose(AMPLE).tokens.tolist() == [11]
    stream.close()  # two others, and this one: 20 leaves
    assert [known(drafter, start) for start in (10, 20)] == [True, False]
    batch = SuffixDrafter(max_requests=2, evict="lru")
    run(batch, [9], [10, 11])
    run(batch, [9], [20, 21])
    stream = batch.open(as_tokens([9]))
    say(stream, [10])
    assert batch.propose_all([stream], AMPLE)[0].tokens.tolist() == [11]
    stream.close()
    assert [known(batch, start) for start in (10, 20)] == [True, False]


def test_tokens_are_limited_over_all_namespaces():
    drafter = SuffixDrafter(max_tokens=25)
    for start, name in ((100, "a"), (200, "b"), (300, "a")):
        run(drafter, [9], list(range(start, start + 10)), namespace=name)
    assert drafter.history.tokens == 20
    assert not known(drafter, 100, "a")
    assert known(drafter, 200, "b")
    assert known(drafter, 300, "a")


def test_a_limit_of_tokens_may_be_reached_and_not_exceeded(tmp_path):
    drafter = SuffixDrafter(max_tokens=20)
    for start in (100, 200):
        run(drafter, [9], list(range(start, start + 10)))
    assert drafter.history.tokens == 20
    drafter.save(tmp_path / "a.dw")
    warmed = SuffixDrafter(max_tokens=20)
    assert warmed.warm(History.open(tmp_path / "a.dw")) == 2
    assert warmed.history.tokens == 20
    assert SuffixDrafter(max_tokens=19).warm(History.open(tmp_path / "a.dw")) == 1


@pytest.mark.parametrize("together", [False, True])
def test_evicted_outputs_leave_while_others_run(together):
    """What running requests generate takes evicted text out, in calls for many as for one."""
    rng = np.random.default_rng(6)
    drafter = SuffixDrafter(max_requests=1)
    run(drafter, [9], rng.integers(0, 5000, 4 * EVICT_TOKENS))
    run(drafter, [9], [1, 2, 3])  # the long one is one too many now
    before = drafter.nbytes - drafter.shared().idle
    stream = drafter.open(as_tokens([9]))
    for at in range(6):
        said = feedback(np.arange(at * EVICT_TOKENS, (at + 1) * EVICT_TOKENS) % 7)
        if together:
            drafter.observe_all([stream], [said])
        else:
            stream.observe(said)
    assert drafter.nbytes - drafter.shared().idle < before / 2


def test_bytes_are_limited_and_given_back():
    rng = np.random.default_rng(2)
    limit = 4_000_000
    drafter = SuffixDrafter(depth=16, max_bytes=limit)
    for _ in range(400):
        stream = drafter.open(as_tokens([9]))
        stream.observe(feedback(rng.integers(0, 50, 600)))
        stream.close()
        assert drafter.nbytes <= limit
    assert 50 < drafter.history.requests < 350
    assert drafter.shared().check() == ""


def test_a_long_output_leaves_a_share_at_a_time():
    """No call takes more than a share out, and with what others generate all of it goes."""
    rng = np.random.default_rng(6)
    said = rng.integers(0, 5000, 4 * EVICT_TOKENS)
    drafter = SuffixDrafter(max_requests=1)
    stream = drafter.open(as_tokens([9]))
    stream.observe(feedback(said))
    stream.close()
    run(drafter, [9], [1, 2, 3])  # the long one is one too many now
    shared = drafter.shared()
    assert (drafter.history.requests, drafter.history.tokens) == (1, 3)
    assert shared.sequences == 1
    assert shared.tokens == 3 * EVICT_TOKENS + 3
    stream = drafter.open(as_tokens([9]))
    least = shared.tokens
    for _ in range(2 * EVICT_TOKENS):
        stream.observe(feedback([7]))
        assert least - shared.tokens <= 2
        least = shared.tokens
    drafter.observe_all([stream], [feedback([7] * (2 * EVICT_TOKENS))])
    assert shared.tokens == 3 + 4 * EVICT_TOKENS
    assert shared.check() == ""
    stream.close()


def test_a_request_that_leaves_is_forgotten_at_will():
    drafter = SuffixDrafter(max_requests=1)
    said = list(range(100, 100 + 3 * EVICT_TOKENS))
    stream = drafter.open(as_tokens([9]))
    stream.observe(feedback(said))
    stream.close()
    run(drafter, [9], [1, 2, 3])
    assert known(drafter, said[-2])  # not all of it is out yet
    drafter.remove(stream.sequence)
    assert not known(drafter, said[-2])
    assert drafter.shared().count(said[-2:]) == 0
    assert drafter.shared().check() == ""
    with pytest.raises(UnknownSequence):
        drafter.remove(stream.sequence)


def test_long_outputs_keep_the_limit_of_bytes():
    rng = np.random.default_rng(8)
    limit = 4_000_000
    drafter = SuffixDrafter(depth=16, max_bytes=limit)
    for _ in range(12):
        stream = drafter.open(as_tokens([9]))
        for _ in range(40):
            stream.observe(feedback(rng.integers(0, 50, 300)))
        stream.close()
        assert drafter.nbytes <= limit
    assert drafter.history.requests > 1
    assert drafter.shared().check() == ""


def test_running_requests_are_never_evicted():
    drafter = SuffixDrafter(max_requests=0)
    running = drafter.open(as_tokens([9]))
    say(running, [1, 2, 3, 4])
    for start in (10, 20, 30):
        run(drafter, [9], [start, start + 1])
    assert ask(drafter, [8], [1, 2]).tokens.tolist() == [3, 4]
    assert not known(drafter, 30)
    running.close()
    assert drafter.shared().sequences == 2  # two that `ask` left open


def test_a_request_that_leaves_a_batch_for_some_steps_keeps_its_tree():
    drafter = SuffixDrafter(max_requests=1)
    away, here = drafter.open(as_tokens([1, 2, 3, 1])), drafter.open(as_tokens([9]))
    drafter.observe_all([away, here], [feedback([2]), feedback([7])])
    for step in range(200):
        drafter.observe_all([here], [feedback([500 + step])])
        drafter.propose_all([here], AMPLE)
        run(drafter, [8], [1000 + step, 2000])
    assert away.propose(AMPLE).tokens.tolist() == [3, 1]
    assert away.propose(AMPLE).source.tolist() == [OWN, OWN]


def test_a_request_is_forgotten_at_will():
    drafter = SuffixDrafter()
    stream = drafter.open(as_tokens([9]))
    say(stream, [1, 2, 3])
    stream.close()
    drafter.remove(stream.sequence)
    assert not known(drafter, 1)
    with pytest.raises(UnknownSequence):
        drafter.remove(stream.sequence)


def test_a_running_request_that_is_forgotten_goes_on_by_itself():
    drafter = SuffixDrafter()
    stream = drafter.open(as_tokens([9]))
    say(stream, [1, 2])
    drafter.remove(stream.sequence)
    say(stream, [3, 1])
    assert stream.propose(AMPLE).tokens.tolist() == [2]
    stream.close()
    assert drafter.shared().tokens == 0
    assert drafter.history.requests == 0


# --- Files ------------------------------------------------------------------------------------


def test_a_saved_history_warms_another_drafter(tmp_path):
    path = tmp_path / "history.dw"
    drafter = SuffixDrafter()
    run(drafter, [9], [1, 2, 3, 4], namespace="a")
    run(drafter, [9], [5, 6, 7], namespace="b")
    running = drafter.open(as_tokens([9]), namespace="a")
    say(running, [11, 12, 13])
    drafter.open(as_tokens([9]))
    print_of = bytes(range(32))
    info = drafter.save(path, fingerprint=print_of)
    assert (info.sequences, info.tokens, info.fingerprint) == (3, 10, print_of)
    entries = list(History.open(path).entries())
    assert [entry.namespace for entry in entries] == ["a", "b", "a"]
    assert entries[0].time is not None
    warm = make_drafter(f"suffix:history={path}")
    assert ask(warm, [8], [1, 2], namespace="a").tokens.tolist() == [3, 4]
    assert ask(warm, [8], [11, 12], namespace="a").tokens.tolist() == [13]
    assert not len(ask(warm, [8], [1, 2], namespace="b"))
    again = tmp_path / "again.dw"
    assert warm.save(again).fingerprint == print_of
    for old, new in zip(entries, History.open(again).entries(), strict=False):
        assert (old.tokens.tolist(), old.namespace, old.time) == (
            new.tokens.tolist(), new.namespace, new.time,
        )  # fmt: skip


def test_metadata_outlives_a_warm_start(tmp_path):
    with HistoryWriter(tmp_path / "a.dw") as out:
        out.add([1, 2], metadata={"model": "m"}, time=5.5)
        out.add([], namespace="x")
    drafter = SuffixDrafter(history=str(tmp_path / "a.dw"))
    drafter.save(tmp_path / "b.dw")
    entry = History.open(tmp_path / "b.dw")[0]
    assert (entry.metadata, entry.time) == ({"model": "m"}, 5.5)


def test_a_warm_start_takes_the_newest_that_fit(tmp_path):
    with HistoryWriter(tmp_path / "a.dw") as out:
        for start in (10, 20, 30):
            out.add([start, start + 1, start + 2])
    for limits in ({"max_requests": 2}, {"max_tokens": 8}):
        drafter = SuffixDrafter(**limits)
        assert drafter.warm(History.open(tmp_path / "a.dw")) == 2
        assert [known(drafter, start) for start in (10, 20, 30)] == [False, True, True]


def test_files_of_different_tokenizers_are_not_mixed(tmp_path):
    for name in "ab":
        with HistoryWriter(tmp_path / name, fingerprint=name.encode() * 32) as out:
            out.add([1, 2])
    drafter = SuffixDrafter(history=str(tmp_path / "a"))
    with pytest.raises(TokenizerMismatch):
        drafter.warm(History.open(tmp_path / "b"))
    assert drafter.history.requests == 1


def test_a_history_is_saved_while_requests_run(tmp_path):
    drafter = SuffixDrafter(max_requests=20)
    stop = threading.Event()

    def serve(seed):
        while not stop.is_set():
            stream = drafter.open(as_tokens([9]))
            for start in range(0, 40, 4):
                stream.observe(feedback(range(start, start + 4)))
                stream.propose(AMPLE)
            stream.close()

    threads = [threading.Thread(target=serve, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            drafter.save(tmp_path / "h.dw")
            for tokens in History.open(tmp_path / "h.dw"):
                # what a request had said, up to one of its steps
                assert tokens.tolist() == list(range(len(tokens)))
                assert len(tokens) % 4 == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert drafter.shared().check() == ""


def test_limits_outside_their_range_are_refused():
    bad = ({"max_requests": -1}, {"max_tokens": -1}, {"max_bytes": -1}, {"evict": "random"})
    for options in (*bad, {"threads": 0}):
        with pytest.raises(InvalidOption):
            SuffixDrafter(**options)
    with pytest.raises(InvalidSpec):
        make_drafter("suffix:evict=random")
    with pytest.raises(InvalidSpec):
        make_drafter("suffix:mode=forest")


def test_a_history_of_exactly_its_limit_keeps_all():
    drafter = SuffixDrafter(max_tokens=6)
    for start in (10, 20):
        stream = drafter.open(as_tokens([9]))
        stream.observe(feedback(range(start, start + 3)))
        stream.close()
    other = drafter.open(as_tokens([9]))
    other.observe(feedback([1, 2, 3, 4, 5, 6, 7, 8]))
    assert known(drafter, 10)
    assert known(drafter, 20)
    other.close()
    assert not known(drafter, 10)


def test_a_call_for_many_streams_lets_the_history_shrink_as_single_calls_do(monkeypatch):
    grown = []
    drafter = SuffixDrafter(max_tokens=40)
    monkeypatch.setattr(drafter.history, "grow", grown.append)
    streams = [drafter.open(as_tokens([9])) for _ in range(2)]
    drafter.observe_all(streams, [feedback([1, 2]), feedback([3])])
    assert sum(grown) == 3
    for stream in streams:
        stream.observe(feedback([4, 5]))
    assert sum(grown) == 7


# --- Many namespaces --------------------------------------------------------------------------


@pytest.mark.parametrize("evict", ["fifo", "lru"])
def test_bytes_are_limited_over_any_number_of_namespaces(evict):
    limit = 1_000_000
    drafter = SuffixDrafter(max_bytes=limit, evict=evict)
    for tenant in range(3000):
        run(drafter, [1, 2], range(10), namespace=f"tenant-{tenant}")
        if tenant % 50 == 0:
            assert drafter.nbytes <= limit
    assert 100 < drafter.history.namespaces < 1000  # idle ones were dropped
    for _ in range(5):
        run(drafter, [3], range(2000), namespace="big")
    assert drafter.nbytes <= limit
    assert ask(drafter, range(20), namespace="big").tokens.tolist()[:3] == [20, 21, 22]


def test_what_a_request_costs_does_not_depend_on_how_many_namespaces_there_are(monkeypatch):
    measured = []
    nbytes = SuffixTree.nbytes.fget

    def counted(tree):
        measured.append(tree)
        return nbytes(tree)

    monkeypatch.setattr(SuffixTree, "nbytes", property(counted))
    costs = []
    drafter = SuffixDrafter(max_bytes=20_000_000)
    for tenant in range(2000):
        measured.clear()
        run(drafter, [1, 2], range(10), namespace=f"tenant-{tenant}")
        costs.append(len(measured))
    assert drafter.history.namespaces == 2000
    assert max(costs) == max(costs[:200])


def test_a_namespace_goes_with_its_last_request():
    drafter = SuffixDrafter(max_requests=2)
    for name in ("a", "b", "c"):
        run(drafter, [9], [1, 2, 3], namespace=name)
    assert drafter.history.namespaces == 2
    assert not known(drafter, 1, namespace="a")
    assert known(drafter, 1, namespace="c")
    empty = drafter.open(as_tokens([9]), namespace="d")
    empty.close()  # without output
    removed = drafter.open(as_tokens([9]), namespace="e")
    say(removed, [4, 5])
    drafter.remove(removed.sequence)
    removed.close()
    asking = 2  # streams that `known` left open, in namespaces a and c
    assert drafter.history.namespaces == 2 + asking - 1
    assert drafter.nbytes < 4 * 4000


def test_requests_that_come_and_go_in_one_namespace_find_each_other():
    """A tree is dropped while others open streams on it: none of them writes to a lost tree."""
    drafter = SuffixDrafter(max_requests=1)

    def requests():
        for _ in range(200):
            run(drafter, [9], [1, 2, 3], namespace="a")

    threads = [threading.Thread(target=requests) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drafter.history.requests == 1
    assert drafter.shared("a").sequences == 1
    assert ask(drafter, [9, 1], namespace="a").tokens.tolist()[:1] == [2]


def test_a_stream_that_cannot_be_opened_leaves_nothing():
    drafter = SuffixDrafter()
    with pytest.raises(InvalidTokens):
        drafter.open(np.array([-1], np.int32), namespace="a")
    assert drafter.history.namespaces == 0
