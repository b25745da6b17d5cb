"""Both doors into vLLM keep its contract whatever happens, and draft what was said before."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

import draftwood.vllm
from draftwood.errors import DraftwoodError, InvalidOption, MissingExtra
from draftwood.serving.options import EngineOptions, RequestFacts, RequestOptions
from draftwood.vllm import Proposer
from tests.unit.vllm_engine import (
    END,
    VOCAB,
    Asked,
    Runner,
    ScheduledRunner,
    config,
    fake_modules,
    serve,
)

DOORS = ("ids", "content", "scheduler")


@pytest.fixture
def door(request, monkeypatch):
    """make(**config) -> (the engine, its EngineSessions)."""

    def make(kind=None, nodes=8, limit=96, **options):
        kind = kind or request.param
        options.setdefault("cost", "none")
        if kind == "scheduler":
            for name, module in fake_modules().items():
                monkeypatch.setitem(sys.modules, name, module)
            monkeypatch.delitem(sys.modules, "draftwood.vllm.scheduler", raising=False)
            from draftwood.vllm.scheduler import Scheduler

            engine = ScheduledRunner(Scheduler(config(nodes, limit, **options)), nodes, limit)
            return engine, engine.scheduler.drafting
        made = config(nodes, limit, request_ids=kind == "ids", **options)
        runner = Runner(lambda: Proposer(made), nodes, limit)
        return runner, runner.drafter.drafting

    yield make
    sys.modules.pop("draftwood.vllm.scheduler", None)


both = pytest.mark.parametrize("door", DOORS, indirect=True)


def traffic(count=12, *, length=30, seed=0, **options):
    random = np.random.default_rng(seed)
    phrases = [random.integers(0, 40, 10).tolist() for _ in range(4)]

    def said():
        return [token for at in random.integers(0, 4, 8) for token in phrases[at]][:length]

    return [
        Asked(f"r{at}", random.integers(0, 40, 20 + at % 9).tolist(), [*said(), END], **options)
        for at in range(count)
    ]


def texts(asked):
    return [row.said for row in asked]


@both
def test_texts_are_the_same_in_fewer_passes(door):
    engine, drafting = door()
    asked = traffic()
    passes = serve(engine, asked)
    assert texts(asked) == [row.says for row in asked]
    assert passes < 0.7 * sum(map(len, texts(asked))) / 4
    assert sum(drafting.figures.accepted.values()) > 100
    assert not drafting.figures.errors
    assert not drafting.sessions.failures


@both
def test_rows_that_are_away_and_requests_that_are_aborted(door):
    engine, drafting = door()
    asked = traffic(24, seed=3)
    random = np.random.default_rng(1)
    off = {(step, f"r{at}") for step in range(400) for at in range(24) if random.random() < 0.3}
    serve(engine, asked, away=lambda step, name: (step, name) in off, aborted={"r3", "r9"})
    for at, row in enumerate(asked):
        assert row.said == row.says[: len(row.said)]
        assert at in (3, 9) or row.said == row.says
    assert not drafting.figures.errors
    assert not drafting.sessions.failures


@pytest.mark.parametrize("door", ["ids", "scheduler"], indirect=True)
def test_what_stands_behind_the_end_token_is_not_learned(door):
    engine, drafting = door()
    first = traffic(1)[0]
    # The model would go on behind the end: the runner accepts drafts across it.
    first.says = [3, 4, 5, 6, END, 11, 12, 13, 14, 15]
    for at in range(4):
        again = Asked(f"again{at}", first.prompt, list(first.says))
        serve(engine, [again])
        assert again.said == first.says[:5]
    history = drafting.recall
    with_end = Asked("probe", [1, 2, 5, 6, END], [])
    drafting.draft(
        ["probe"],
        [np.array(with_end.prompt, np.int32)],
        [5],
        lambda key: RequestFacts(prompt=5, end=90),
    )
    drafts = drafting.draft(
        ["probe"],
        [np.array([*with_end.prompt, 11, 12], np.int32)],
        [7],
        lambda key: RequestFacts(prompt=5),
    )
    assert history.written > 0
    assert drafts.lists() == [[]]


@both
def test_near_the_context_limit_others_keep_their_drafts(door):
    engine, drafting = door(limit=64)
    long = Asked("long", [1] * 20, [2, 3] * 60)
    short = [Asked(f"s{at}", [5, 6, 7], [*([8, 9, 10, 11] * 8)[:30], END]) for at in range(6)]
    with_long = serve(engine, [long, *short], rows=2, limit=64)
    assert len(long.text) == 64
    assert texts(short) == [row.says for row in short]
    assert not drafting.figures.errors
    assert with_long < 90


@both
def test_a_drafter_that_fails_costs_drafts_only(door, monkeypatch):
    engine, drafting = door()
    calls = 0

    def fails(*_, **__):
        nonlocal calls
        calls += 1
        raise RuntimeError("no")

    monkeypatch.setattr(drafting.sessions, "step", fails)
    asked = traffic(6)
    serve(engine, asked)
    assert texts(asked) == [row.says for row in asked]
    assert calls
    assert drafting.figures.errors["step"] == calls


@pytest.mark.parametrize("door", ["ids", "scheduler"], indirect=True)
def test_a_runner_that_shows_something_else_costs_drafts_only(door, monkeypatch):
    engine, drafting = door()
    monkeypatch.setattr(drafting, "draft", None)
    asked = traffic(3)
    serve(engine, asked)
    assert texts(asked) == [row.says for row in asked]
    assert drafting.figures.errors["rows"]


def test_only_the_first_rank_opens_anything(tmp_path):
    first = Proposer(config(path=str(tmp_path), rank=0, ranks=2))
    second = Proposer(config(path=str(tmp_path), rank=1, ranks=2))
    assert first.drafting is not None
    assert second.drafting is None
    assert second.propose([[1], []], np.array([3, 4]), np.zeros((2, 8), np.int32)) == [[], []]
    assert [each.name for each in tmp_path.iterdir()] == ["history-0.recall"]
    first.drafting.close()


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_the_scheduler_without_vllm_names_the_extra():
    with pytest.raises(MissingExtra, match=r"draftwood\[vllm\]"):
        _ = draftwood.vllm.Scheduler


def test_the_proposer_leaves_drafting_to_the_scheduler():
    assert Proposer(config(scheduler="draftwood.vllm.Scheduler")).drafting is None
    assert Proposer(config(scheduler="other.Scheduler")).drafting is not None


@pytest.mark.parametrize("door", ["ids", "scheduler"], indirect=True)
def test_a_request_may_ask_for_shorter_drafts_or_none(door):
    engine, drafting = door()
    serve(engine, traffic(6))
    drafted = drafting.figures.drafted
    longest = []
    pass_over = engine.pass_over

    def watched(rows, drafts):
        found = pass_over(rows, drafts)
        longest.append(max(map(len, found.values())))
        return found

    engine.pass_over = watched
    for limit, most in (({"draftwood_nodes": 3}, 3), ({"draftwood": False}, 0)):
        longest.clear()
        before = sum(drafted.values())
        asked = [
            Asked(f"{most} {row.name}", row.prompt, row.says, extra=limit) for row in traffic(6)
        ]
        serve(engine, asked)
        assert max(longest) == most
        assert (sum(drafted.values()) > before) == bool(most)


@pytest.mark.parametrize("door", ["ids", "scheduler"], indirect=True)
def test_namespaces_do_not_see_one_another(door):
    engine, drafting = door(share=4)
    answers = traffic(1)[0]

    def passes(name, namespace):
        extra = None if namespace is None else {"draftwood_namespace": namespace}
        return serve(engine, [Asked(name, answers.prompt, answers.says, extra=extra)])

    fresh = passes("a", "one")
    assert passes("b", "one") < fresh
    assert passes("c", "two") == fresh
    assert passes("d", None) == fresh
    assert passes("e", 7) == fresh  # what is no name is private
    assert passes("f", None) < fresh
    assert drafting.figures.errors == {"request option": 1}
    assert drafting.figures.private_requests == 1


def test_the_salt_is_a_namespace_that_a_client_cannot_leave(door):
    engine, _ = door("scheduler", share=4)
    answers = traffic(1)[0]

    def passes(name, salt, extra=None):
        row = Asked(name, answers.prompt, answers.says, salt=salt, extra=extra)
        return serve(engine, [row])

    fresh = passes("a", "one")
    assert passes("b", "one") < fresh
    assert passes("c", "two") == fresh
    assert passes("d", "three", {"draftwood_namespace": "one"}) == fresh
    assert passes("e", None, {"draftwood_namespace": "one"}) == fresh


@pytest.mark.parametrize("door", ["ids", "scheduler"], indirect=True)
def test_where_a_namespace_is_required_the_others_share_nothing(door):
    engine, drafting = door(share=4, namespace="required")
    answers = traffic(1)[0]
    seen = [serve(engine, [Asked(f"p{at}", answers.prompt, answers.says)]) for at in range(3)]
    assert len(set(seen)) == 1
    assert drafting.recall.written == 0
    named = {"draftwood_namespace": "one"}
    first, second = (
        serve(engine, [Asked(f"n{at}", answers.prompt, answers.says, extra=named)])
        for at in range(2)
    )
    assert second < first
    assert drafting.figures.private_requests == 3


@pytest.mark.parametrize("door", ["ids", "scheduler"], indirect=True)
def test_a_prediction_is_drafted(door):
    engine, drafting = door()
    answers = traffic(1)[0]
    plain = serve(engine, [Asked("a", answers.prompt, answers.says, extra={"draftwood": False})])
    told = {"draftwood_prediction": answers.says}
    fewer = serve(engine, [Asked("b", answers.prompt, answers.says, extra=told)])
    assert fewer < plain / 2
    wrong = {"draftwood_prediction": "text, which an engine without a tokenizer cannot read"}
    serve(engine, [Asked("c", answers.prompt, answers.says, extra=wrong)])
    assert drafting.figures.errors == {"request option": 1}


@pytest.mark.parametrize("door", ["ids", "scheduler"], indirect=True)
def test_the_adapter_is_part_of_the_namespace_where_that_is_asked_for(door):
    engine, _ = door(share=4, lora_namespace=True)
    answers = traffic(1)[0]

    def passes(name, adapter):
        return serve(engine, [Asked(name, answers.prompt, answers.says, adapter=adapter)])

    fresh = passes("a", "one")
    assert passes("b", "one") < fresh
    assert passes("c", "two") == fresh


@both
def test_history_outlives_the_engine(door, tmp_path):
    engine, drafting = door(path=str(tmp_path / "kept"))
    cold = serve(engine, traffic())
    drafting.close()
    again, reopened = door(path=str(tmp_path / "kept"))
    warm = serve(again, traffic())
    reopened.close()
    assert warm < cold
    assert [each.name for each in (tmp_path / "kept").iterdir()] == ["history-0.recall"]


def test_two_engines_write_two_files(tmp_path):
    made = [Proposer(config(path=str(tmp_path))) for _ in range(2)]
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "history-0.recall",
        "history-1.recall",
    ]
    for each in made:
        each.drafting.close()


def test_the_budget_is_on_unless_it_is_switched_off():
    assert Proposer(config()).drafting.spending is not None
    assert Proposer(config(cost="none")).drafting.spending is None
    assert Proposer(config(cost=0.05)).drafting.spending is not None


@pytest.mark.parametrize("door", ["ids", "scheduler"], indirect=True)
def test_passes_are_timed_only_between_steps_of_the_same_rows_without_prompts(door, monkeypatch):
    engine, drafting = door(cost="auto")
    took = []
    step = drafting.sessions.step

    def watched(keys, new, *, room, pass_seconds):
        took.append((list(keys), pass_seconds))
        return step(keys, new, room=room, pass_seconds=pass_seconds)

    monkeypatch.setattr(drafting.sessions, "step", watched)
    serve(engine, traffic(8), rows=3)
    last = []
    for keys, seconds in took:
        assert seconds == 0.0 or keys == last
        last = keys
    assert sum(seconds > 0.0 for _, seconds in took) > 5
    assert took[0][1] == 0.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"drafer": "recall"}, "did you mean 'drafter'"),
        ({"share": "16"}, "share is '16'; use int"),
        ({"share": True}, "share is True"),
        ({"namespace": "always"}, "use 'optional' or 'required'"),
        ({"flush_seconds": 0}, "use 0.1 or more"),
        ([], "use an object of options"),
    ],
)
def test_a_wrong_option_is_one_sentence(given, said):
    with pytest.raises(InvalidOption, match=said):
        EngineOptions.read(given)


@pytest.mark.parametrize(
    "options",
    [
        {"drafter": "nothing"},
        {"drafter": "suffix", "path": "folder"},
        {"cost": "dear"},
        {"path": "a,b"},
        {"max_tokens": 3},
    ],
)
def test_options_that_name_no_drafter_are_refused(options):
    with pytest.raises(DraftwoodError):
        Proposer(config(**options))


def test_another_drafter_serves_as_well(door):
    engine, drafting = door("ids", drafter="suffix")
    asked = traffic()
    passes = serve(engine, asked)
    assert texts(asked) == [row.says for row in asked]
    assert passes < 0.7 * sum(map(len, texts(asked))) / 4
    assert not drafting.figures.errors


@pytest.mark.parametrize("given", [False, 0, "false", "0", "no", 0.0])
def test_forms_of_no(given):
    facts = RequestFacts(prompt=1, extra={"draftwood": given})
    assert not RequestOptions.of(facts, EngineOptions()).drafts


def test_ids_of_drafts_are_of_the_vocabulary(door):
    engine, _ = door("ids")
    row = Asked("a", [1, 2, 3], [VOCAB - 1] * 3)
    serve(engine, [row])
    assert row.said == [VOCAB - 1]
