from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest

from draftwood import errors
from draftwood.decode import decode
from draftwood.draft import Budget, as_tokens
from draftwood.drafters.catalog import make_drafter
from draftwood.drafters.recall import RecallDrafter
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallPolicy, RecallStream
from draftwood.protocols import BatchDrafter, Feedback, Verdict
from draftwood.sources import OWN, SHARED
from draftwood.stats import Stats
from draftwood.testing import ToyTarget
from draftwood.text.stop import Stop
from draftwood.verify.greedy import Greedy

POEM = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4]


def drafted(recall, context, **options):
    with closing(RecallStream(recall, context, **options)) as stream:
        return stream.propose(Budget(32))


def test_a_stream_copies_from_its_own_prompt():
    guess = drafted(Recall(256), [*POEM, *POEM[:6]])
    assert guess.tokens[0] == POEM[6]
    assert guess.source[0] == OWN


def test_a_stream_drafts_what_another_request_said():
    recall = Recall(256)
    recall.add(POEM)
    guess = drafted(recall, POEM[:6])
    assert guess.tokens[0] == POEM[6]
    assert guess.source[0] == SHARED


def test_context_is_never_drafted_but_leads_to_what_is():
    recall = Recall(256)
    recall.add([7, 7], context=[1, 2, 3])
    assert drafted(recall, [1, 2]).tokens.tolist() == []
    assert drafted(recall, [2, 3]).tokens.tolist()[0] == 7


def test_output_is_shared_when_the_stream_closes_or_has_generated_enough():
    recall = Recall(1024)
    early = RecallStream(recall, [1], policy=RecallPolicy(share=4))
    late = RecallStream(recall, [1])
    early.observe(POEM[:5])
    late.observe(POEM[:5])
    assert recall.written > 0
    before = recall.written
    late.close()
    assert recall.written > before
    assert early.sequence != late.sequence
    assert recall.remove(early.sequence) == 1 + 5  # a token of context stands before them


def test_a_stream_does_not_find_its_own_output_in_shared_history():
    recall = Recall(1024)
    with closing(RecallStream(recall, [1], policy=RecallPolicy(share=1))) as stream:
        stream.observe(POEM)
        stream.observe(POEM[:6])
        assert set(stream.propose(Budget(32)).source.tolist()) == {OWN}


def test_the_oldest_tokens_make_room():
    recall = Recall(512)
    recall.add(POEM)
    size = recall.nbytes
    rng = np.random.default_rng(0)
    for _ in range(20):
        recall.add(rng.integers(100, 200, 40))
    assert drafted(recall, POEM[:6]).tokens.tolist() == []
    assert recall.nbytes == size
    assert recall.capacity == 512


def test_a_million_tokens_take_at_most_32_bytes_each():
    recall = Recall(1_000_000)
    assert recall.nbytes <= 32 * recall.capacity


def test_a_draft_keeps_to_its_budget():
    recall = Recall(4096)
    rng = np.random.default_rng(1)
    recall.add(rng.integers(0, 4, 2000))
    with closing(RecallStream(recall, rng.integers(0, 4, 50))) as stream:
        for nodes, reach in [(0, 5), (5, 0), (1, 1), (7, 3), (32, 32)]:
            guess = stream.propose(Budget(nodes, depth=reach))
            assert len(guess) <= nodes
            depths = []
            for parent in guess.parents.tolist():
                depths.append(1 + (depths[parent] if parent >= 0 else 0))
            assert max(depths, default=0) <= reach
        assert stream.propose(7).tokens.tolist() == stream.propose(Budget(7)).tokens.tolist()


def test_a_chain_has_no_branches_and_keeps_to_its_floor():
    recall = Recall(4096)
    rng = np.random.default_rng(1)
    recall.add(rng.integers(0, 4, 2000))
    policy = RecallPolicy("chain", floor=0.1)
    guess = drafted(recall, rng.integers(0, 4, 50), policy=policy)
    assert guess.parents.tolist() == list(range(-1, len(guess) - 1))
    assert (np.cumprod(guess.confidence) >= 0.1).all()


