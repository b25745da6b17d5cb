"""Replicas share history over real brokers that are killed, cut off, and lied to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from brokers import NatsBroker, RedisBroker, Wire, until

import draftwood as dw
from draftwood.demo.model import target_path
from draftwood.draft import Budget
from draftwood.drafters.history_listener import FinishedText
from draftwood.drafters.recall import RecallDrafter
from draftwood.index.fingerprint import tokenizer_fingerprint
from draftwood.index.recall import Recall, RecallStream
from draftwood.serving.engine_sessions import EngineSessions, EngineShape
from draftwood.serving.options import EngineOptions, RequestFacts
from draftwood.share import Replica, ShareOptions
from draftwood.share.compaction import Retention, compacted
from draftwood.share.envelope import Origin, packed_batch, unpacked_batch
from draftwood.share.forgetting import acknowledgments, send_tombstone
from draftwood.share.host import HostFollower
from draftwood.share.keys import NamespaceKeys, namespace_grant
from draftwood.share.log import open_log
from draftwood.share.records import TextRecord
from draftwood.share.snapshot import SnapshotFolder

FINGERPRINT = bytes(range(32))
NONE = np.empty(0, np.int32)


def numbers(first: int, count: int = 40) -> np.ndarray:
    """A text by which it can be told where it came from: each token is the one before plus 1."""
    return np.arange(first, first + count, dtype=np.int32)


class Host:
    """A process's part, in this process: a history and a replica."""

    def __init__(self, url: str, name: str = "", path: Path | None = None, **options) -> None:
        self.recall = Recall(100_000) if path is None else Recall.open(path, max_tokens=100_000)
        self.replica = Replica(
            ShareOptions(url, host=name, **options),
            self.recall,
            fingerprint=FINGERPRINT,
            path=path,
        )

    def finish(self, tokens, namespace: str = "") -> bytes | None:
        number = self.recall.add(tokens, namespace=self.replica.name_of(namespace))
        return self.replica.finished(FinishedText(NONE, tokens, namespace, number))

    def drafts(self, prompt, namespace: str = "") -> list[int]:
        name = self.replica.name_of(namespace)
        with closing(RecallStream(self.recall, prompt, namespace=name)) as stream:
            draft = stream.propose(Budget(4))
        return draft.tokens.tolist()

    def knows(self, first: int, namespace: str = "") -> bool:
        return self.drafts(numbers(first, 8), namespace)[:1] == [first + 8]

    def counts(self, way: str = "in") -> dict:
        return self.replica.report()[way]

    def close(self, timeout: float = 5.0) -> None:
        self.replica.close(timeout)
        self.recall.close()


@pytest.fixture(params=["redis", "nats", "folder"])
def log_url(request, tmp_path):
    if request.param == "folder":
        yield f"file://{tmp_path}/log?poll=0.02"
        return
    broker = {"redis": RedisBroker, "nats": NatsBroker}[request.param](tmp_path / "broker")
    yield broker.url()
    broker.kill()


@pytest.fixture(params=["redis", "nats"])
def broker(request, tmp_path):
    made = {"redis": RedisBroker, "nats": NatsBroker}[request.param](tmp_path / "broker")
    yield made
    made.kill()


