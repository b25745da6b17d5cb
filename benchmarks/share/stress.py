"""Drafts from a file that a follower writes meanwhile, each token of them checked.

Texts of a namespace count up by 1 in a range of their own: a drafted token that does not follow its
parent so is torn or foreign.
"""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from draftwood.draft import NO_TOKENS, Budget
from draftwood.drafters.history_listener import FinishedText
from draftwood.index.fingerprint import UNKNOWN
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.share.host import HostFollower
from draftwood.share.options import ShareOptions
from draftwood.share.replica import Replica

RANGE, SPREAD, LENGTH, NAMESPACES = 1_000_000, 20_000, 200, 8


def checked_drafts(url: str, wanted: int, rate: float) -> dict[str, Any]:
    """Draft until so many tokens are checked, while two publishers write `rate` texts a second."""
    with tempfile.TemporaryDirectory(prefix="draftwood-share-") as room:
        folder = Path(room)
        follower = HostFollower(
            ShareOptions(url, host="reader"), folder, fingerprint=UNKNOWN, max_tokens=200_000
        )
        writers = [
            Replica(
                ShareOptions(url, follow=False, host=f"writer {number}"),
                Recall(256),
                fingerprint=UNKNOWN,
            )
            for number in range(2)
        ]
        ended = threading.Event()
        offered = [0]
        publishing = threading.Thread(target=_publish, args=(writers, rate, ended, offered))
        publishing.start()
        try:
            found = _check(follower, folder, wanted)
        finally:
            ended.set()
            publishing.join()
        for writer in writers:
            writer.flush(60.0)
        published = sum(writer.report()["out"]["published"] for writer in writers)
        until = time.monotonic() + 60.0
        while follower.replica.report()["in"]["texts"] < published and time.monotonic() < until:
            time.sleep(0.05)
        came = follower.replica.report()["in"]
        sent = [writer.report()["out"] for writer in writers]
        for writer in writers:
            writer.close()
        follower.close()
    texts = max(1, came["texts"])
    return found | {
        "published": published,
        "lost": published - came["texts"],
        "dropped": sum(each["dropped"] for each in sent),
        "delay_p50_s": came["delay_p50_s"],
        "delay_p99_s": came["delay_p99_s"],
        "bytes_a_token": sum(each["bytes_sent"] for each in sent) / (texts * LENGTH),
    }


def _publish(
    writers: list[Replica], rate: float, ended: threading.Event, offered: list[int]
) -> None:
    random = np.random.default_rng(1)
    began = time.monotonic()
    while not ended.is_set():
        due = int((time.monotonic() - began) * rate)
        for _ in range(min(due - offered[0], 1000)):
            namespace = int(random.integers(NAMESPACES))
            start = RANGE * namespace + int(random.integers(SPREAD))
            text = np.arange(start, start + LENGTH, dtype=np.int32)
            writers[offered[0] % 2].finished(
                FinishedText(NO_TOKENS, text, f"tenant {namespace}", 0)
            )
            offered[0] += 1
        ended.wait(0.005)


def _check(follower: HostFollower, folder: Path, wanted: int) -> dict[str, Any]:
    random = np.random.default_rng(2)
    names = [follower.replica.name_of(f"tenant {number}") for number in range(NAMESPACES)]
    checked = torn = foreign = 0
    began = time.monotonic()
    with closing(Recall.open(folder / "history.recall", write=False)) as mapped:
        while checked < wanted:
            namespace = int(random.integers(NAMESPACES))
            start = RANGE * namespace + int(random.integers(SPREAD))
            prompt = np.arange(start, start + 6, dtype=np.int32)
            with closing(RecallStream(mapped, prompt, namespace=names[namespace])) as stream:
                draft = stream.propose(Budget(32))
                if not len(draft):
                    continue
                before = np.concatenate((prompt[-1:], draft.tokens))[draft.parents + 1]
                foreign += int((draft.tokens // RANGE != namespace).sum())
                torn += int((draft.tokens != before + 1).sum())
                checked += len(draft)
    return {
        "checked": checked,
        "drafted_foreign": foreign,
        "drafted_torn": torn,
        "check_s": time.monotonic() - began,
    }
