"""The speculator for vLLM's runner of version 2, on a fake of the runner's interface."""

import sys
from abc import ABC, abstractmethod
from types import ModuleType, SimpleNamespace

import pytest
import torch

from draftwood.vllm import speculator
from tests.unit.vllm_engine import END, VOCAB, Asked, config

NODES, LIMIT, ROWS = 6, 96, 4


class BaseSpeculator(ABC):
    """The abstract methods of vLLM's."""

    @abstractmethod
    def init_cudagraph_manager(self, cudagraph_mode): ...

    @abstractmethod
    def capture(self): ...

    @abstractmethod
    def propose(self, *args, **kwargs): ...


class States:
    """`RequestState`: slots of requests, their tokens and lengths."""

    def __init__(self):
        self.max_num_reqs = ROWS
        self.req_id_to_index = {}
        self.all_token_ids = SimpleNamespace(gpu=torch.zeros(ROWS, LIMIT, dtype=torch.int32))
        self.total_len = SimpleNamespace(gpu=torch.zeros(ROWS, dtype=torch.int32))
        self.prompt_len = SimpleNamespace(np=[0] * ROWS)
        self.max_seq_len = [0] * ROWS
        self._free = list(range(ROWS))

    def add(self, row):
        at = self.req_id_to_index[row.name] = self._free.pop()
        self.prompt_len.np[at] = len(row.prompt)
        self.max_seq_len[at] = len(row.prompt) + row.max_tokens
        self.write(row)

    def write(self, row):
        at = self.req_id_to_index[row.name]
        self.all_token_ids.gpu[at, : len(row.text)] = torch.tensor(row.text, dtype=torch.int32)
        self.total_len.gpu[at] = len(row.text)

    def remove(self, row):
        self._free.append(self.req_id_to_index.pop(row.name))


@pytest.fixture
def runner(monkeypatch):
    """The module `vllm.v1.worker.gpu.model_runner`, into which the plugin is installed."""
    for name in ("vllm", "vllm.v1", "vllm.v1.worker", "vllm.v1.worker.gpu"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    made = ModuleType("model_runner")
    made.init_speculator = lambda *_: "theirs"
    sys.modules["vllm.v1.worker.gpu"].model_runner = made
    base = ModuleType("speculator")
    base.BaseSpeculator = BaseSpeculator
    for name in ("vllm.v1.worker.gpu.spec_decode", "vllm.v1.worker.gpu.spec_decode.speculator"):
        monkeypatch.setitem(sys.modules, name, base)
    monkeypatch.setattr(speculator, "sessions_of", _sessions)
    speculator.install()
    assert not hasattr(made.init_speculator, "by_draftwood")  # nobody has asked for that runner
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    speculator.install()
    speculator.install()
    return made


def _sessions(made):
    from draftwood.serving.engine_sessions import EngineSessions, EngineShape

    return EngineSessions(EngineShape(VOCAB, LIMIT, NODES), speculator.engine_options(made))


def propose(made, states, rows, brought, **options):
    batch = SimpleNamespace(
        num_reqs=len(rows),
        req_ids=[row.name for row in rows],
        idx_mapping=torch.tensor(
            [states.req_id_to_index[row.name] for row in rows], dtype=torch.int64
        ),
    )
    sampled = torch.tensor(brought, dtype=torch.int32)
    drafts = made.propose(batch, {}, {}, None, None, sampled, None, None, None, None, **options)
    assert drafts.dtype == torch.int64
    assert tuple(drafts.shape) == (len(rows), NODES)
    found = []
    for row in drafts.tolist():
        length = row.index(-1) if -1 in row else NODES
        assert row[length:] == [-1] * (NODES - length)
        assert all(0 <= token < VOCAB for token in row[:length])
        found.append(row[:length])
    return found


def test_it_takes_the_place_of_theirs_where_that_is_asked_for(runner):
    assert runner.init_speculator(config(), "cpu", States()) == "theirs"
    assert runner.init_speculator(config(runner=2), "cpu", States()) != "theirs"


def test_requests_are_drafted_for_from_what_others_said(runner):
    states = States()
    made = runner.init_speculator(config(NODES, runner=2, cost="none", share=4), "cpu", states)
    made.init_cudagraph_manager(None)
    made.capture()
    says = [*range(10, 40), END]
    passes = {}
    for name in ("first", "second"):
        row, prefilling = Asked(name, [1, 2, 3], says), Asked(f"{name}'s", [4] * 9, [5])
        states.add(row)
        states.add(prefilling)
        draft, count = [], 0
        while row.said != says:
            at = len(row.said)
            right = 0
            while right < len(draft) and says[at + right : at + right + 1] == [draft[right]]:
                right += 1
            new = says[at : at + right + 1]
            row.said += new
            states.write(row)
            draft, nothing = propose(made, states, [row, prefilling], [len(new), 0])
            assert nothing == []
            count += 1
        passes[name] = count
        states.remove(row)
        states.remove(prefilling)
    assert passes["first"] == len(says)
    assert passes["second"] < len(says) / 2
    assert not made.drafting.figures.errors
    assert propose(made, states, [], []) == []
    assert len(made.drafting) == 0


def test_dummy_runs_and_failures_propose_nothing(runner, monkeypatch):
    states = States()
    made = runner.init_speculator(config(NODES, runner=2), "cpu", states)
    row = Asked("one", [1, 2, 1, 2, 1, 2], [])
    states.add(row)
    assert propose(made, states, [row], [1], dummy_run=True) == [[]]
    monkeypatch.setattr(made, "_chains", lambda *_: [[1], [2], [3], [4]])
    assert propose(made, states, [row], [1]) == [[]]
    assert made.drafting.figures.errors == {"rows": 1}


def test_ranks_whose_drafts_nobody_reads_open_nothing(runner):
    states = States()
    made = runner.init_speculator(config(NODES, runner=2, rank=1, ranks=2), "cpu", states)
    row = Asked("one", [1, 2, 1, 2], [])
    states.add(row)
    assert made.drafting is None
    assert propose(made, states, [row], [1]) == [[]]


def test_without_that_runner_nothing_is_installed(monkeypatch):
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    speculator.install()
