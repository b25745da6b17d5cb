"""Draftwood's TensorRT-LLM drafter keeps the executor's contract, on a fake made from its sources.

Read: _torch/speculative/drafter.py (three versions, whose constructors differ), ngram.py, utils.py,
_torch/pyexecutor/resource_manager.py, llm_request.py, py_executor.py (`_executor_loop`).
"""

import pickle
import sys
from abc import ABC, abstractmethod
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from draftwood.errors import InvalidOption, MissingExtra
from draftwood.serving import housekeeping
from draftwood.tensorrt_llm import opened_late, speculative_config

END, VOCAB = 49, 50


class OldDrafter(ABC):
    def __init__(self, max_concurrency=None):
        self.max_concurrency = max_concurrency

    @abstractmethod
    def prepare_draft_tokens(self, scheduled_requests, resource_manager=None): ...


class NewDrafter(ABC):
    def __init__(
        self, max_draft_len, max_total_draft_tokens, max_concurrency=None, draft_len_schedule=None
    ):
        self.max_draft_len = max_draft_len
        self.max_total_draft_tokens = max_total_draft_tokens

    @abstractmethod
    def prepare_draft_tokens(self, scheduled_requests, resource_manager=None): ...


class BaseResourceManager(ABC):
    @abstractmethod
    def get_max_resource_count(self): ...

    @abstractmethod
    def get_needed_resource_to_completion(self, request): ...


class Tokenizer:
    def get_vocab(self):
        return {f"t{at}": at for at in range(VOCAB)}

    def encode(self, text, add_special_tokens):
        return [int(word[1:]) for word in text.split()]


@pytest.fixture(params=[OldDrafter, NewDrafter])
def engine(request, monkeypatch, tmp_path):
    """The modules of TensorRT-LLM that are imported; `ranks` of them work together."""
    import transformers

    made = SimpleNamespace(ranks=1)
    modules = {
        "tensorrt_llm._utils": {"mpi_world_size": lambda: made.ranks},
        "tensorrt_llm._torch.pyexecutor.resource_manager": {
            "BaseResourceManager": BaseResourceManager
        },
        "tensorrt_llm._torch.speculative.drafter": {"Drafter": request.param},
        "tensorrt_llm.llmapi.llm_args": {"UserProvidedDecodingConfig": SimpleNamespace},
    }
    for name, names in modules.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            module = ModuleType(".".join(parts[:end]))
            monkeypatch.setitem(sys.modules, module.__name__, module)
        for key, value in names.items():
            setattr(sys.modules[name], key, value)
    monkeypatch.delitem(sys.modules, "draftwood.tensorrt_llm.drafting", raising=False)
    monkeypatch.setattr(opened_late, "Finalize", lambda *_, **__: None)
    monkeypatch.setattr(housekeeping.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(
        transformers, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda _: Tokenizer())
    )
    yield made
    sys.modules.pop("draftwood.tensorrt_llm.drafting", None)


class Request:
    """`LlmRequest`. says: what the model will generate, whatever is drafted."""

    def __init__(self, number, prompt, says):
        self.py_request_id = number
        self.py_orig_prompt_len = len(prompt)
        self.py_max_new_tokens = 64
        self.py_end_id = END
        self.py_draft_tokens = []
        self.says = says
        self.text = list(prompt)

    def get_tokens(self, beam):
        assert beam == 0
        return list(self.text)

    @property
    def said(self):
        return self.text[self.py_orig_prompt_len :]


def serve(config, asked, *, rows=4, most=16):
    """`_executor_loop` with one pass at a time; passes that generated."""
    drafter, manager, passes = config.drafter, config.resource_manager, 0
    waiting, running = list(asked), []
    while waiting or running:
        while waiting and len(running) < rows:  # a prompt brings its first token
            request = waiting.pop(0)
            request.text.append(request.says[0])
            running.append(request)
        drafter.prepare_draft_tokens(SimpleNamespace(generation_requests=running), None)
        passes += 1
        for request in list(running):
            draft = request.py_draft_tokens
            assert type(draft) is list
            assert len(draft) <= most
            assert all(type(token) is int and 0 <= token < VOCAB for token in draft)
            draft += [0] * (most - len(draft))  # pad_draft_tokens_for_cuda_graph
            for token in [*draft, None]:
                at = len(request.said)
                request.text.append(request.says[at])
                if request.says[at] != token or len(request.said) == len(request.says):
                    break
            if len(request.said) == len(request.says):
                running.remove(request)
                manager.free_resources(request)
    return passes


def traffic(count=10, seed=0):
    random = np.random.default_rng(seed)
    phrases = [random.integers(1, 40, 10).tolist() for _ in range(4)]
    said = [[t for at in random.integers(0, 4, 3) for t in phrases[at]] for _ in range(count)]
    return [Request(at, says[:8], [*says, END]) for at, says in enumerate(said)]


def test_chains_are_what_was_said_before_and_texts_stay(engine):
    config = speculative_config("model", options={"cost": "none"})
    asked = traffic()
    passes = serve(config, asked)
    assert all(request.said == request.says for request in asked)
    assert passes < 0.6 * serve(speculative_config("m", options={"drafter": "none"}), traffic())
    sessions = config.drafter._late.sessions
    assert len(sessions) == 0
    assert sessions.report()["error_count"] == 0
    config.resource_manager.shutdown()
    assert sessions.closed


def test_workers_get_a_config_of_their_own(engine):
    """TensorRT-LLM sends the config to its worker processes; drafter and manager stay together."""
    config = speculative_config("model", options={"cost": "none"})
    config.drafter._late.sessions  # noqa: B018  # opened here, and not sent
    sent = pickle.loads(pickle.dumps(config))
    assert sent.drafter._late is sent.resource_manager._late
    serve(sent, traffic(3))
    assert sent.drafter._late.sessions.report()["requests"] == 3
    assert config.drafter._late.sessions.report()["requests"] == 0


def test_ranks_that_would_differ_are_refused(engine, tmp_path):
    engine.ranks = 2
    for options in (
        {},
        {"cost": "none", "path": str(tmp_path)},
        {"cost": "none", "replicas": "redis://localhost"},
    ):
        config = speculative_config("model", options=options)
        with pytest.raises(InvalidOption, match="on 2 ranks"):
            serve(config, traffic(1))
    both = [speculative_config("model", options={"cost": "none"}) for _ in range(2)]
    drafts = []
    for config in both:
        found = []
        real = config.drafter.prepare_draft_tokens

        def watched(scheduled, manager, real=real, found=found):
            real(scheduled, manager)
            found.append([list(each.py_draft_tokens) for each in scheduled.generation_requests])

        config.drafter.prepare_draft_tokens = watched
        serve(config, traffic())
        drafts.append(found)
    assert drafts[0] == drafts[1]


def test_what_fails_costs_drafts_only(engine):
    config = speculative_config("model", options={"cost": "none"})
    sessions = config.drafter._late.sessions
    sessions.draft = lambda *_: 1 / 0
    asked = traffic(2)
    serve(config, asked)
    assert all(request.said == request.says for request in asked)
    assert sessions.figures.errors["rows"] > 0


def test_an_engine_without_drafters_is_named():
    with pytest.raises(MissingExtra, match="TensorRT-LLM that takes drafters"):
        speculative_config("model")


@pytest.mark.parametrize("wrong", [{"max_draft_len": 0}, {"options": {"pth": "x"}}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InvalidOption):
        speculative_config("model", **wrong)
