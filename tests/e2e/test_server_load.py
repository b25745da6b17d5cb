"""Many clients at once, good and hostile: none is lost, nothing crashes, no memory is kept.

A longer run: DRAFTWOOD_LOAD_CLIENTS=64 DRAFTWOOD_LOAD_SECONDS=600.
"""

import gc
import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import draftwood as dw

pytest.importorskip("torch")
pytest.importorskip("fastapi", reason="pip install 'draftwood[server]'")
httpx = pytest.importorskip("httpx2")
from serving import served, until  # noqa: E402

from draftwood.server.limits import ServerLimits  # noqa: E402

CLIENTS = int(os.environ.get("DRAFTWOOD_LOAD_CLIENTS", "12"))
SECONDS = float(os.environ.get("DRAFTWOOD_LOAD_SECONDS", "6"))
PATIENCE = 600.0
"""Seconds after which an answer counts as lost; long, as other work may hold the machine up."""
MIB = 2**20
KEPT = 64
"""MiB that the second half may add: the history grows, and allocators keep what they had."""
PROMPTS = [f"SELECT title FROM films WHERE year = {year}" for year in range(1990, 1998)]


def resident():
    """MiB of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


class Client(threading.Thread):
    """Asks until the time is up; counts what came of it."""

    def __init__(self, number, url, expected, end):
        super().__init__()
        self.number, self.url, self.expected, self.end = number, url, expected, end
        self.seen = Counter()
        self.wrong = []

    def run(self):
        turn = self.number
        with httpx.Client(base_url=self.url, timeout=PATIENCE) as client:
            while time.monotonic() < self.end:
                turn += 1
                try:
                    self.ask(client, turn)
                except Exception as error:
                    self.wrong.append(repr(error))

    def ask(self, client, turn):
        prompt = PROMPTS[turn % len(PROMPTS)]
        asked = {"prompt": prompt, "max_tokens": 16}
        kind = turn % 6
        if kind == 0:  # one that goes away
            with client.stream("POST", "/completions", json={**asked, "stream": True}) as answer:
                next(answer.iter_raw(), None)
            self.seen["left"] += 1
            return
        if kind == 1:  # one that is wrong
            answer = client.post("/completions", json={**asked, "temperature": -1})
            self.note(answer, 400, "refused")
            return
        if kind == 2:
            with client.stream("POST", "/completions", json={**asked, "stream": True}) as answer:
                body = "".join(answer.iter_text())
            if answer.status_code == 200 and not body.endswith("data: [DONE]\n\n"):
                self.wrong.append(f"lost: {body[-200:]}")
            self.note(answer, 200, "streamed")
            return
        answer = client.post("/completions", json=asked)
        if self.note(answer, 200, "whole"):
            text = answer.json()["choices"][0]["text"]
            if text != self.expected[prompt]:
                self.wrong.append(f"{prompt!r} gave {text!r}")

    def note(self, answer, status, name):
        if answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1:
            self.seen["queue full"] += 1
            return False
        if answer.status_code != status:
            self.wrong.append(f"{name}: {answer.status_code} {answer.text[:200]}")
            return False
        self.seen[name] += 1
        return True


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_under_load_nobody_is_lost_and_nothing_is_kept():
    with dw.load("demo", "recall:max_tokens=50000", cost="none") as llm:
        expected = {each: llm.generate(each, max_tokens=16, chat=False).text for each in PROMPTS}
        limits = ServerLimits(max_batch=4, max_waiting=6, max_choices=2)
        with served(llm, limits=limits) as server:
            halves = []
            for _ in range(2):
                end = time.monotonic() + SECONDS / 2
                clients = [Client(each, server.v1, expected, end) for each in range(CLIENTS)]
                for each in clients:
                    each.start()
                for each in clients:
                    each.join()
                until(server.idle)
                halves.append(resident())
                assert [wrong for each in clients for wrong in each.wrong] == []
                seen = sum((each.seen for each in clients), Counter())
                assert seen["whole"] > 0
            assert server.engine.healthy
            assert halves[1] - halves[0] < KEPT
