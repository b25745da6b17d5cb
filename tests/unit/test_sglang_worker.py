"""Draftwood's SGLang worker keeps SGLang's contract, and drafts what was said before."""

import json
import sys
from queue import Queue
from types import SimpleNamespace

import numpy as np
import pytest

from draftwood.errors import InvalidOption
from draftwood.sglang import drafting
from draftwood.sglang.algorithm import algorithm_class, check
from draftwood.sglang.drafting import masks_of
from draftwood.sglang.worker import worker_class
from tests.unit.sglang_engine import END, LIMIT, VOCAB, Engine, NGRAMWorker, Request

SLOTS = 8


class Group:
    """SGLang's GroupCoordinator of one rank."""

    world_size, rank_in_group, ranks, cpu_group = 1, 0, [0], None


@pytest.fixture
def make(monkeypatch):
    """make(options) -> an engine with one worker."""
    made = []

    def engine(*, overlap=True, breadth=4, slots=SLOTS, tokenizer=None, **options):
        options.setdefault("cost", "none")
        monkeypatch.setenv("DRAFTWOOD_OPTIONS", json.dumps(options))
        worker = worker_of(Group(), breadth=breadth, slots=slots, tokenizer=tokenizer)
        made.append(worker)
        return Engine([worker], slots, overlap=overlap)

    fake_sglang(monkeypatch)
    yield engine
    for worker in made:
        worker.drafting.sessions.close()


GROUPS: Queue = Queue()


def fake_sglang(monkeypatch):
    monkeypatch.setattr(drafting, "Housekeeping", lambda *_: SimpleNamespace(stop=lambda: None))
    for name in ("sglang", "sglang.srt"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    distributed = SimpleNamespace(get_tp_group=GROUPS.get)
    monkeypatch.setitem(sys.modules, "sglang.srt.distributed", distributed)


def worker_of(group, *, breadth=4, slots=SLOTS, tokenizer=None):
    GROUPS.put(group)
    target = SimpleNamespace(
        model_config=SimpleNamespace(vocab_size=VOCAB, context_len=LIMIT), tokenizer=tokenizer
    )
    args = SimpleNamespace(speculative_num_draft_tokens=slots, speculative_eagle_topk=breadth)
    return worker_class(NGRAMWorker)(args, 0, 0, target)


def traffic(count=12, *, seed=0, **options):
    random = np.random.default_rng(seed)
    phrases = [random.integers(0, 40, 10).tolist() for _ in range(4)]

    def said():
        return [token for at in random.integers(0, 4, 4) for token in phrases[at]][:30]

    return [Request(f"r{at}", said()[:12], [*said(), END], **options) for at in range(count)]


def texts(asked):
    return {request.rid: request.says for request in asked}


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("breadth", [1, 4])
def test_texts_are_what_the_model_says_and_take_fewer_passes(make, overlap, breadth):
    asked = traffic()
    engine = make(overlap=overlap, breadth=breadth)
    assert engine.serve(asked) == texts(asked)
    plain = make(overlap=overlap, drafter="none")
    assert plain.serve(traffic()) == texts(asked)
    assert engine.passes < 0.7 * plain.passes
    sessions = engine.workers[0].drafting.sessions
    assert sessions.report()["error_count"] == 0
    assert len(sessions) == 0
    branched = any(len(set(parents)) < SLOTS for _, _, parents in engine.trees)
    assert branched == (breadth > 1)


def test_the_text_that_is_learned_is_the_text_that_was_said(make):
    """With overlap what stands in `spec_info` comes behind a text once, whatever comes between."""
    asked = traffic(6)
    engine = make()
    seen = {}
    sessions = engine.workers[0].drafting.sessions
    draft = sessions.draft

    def watched(keys, shown, ends, facts):
        for key, text, end in zip(keys, shown, ends, strict=True):
            seen[key] = text[0:end]
        return draft(keys, shown, ends, facts)

    sessions.draft = watched
    assert engine.serve(asked, rows=2) == texts(asked)
    for request in asked:
        whole = request.prompt + request.says
        assert seen[request.rid][: len(whole)] == whole[: len(seen[request.rid])]


def test_grammars_and_free_requests_share_batches(make):
    asked = traffic(8)
    for request in asked[::3]:
        request.grammar = True
    assert make().serve(asked, rows=3) == texts(asked)


def test_retracted_requests_come_back(make):
    asked = traffic(8)
    engine = make()
    said = engine.serve(asked, rows=3, retract=lambda passes: {"r1"} if passes in (4, 5, 9) else ())
    assert said == texts(asked)
    assert len(engine.workers[0].drafting.sessions) == 0


def test_a_prompt_is_read_once(make):
    class Counted(list):
        read = 0

        def __getitem__(self, part):
            Counted.read += len(range(*part.indices(len(self)))) if type(part) is slice else 0
            return super().__getitem__(part)

    (request,) = traffic(1)
    request.origin_input_ids_unpadded = Counted(request.prompt)
    make().serve([request])
    assert Counted.read == len(request.prompt)


def test_private_requests_and_node_limits(make):
    asked = traffic(3)
    for request in asked:
        request.sampling_params.custom_params = {"draftwood": False}
    engine = make()
    engine.serve(asked)
    assert all(tree[1:] == [0] * (SLOTS - 1) for _, tree, _ in engine.trees)
    asked = traffic(6, seed=1)
    for request in asked:
        request.sampling_params.custom_params = {"draftwood_nodes": 2}
    engine = make()
    assert engine.serve(asked) == texts(asked)
    drafted = engine.workers[0].drafting.sessions.report()["drafted"]
    assert 0 < sum(drafted.values()) <= 2 * len(engine.trees)


def test_a_prediction_is_drafted_from(make):
    (request,) = traffic(1)
    request.sampling_params.custom_params = {"draftwood_prediction": request.says}
    engine = make(breadth=1)
    engine.serve([request])
    assert engine.passes <= 8


def test_figures_count_what_of_a_tree_came_true(make):
    asked = traffic()
    engine = make()
    engine.serve(asked)
    report = engine.workers[0].drafting.sessions.report()
    drafted, accepted = sum(report["drafted"].values()), sum(report["accepted"].values())
    assert 0 < accepted < drafted
    came = sum(len(request.says) for request in asked)
    assert accepted <= came


def test_what_fails_costs_drafts_only(make):
    engine = make()
    sessions = engine.workers[0].drafting.sessions
    sessions.draft = lambda *_: 1 / 0
    asked = traffic(3)
    assert engine.serve(asked) == texts(asked)
    assert sessions.figures.errors["rows"] > 0


def test_flushed_caches_end_requests_and_keep_history(make):
    engine = make()
    engine.serve(traffic(4))
    known = engine.workers[0].drafting.sessions.report()["history_tokens"]
    engine.workers[0].clear_cache_pool()
    assert engine.workers[0].drafting.sessions.report()["history_tokens"] == known > 0
    again = traffic(4)
    assert engine.serve(again) == texts(again)


def test_masks_show_ancestors():
    #   0 -> 1 -> 2
    #    \-> 3
    mask = masks_of(np.asarray([[-1, 0, 1, 0]], np.int32))[0]
    assert mask.astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]