def test_bad_tokens_and_options_are_refused():
    recall = Recall(256)
    with pytest.raises(errors.InvalidTokens):
        recall.add([1, -1])
    with pytest.raises(errors.InvalidTokens):
        RecallStream(recall, [2**31])
    with pytest.raises(errors.InvalidOption, match="max_tokens is 3"):
        Recall(3)
    with pytest.raises(errors.InvalidOption, match="floor"):
        RecallPolicy(floor=2)
    with pytest.raises(errors.InvalidOption, match="mode"):
        make_drafter("recall:max_tokens=256").policy.__class__(mode="bush")
    assert recall.written == 0


def test_confidence_learns_to_be_what_is_accepted():
    rng = np.random.default_rng(3)
    recall = Recall(20_000)
    sure = accepted = 0.0
    for request in range(120):
        with closing(RecallStream(recall, [0])) as stream:
            at = 0
            for _ in range(40):
                guess = stream.propose(Budget(8))
                at = int((at * 3 + rng.choice([1, 2, 5], p=[0.6, 0.3, 0.1])) % 50)
                if request > 60:
                    first = guess.parents == -1
                    sure += float(guess.confidence[first].sum())
                    accepted += at in guess.tokens[first]
                stream.observe([at])
    assert sure == pytest.approx(accepted, rel=0.05)


def test_the_drafter_drafts_through_the_loop_what_it_has_seen():
    text = [*POEM, 11]
    target = ToyTarget(lambda prefix: np.eye(12)[text[min(len(prefix) - 1, len(text) - 1)]])
    drafter = make_drafter("recall:max_tokens=4096,mode=tree")
    runs = [
        Stats.of(decode(target, drafter, Greedy(), [0], stop=Stop(end_tokens=[11])))
        for _ in range(6)
    ]
    assert runs[0].tokens == runs[-1].tokens == len(text)
    assert runs[-1].tokens_per_step > 4


def test_prompts_are_shared_on_request():
    drafter = RecallDrafter(max_tokens=1024, prompts=True)
    drafter.open(as_tokens(POEM)).close()
    with closing(drafter.open(as_tokens(POEM[:6]))) as stream:
        assert stream.propose(Budget(4)).tokens[0] == POEM[6]


def test_a_batch_of_the_drafter_is_what_its_streams_are_alone():
    rng = np.random.default_rng(6)
    batch, single = (RecallDrafter(max_tokens=2048, nodes=12, share=5) for _ in range(2))
    assert isinstance(batch, BatchDrafter)
    prompts = [as_tokens(rng.integers(0, 9, 20)) for _ in range(5)]
    together = [batch.open(prompt) for prompt in prompts]
    apart = [single.open(prompt) for prompt in prompts]
    budgets = [Budget(16), Budget(3, floor=0.2), Budget(0), Budget(9, depth=2), Budget(8, depth=0)]
    drafted = 0
    for _ in range(20):
        drafts = batch.propose_all(together, budgets)
        feedback = []
        for one, stream, budget in zip(drafts, apart, budgets, strict=True):
            alone = stream.propose(budget)
            for name in ("tokens", "parents", "confidence", "source"):
                assert getattr(one, name).tolist() == getattr(alone, name).tolist()
            drafted += len(one)
            said = as_tokens(rng.integers(0, 9, 3))
            verdict = Verdict(np.empty(0, dtype=np.int32), int(said[-1]))
            feedback.append(Feedback(one, verdict, said))
        batch.observe_all(together, feedback)
        for stream, told in zip(apart, feedback, strict=True):
            stream.observe(told)
    assert drafted > 100
    assert batch.propose_all([], []) == []
    batch.observe_all([], [])


def test_a_budget_may_ask_for_likely_nodes_only():
    drafter = RecallDrafter(max_tokens=4096, floor=0.01)
    drafter.recall.add(np.random.default_rng(1).integers(0, 4, 2000))
    with closing(drafter.open(as_tokens([1, 2, 3]))) as stream:
        sizes = [len(stream.propose(Budget(32, floor=floor))) for floor in (0.0, 0.01, 0.1, 0.6)]
    assert sizes[0] == sizes[1] > sizes[2] > sizes[3]


