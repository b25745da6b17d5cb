"""Replicas share history over real brokers that are killed, cut off, and lied to."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from brokers import NatsBroker, RedisBroker, Wire, until

from draftwood.draft import Budget
from draftwood.drafters.history_listener import FinishedText
from draftwood.drafters.recall import RecallDrafter
from draftwood.index.recall import Recall, RecallStream
from draftwood.share import Replica, ShareOptions
from draftwood.share.envelope import Origin, packed_batch
from draftwood.share.log import open_log
from draftwood.share.records import TextRecord

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