class Rank:
    """One of two ranks, which meet in threads."""

    world_size, ranks, cpu_group = 2, (0, 1), "cpu"

    def __init__(self, rank):
        self.rank_in_group = rank


def test_all_ranks_verify_the_first_ones_trees(make, monkeypatch):
    """Only the first rank drafts; the others are told, whatever their clock or their files say."""
    import torch

    sent, here = Queue(), SimpleNamespace(rank=0)

    def broadcast(tensor, src, group):
        assert (src, group) == (0, "cpu")
        if here.rank == 0:
            sent.put(tensor.clone())
        else:
            tensor.copy_(sent.get(timeout=5))

    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    engine = make(cost="auto")
    workers = [worker_of(Rank(0)), worker_of(Rank(1))]
    assert workers[1].drafting is None

    class Ranks(Engine):
        def drafts(self, shown):
            found = []
            for here.rank, worker in enumerate(self.workers):
                found.append(worker._prepare_draft_tokens(shown))
            for mine, first in zip(found[1], found[0], strict=True):
                assert np.array_equal(mine, first)
            return found[0]

    asked = traffic()
    assert Ranks(workers, SLOTS).serve(asked) == texts(asked)
    workers[0].drafting.sessions.close()
    assert engine.passes == 0


def args(**changed):
    given = {
        "speculative_num_draft_tokens": None,
        "speculative_num_steps": None,
        "speculative_ngram_external_corpus_path": None,
        "speculative_ngram_max_bfs_breadth": 10,
        "pp_size": 1,
        "enable_dp_attention": False,
        "page_size": 1,
        "attention_backend": "triton",
        "device": "cuda",
        "max_running_requests": None,
        "disable_overlap_schedule": False,
    }
    return SimpleNamespace(**given | changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"speculative_num_draft_tokens": 1}, "num-draft-tokens is 1; use 2"),
        ({"speculative_ngram_external_corpus_path": "x"}, "external-corpus-path"),
        ({"pp_size": 2}, "--pp-size is 2"),
        ({"enable_dp_attention": True}, "--enable-dp-attention"),
        ({"page_size": 64}, "--page-size is 64"),
    ],
)
def test_what_does_not_go_together_is_refused_at_start(changed, said):
    check(args())
    with pytest.raises(InvalidOption, match=said):
        check(args(**changed))


@pytest.mark.parametrize("text", ["{", '{"pth": "x"}', "[1]"])
def test_options_that_are_none_are_refused_at_start(monkeypatch, text):
    monkeypatch.setenv("DRAFTWOOD_OPTIONS", text)
    with pytest.raises(InvalidOption):
        check(args())


def test_settings_that_were_not_given_are_those_of_ngram():
    given = args(device="cpu")
    algorithm_class(object)().handle_server_args(given)
    assert given.speculative_num_draft_tokens == 16
    assert given.speculative_eagle_topk == 10
    assert given.max_running_requests == 48
    assert given.disable_overlap_schedule
    assert not given.enable_mixed_chunk