@pytest.fixture
def hosts():
    made: list[Host] = []

    def make(*args, **options) -> Host:
        made.append(Host(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close(timeout=0.2)


def test_a_text_of_one_host_is_drafted_on_the_other(log_url, hosts):
    one, other = hosts(log_url, "one"), hosts(log_url, "other")
    one.finish(numbers(1000))
    until(lambda: other.knows(1000))
    other.finish(numbers(5000), "tenant")
    until(lambda: one.knows(5000, "tenant"))
    assert not one.knows(5000)
    assert not other.knows(1000, "tenant")
    until(lambda: one.counts()["own"] == 1 and other.counts()["own"] == 1)
    until(lambda: one.counts()["texts"] == other.counts()["texts"] == 1)
    assert one.counts()["duplicates"] == 0


def test_a_host_that_comes_later_has_what_the_log_has(log_url, hosts):
    one = hosts(log_url)
    for first in range(0, 30_000, 300):
        one.finish(numbers(first))
    assert one.replica.flush()
    late = hosts(log_url)
    until(lambda: late.counts()["texts"] == 100)
    assert all(late.knows(first) for first in range(0, 30_000, 300))


def test_a_follower_goes_on_where_it_stood(log_url, hosts, tmp_path):
    one = hosts(log_url)
    one.finish(numbers(1000))
    first = hosts(log_url, path=tmp_path / "history.recall")
    until(lambda: first.knows(1000))
    first.close()
    one.finish(numbers(2000))
    assert one.replica.flush()
    again = hosts(log_url, path=tmp_path / "history.recall")
    until(lambda: again.knows(2000) and again.counts()["texts"] == 1)
    assert again.knows(1000)


def test_what_was_acknowledged_is_drafted_after_the_broker_was_killed(broker, hosts):
    one, other = hosts(broker.url()), hosts(broker.url())
    one.finish(numbers(1000))
    until(lambda: other.knows(1000))
    broker.kill()
    for first in range(2000, 12_000, 100):
        one.finish(numbers(first))  # none of these waits for anything
    until(lambda: one.counts("out")["errors"] > 0)
    assert one.counts("out")["dropped"] == 0
    broker.start()
    until(lambda: other.knows(11_900))
    assert all(other.knows(first) for first in range(2000, 12_000, 100))
    assert one.counts("out")["published"] == one.counts("out")["offered"]
    late = hosts(broker.url())
    until(lambda: late.counts()["texts"] == 101)
    assert all(late.knows(first) for first in (1000, *range(2000, 12_000, 100)))


def test_a_cut_wire_costs_time_only(broker, hosts):
    wire = Wire(broker.port)
    try:
        one, other = hosts(broker.url()), hosts(broker.url(wire.port))
        one.finish(numbers(1000))
        until(lambda: other.knows(1000))
        for round_ in range(3):
            wire.cut()
            one.finish(numbers(2000 + 100 * round_))
            other.finish(numbers(7000 + 100 * round_))
            errors = other.counts()["log_errors"]
            until(lambda errors=errors: other.counts()["log_errors"] > errors)
            wire.mend()
            until(lambda first=2000 + 100 * round_: other.knows(first))
            until(lambda first=7000 + 100 * round_: one.knows(first))
        until(lambda: one.counts()["texts"] == 3 and other.counts()["texts"] == 4)
    finally:
        wire.close()


def test_a_full_queue_drops_and_counts_and_never_waits(hosts):
    one = hosts("redis://127.0.0.1:1/0", queue_bytes=16_384)  # nobody listens there
    for first in range(0, 50_000, 50):
        one.finish(numbers(first))
    out = one.counts("out")
    assert out["offered"] == 1000
    assert 900 < out["dropped"] < 1000
    assert out["waiting_bytes"] <= 16_384


def test_poison_is_skipped_and_counted(log_url, hosts):
    one, other = hosts(log_url), hosts(log_url)
    with closing(open_log(log_url)) as raw:
        origin = Origin(b"poisoner", fingerprint=FINGERPRINT)
        good = TextRecord(other.replica._keys.id_of(""), b"p" * 16, 0, 0.0, NONE, numbers(3000))
        message = packed_batch(origin, 1, [good])
        raw.append(b"rubbish")
        raw.append(message[:-3])
        raw.append(message[:4] + bytes([2]) + message[5:])  # of a later version
        raw.append(message)
    one.finish(numbers(1000))
    until(lambda: other.knows(1000) and other.knows(3000))
    assert other.counts()["poison"] == 2
    assert other.counts()["newer"] == 1


def test_two_publishers_with_one_id_lose_nothing(log_url, hosts):
    one, twin, other = hosts(log_url), hosts(log_url), hosts(log_url)
    for each in (one, twin):
        each.replica._publisher_id = b"the same"
    for round_ in range(5):
        one.finish(numbers(1000 + 100 * round_))
        twin.finish(numbers(7000 + 100 * round_))
    until(lambda: other.counts()["texts"] == 10)
    until(lambda: one.counts()["texts"] == 5 and twin.counts()["texts"] == 5)
    assert all(each.knows(1400) and each.knows(7400) for each in (one, twin, other))


def test_clocks_that_are_wrong_change_nothing(log_url, hosts, monkeypatch):
    one, other = hosts(log_url), hosts(log_url)
    real = time.time
    for skew in (-1e6, 1e6, 0.0):
        monkeypatch.setattr("draftwood.share.replica.time.time", lambda skew=skew: real() + skew)
        one.finish(numbers(int(2e6 + skew)))
    until(lambda: other.counts()["texts"] == 3)
    assert all(other.knows(int(2e6 + skew)) for skew in (-1e6, 1e6, 0.0))


def test_other_tokenizers_texts_are_left_out(log_url, hosts):
    one = hosts(log_url)
    with closing(open_log(log_url)) as raw:
        record = TextRecord(one.replica._keys.id_of(""), b"p" * 16, 0, 0.0, NONE, numbers(3000))
        raw.append(packed_batch(Origin(b"stranger", fingerprint=bytes(32)), 1, [record]))
    until(lambda: one.counts()["other_tokenizer"] == 1)
    assert not one.knows(3000)


def test_a_drafter_shares_what_its_streams_generate(log_url, hosts):
    other = hosts(log_url)
    drafter = RecallDrafter()
    replica = Replica(ShareOptions(log_url), drafter.recall, fingerprint=FINGERPRINT)
    drafter.listener = replica
    with closing(drafter.open(numbers(900, 10))) as stream:
        stream.observe(numbers(910, 10))
        stream.observe(numbers(920, 10))
    abandoned = drafter.open(numbers(400, 10))
    abandoned.observe(numbers(410, 10))
    abandoned.abandon()
    until(lambda: other.knows(910))
    assert other.drafts(numbers(902, 8))[:2] == [910, 911]
    assert not other.knows(410)
    replica.close()
    drafter.close()


def test_a_forgotten_namespace_is_gone_everywhere(log_url, hosts, tmp_path):
    one = hosts(log_url, "one")
    other = hosts(log_url, "other", path=tmp_path / "history.recall")
    one.finish(numbers(1000), "tenant")
    one.finish(numbers(3000))
    until(lambda: other.knows(1000, "tenant") and other.knows(3000))
    with closing(open_log(log_url)) as log:
        tombstone = send_tombstone(log, NamespaceKeys(), namespace="tenant")
        said = [done for _, done in first(acknowledgments(log, tombstone, seconds=60), 2)]
    assert sorted(done.host for done in said) == ["one", "other"]
    assert all(done.tokens >= 40 for done in said)
    for each in (one, other):
        assert not each.knows(1000, "tenant")
        assert each.knows(3000)
    assert b"".join(map(bytes, [numbers(1000)])) not in (tmp_path / "history.recall").read_bytes()
    one.finish(numbers(1000), "tenant")  # what is generated after a tombstone may be kept
    until(lambda: other.knows(1000, "tenant"))


def test_a_forgotten_sequence_is_gone_and_does_not_come_again(log_url, hosts):
    one, other = hosts(log_url), hosts(log_url)
    kept, gone = one.finish(numbers(1000)), one.finish(numbers(3000))
    assert kept is not None
    assert gone is not None
    until(lambda: other.knows(3000) and one.counts()["own"] == 2)
    with closing(open_log(log_url)) as log:
        tombstone = send_tombstone(log, NamespaceKeys(), sequence=gone.hex())
        assert len(first(acknowledgments(log, tombstone, seconds=60), 2)) == 2
        for each in (one, other):
            assert not each.knows(3000)
            assert each.knows(1000)
        again = TextRecord(one.replica._keys.id_of(""), gone, 9, 0.0, NONE, numbers(3000))
        log.append(packed_batch(Origin(b"straggle", fingerprint=FINGERPRINT), 1, [again]))
    until(lambda: other.counts()["forgotten"] == 1)
    assert not other.knows(3000)
    late = hosts(log_url)
    until(lambda: late.counts()["forgotten"] == 1)
    assert late.knows(1000)
    assert not late.knows(3000)


def first(iterator, count: int) -> list:
    return list(islice(iterator, count))


def test_sealed_texts_reach_those_with_the_key_only(log_url, hosts, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"sixteen bytes or more\n")
    grant = namespace_grant(b"sixteen bytes or more", "tenant").hex()
    (tmp_path / "grants").write_text(json.dumps({"tenant": grant}))
    one = hosts(log_url, secret=str(secret), seal=True)
    other = hosts(log_url, secret=str(secret), seal=True)
    tenant = hosts(log_url, grants=str(tmp_path / "grants"))
    stranger = hosts(log_url)
    one.finish(numbers(1000), "tenant")
    one.finish(numbers(3000), "somebody else")
    until(lambda: other.knows(1000, "tenant") and other.knows(3000, "somebody else"))
    until(lambda: tenant.knows(1000, "tenant"))
    until(lambda: tenant.counts()["unreadable"] == 1)
    until(lambda: stranger.counts()["unreadable"] == 2)
    assert tenant.counts()["texts"] == 1
    assert stranger.counts()["texts"] == 0
    with closing(open_log(log_url)) as log:
        raw = b"".join(each.data for each in log.read("", 1.0))
    assert numbers(1000).tobytes()[:64] not in raw


def test_a_snapshot_holds_what_is_kept_and_a_new_host_begins_with_it(log_url, hosts, tmp_path):
    one = hosts(log_url)
    for start in range(0, 20_000, 1000):
        one.finish(numbers(start))
    gone = one.finish(numbers(50_000), "tenant")
    assert gone is not None
    assert one.replica.flush()
    with closing(open_log(log_url)) as log:
        send_tombstone(log, NamespaceKeys(), namespace="tenant")
        folder = SnapshotFolder(f"file://{tmp_path}/snapshots", FINGERPRINT)
        made = compacted(log, folder, FINGERPRINT, Retention(tokens=400, grace=0.0))
        assert made["texts"] == 10
        assert made["tokens"] == 400
        left = [unpacked_batch(each.data) for each in log.read("", 0.3)]  # it is trimmed
        assert not any(isinstance(each, TextRecord) for batch in left for each in batch.records)
    one.finish(numbers(30_000))
    late = hosts(log_url, snapshot=f"file://{tmp_path}/snapshots")
    until(lambda: late.knows(30_000))
    assert [late.knows(start) for start in range(0, 20_000, 1000)] == [False] * 10 + [True] * 10
    assert not late.knows(50_000, "tenant")
    with closing(open_log(log_url)) as log:
        assert compacted(log, folder, FINGERPRINT, Retention())["texts"] == 11
        send_tombstone(log, NamespaceKeys(), namespace="")
        assert compacted(log, folder, FINGERPRINT, Retention())["texts"] == 0


def test_sealed_texts_stay_sealed_in_a_snapshot(hosts, tmp_path):
    url, secret = f"file://{tmp_path}/log?poll=0.02", tmp_path / "secret"
    secret.write_bytes(b"sixteen bytes or more")
    one = hosts(url, secret=str(secret), seal=True)
    one.finish(numbers(1000), "tenant")
    assert one.replica.flush()
    folder = SnapshotFolder(f"file://{tmp_path}/snapshots", FINGERPRINT)
    with closing(open_log(url)) as log:
        compacted(log, folder, FINGERPRINT, Retention(grace=0.0))
    written = b"".join(path.read_bytes() for path in (tmp_path / "snapshots").iterdir())
    assert numbers(1000).tobytes()[:32] not in written
    late = hosts(url, secret=str(secret), snapshot=f"file://{tmp_path}/snapshots")
    until(lambda: late.knows(1000, "tenant"))


def test_a_full_disk_at_a_follower_costs_time_only(log_url, hosts, tmp_path):
    one, other = hosts(log_url), hosts(log_url, path=tmp_path / "history.recall")
    one.finish(numbers(1000))
    until(lambda: other.knows(1000))
    base = other.replica._follower.ledger._base
    pages = base.execute("PRAGMA page_count").fetchone()[0]
    base.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says of full disks
    for start in range(2000, 90_000, 100):
        one.finish(numbers(start))
    until(lambda: other.counts()["disk_errors"] > 0)
    base.execute("PRAGMA max_page_count = 1000000")
    until(lambda: other.counts()["texts"] == 881)
    assert other.counts()["duplicates"] == 0
    assert other.knows(89_900)


def test_a_slow_follower_holds_nobody_up(log_url, hosts, monkeypatch):
    one, quick, slow = hosts(log_url), hosts(log_url), hosts(log_url)
    add = slow.recall.add

    def slowly(*args, **options):
        time.sleep(0.02)
        return add(*args, **options)

    monkeypatch.setattr(slow.recall, "add", slowly)
    for start in range(0, 20_000, 100):
        one.finish(numbers(start))
    until(lambda: quick.counts()["texts"] == 200)
    assert slow.counts()["texts"] < 200
    until(lambda: slow.counts()["texts"] == 200)
    assert all(slow.knows(start) for start in range(0, 20_000, 100))


def test_drafts_are_whole_and_of_their_own_namespace_while_others_write(hosts, tmp_path):
    """Texts of a namespace count up by 1 in a range of their own, so any mixture would show."""
    url = f"file://{tmp_path}/log?poll=0.01"
    writers = [hosts(url), hosts(url)]
    reader = hosts(url, path=tmp_path / "history.recall")
    mapped = Recall.open(tmp_path / "history.recall", write=False)
    random, checked = np.random.default_rng(1), 0
    for round_ in range(60):
        for number, writer in enumerate(writers):
            for _ in range(4):
                start = int(random.integers(0, 5000))
                writer.finish(numbers(100_000 * number + start, 60), f"tenant {number}")
        for number in range(2):
            name = reader.replica.name_of(f"tenant {number}")
            for _ in range(20):
                prompt = numbers(100_000 * number + int(random.integers(0, 5000)), 6)
                with closing(RecallStream(mapped, prompt, namespace=name)) as stream:
                    draft = stream.propose(Budget(16))
                before = np.concatenate((prompt[-1:], draft.tokens))[draft.parents + 1]
                assert (draft.tokens == before + 1).all(), round_
                checked += len(draft)
    until(lambda: reader.counts()["texts"] == 480)
    mapped.close()
    assert checked > 1000


def test_a_follower_that_was_killed_takes_nothing_twice(tmp_path):
    folder, url = tmp_path / "host", f"file://{tmp_path}/log?poll=0.01"
    path = folder / "history.recall"
    writer = Host(url)
    command = [sys.executable, "-m", "draftwood", "follow", url, "--path", str(folder)]
    command += ["--tokenizer", str(target_path() / "tokenizer.json"), "--max-tokens", "200000"]
    writer.replica.close()
    fingerprint = tokenizer_fingerprint(target_path() / "tokenizer.json")
    writer.replica = Replica(ShareOptions(url), writer.recall, fingerprint=fingerprint)
    count = 0
    for round_ in range(2):
        follower = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(path.exists)
        for _ in range(20):
            for start in range(10):
                writer.finish(numbers(10_000 * round_ + 100 * start + count, 30))
                count += 1
            time.sleep(0.005)
        follower.kill()
        follower.wait()
    assert writer.replica.flush()
    writer.close()
    last = HostFollower(ShareOptions(url), folder, fingerprint=fingerprint)
    until(lambda: last.replica._follower.ledger.texts == count)
    last.close()
    with closing(Recall.open(path)) as recall:
        assert recall.remove_namespace("") == 30 * count


def test_servers_of_a_host_draft_from_its_follower(tmp_path):
    url, folder = f"file://{tmp_path}/log?poll=0.02", tmp_path / "host"
    fingerprint = tokenizer_fingerprint(target_path() / "tokenizer.json")
    with closing(HostFollower(ShareOptions(url), folder, fingerprint=fingerprint)) as follower:
        share = {"url": url, "follow": False, "follower": str(folder)}
        with dw.load("demo", share=url) as far, dw.load("demo", share=share) as near:
            text = far.generate("List all open orders.", max_tokens=30).tokens
            until(lambda: follower.replica.report()["in"]["texts"] == 1)
            found = near.generate("List all open orders.", max_tokens=30)
            assert found.tokens.tolist() == text.tolist()
            assert found.stats.accepted > 10
            until(lambda: follower.replica.report()["in"]["texts"] == 2)


def test_an_engine_shares_what_its_requests_finish(tmp_path):
    url = f"file://{tmp_path}/log?poll=0.02"
    vocab = {f"t{number}": number for number in range(1000)}
    shape = EngineShape(1000, 4096, 8, vocab=vocab, model="m")
    one, other = (EngineSessions(shape, EngineOptions(replicas=url, cost="none")) for _ in range(2))
    text, end = list(range(100, 160)), 30
    private = RequestFacts(20, extra={"draftwood_namespace": 7})
    for key, facts in (("a", RequestFacts(20)), ("b", private)):
        for end in range(21, 61):
            one.draft([key], [text], [end], lambda _, facts=facts: facts)
        one.end(key)
    until(lambda: other.report()["shared"]["in"]["texts"] == 1)
    found = other.draft(["z"], [list(range(130, 141))], [11], lambda _: RequestFacts(10))
    assert found.lists()[0][:2] == [141, 142]
    assert one.report()["shared"]["out"]["offered"] == 1
    for each in (one, other):
        each.close()