def test_a_file_keeps_history_and_what_was_learned(tmp_path):
    path = tmp_path / "history.recall"
    recall = Recall.open(path, max_tokens=1024)
    recall.add(POEM)
    with closing(RecallStream(recall, POEM[:6])) as stream:
        stream.propose(Budget(4))
        stream.observe(POEM[6:8])
        before = stream.propose(Budget(4))
    recall.flush()
    del recall, stream
    again = Recall.open(path)
    guess = drafted(again, POEM[:8])
    assert guess.tokens[0] == before.tokens[0] == POEM[8]
    assert path.stat().st_size == again.nbytes


def test_one_process_writes_and_others_read(tmp_path):
    path = tmp_path / "history.recall"
    writer = Recall.open(path, max_tokens=1024)
    reader = Recall.open(path, write=False)
    with pytest.raises(errors.HistoryBusy):
        Recall.open(path)
    with pytest.raises(errors.InvalidOption, match="write=False"):
        reader.add(POEM)
    writer.add(POEM)
    assert drafted(reader, POEM[:6]).tokens[0] == POEM[6]


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda data: b"", errors.NotAHistory),
        (lambda data: data[:4], errors.NotAHistory),
        (lambda data: b"x" + data[1:], errors.NotAHistory),
        (lambda data: data[:40], errors.HistoryTruncated),
        (lambda data: data[:5000], errors.HistoryTruncated),
        (lambda data: data[:8] + b"\x09" + data[9:], errors.HistoryTooNew),
        (lambda data: data[:24] + b"\x01" + data[25:], errors.HistoryMalformed),
    ],
)
def test_a_damaged_file_raises_a_named_error(tmp_path, damage, error):
    path = tmp_path / "history.recall"
    Recall.open(path, max_tokens=256).flush()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(error):
        Recall.open(path, write=False)


def test_a_file_of_noise_behind_a_good_header_drafts_without_a_crash(tmp_path):
    path = tmp_path / "history.recall"
    Recall.open(path, max_tokens=1024).add(POEM)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(5)
    data[4096:] = rng.integers(0, 256, len(data) - 4096, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    recall = Recall.open(path, write=True)
    for _ in range(50):
        with closing(RecallStream(recall, rng.integers(0, 9, 20))) as stream:
            assert len(stream.propose(Budget(32))) <= 32
            stream.observe(rng.integers(0, 9, 5))


def test_a_file_of_another_tokenizer_is_refused(tmp_path):
    path = tmp_path / "history.recall"
    del_me = Recall.open(path, max_tokens=256, fingerprint=b"a" * 32)
    del del_me
    Recall.open(path, write=False, fingerprint=b"a" * 32)
    with pytest.raises(errors.TokenizerMismatch):
        Recall.open(path, write=False, fingerprint=b"b" * 32)


WRITER = """
import sys, numpy as np
from draftwood.index.recall import Recall
recall = Recall.open(sys.argv[1], max_tokens=4096)
print("open", flush=True)
start = int(sys.argv[2])
while True:
    recall.add(np.arange(start, start + 100, dtype=np.int32) % 1000)
    start += 7
"""


def test_a_writer_killed_at_any_moment_leaves_a_file_that_opens(tmp_path):
    path = tmp_path / "history.recall"
    written = 0
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(round_ * 13)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.02 * round_)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        recall = Recall.open(path)
        assert recall.written >= written
        written = recall.written
        check_runs(recall, np.random.default_rng(round_), 20)
        del recall


def test_readers_never_see_a_torn_draft_while_a_writer_runs(tmp_path):
    path = tmp_path / "history.recall"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "0"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        reader = Recall.open(path, write=False)
        while reader.written < 2 * reader.capacity:
            time.sleep(0.01)
        check_runs(reader, np.random.default_rng(0), 300)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def check_runs(recall, rng, rounds):
    """Every sequence counts up modulo 1000, so every true continuation does."""
    found = 0
    for _ in range(rounds):
        start = int(rng.integers(0, 1000))
        with closing(RecallStream(recall, np.arange(start, start + 5) % 1000)) as stream:
            guess = stream.propose(Budget(16))
            found += len(guess)
            for token, parent in zip(guess.tokens.tolist(), guess.parents.tolist(), strict=True):
                before = (start + 4) % 1000 if parent < 0 else int(guess.tokens[parent])
                assert token == (before + 1) % 1000
    assert found or not recall.written
