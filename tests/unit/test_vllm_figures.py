"""What an engine publishes: a report, a log line, metrics and a route."""

import asyncio
import json
import logging
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from draftwood.serving import housekeeping
from draftwood.serving.housekeeping import Housekeeping, read_figures
from draftwood.vllm import Proposer
from tests.unit.vllm_engine import Asked, Runner, config, serve


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(housekeeping.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def served(**options):
    """The `EngineSessions` of an engine that has served the same request four times."""
    made = config(cost=0.01, **options)
    runner = Runner(lambda: Proposer(made))
    for at in range(4):
        serve(runner, [Asked(f"r{at}", [1, 2, 3], [10, 11, 12, 13, 14, 15, 16, 17, 18, 49])])
    return runner.drafter.drafting


def test_a_report_says_what_was_drafted_by_whom_and_what_came_true():
    report = served(share=4).report()
    json.dumps(report)
    assert report["requests"] == 4
    assert report["tokens"] == 40
    assert report["rows"] == report["steps"] < 40
    drafted, accepted = report["drafted"], report["accepted"]
    assert set(drafted) <= {"recall: own text", "recall: shared history"}
    assert 0 < accepted["recall: shared history"] <= drafted["recall: shared history"]
    assert report["tokens"] == report["rows"] + sum(accepted.values())
    assert report["history_tokens"] >= 10
    assert report["errors"] == {}
    assert report["budget"]["1"]["drafting"] is True


def test_figures_are_published_logged_and_removed_with_the_engine(caplog):
    caplog.set_level(logging.INFO, "vllm.draftwood")
    sessions = served(log_seconds=1e-9, flush_seconds=60)
    keeper = Housekeeping(sessions, "one", 3)
    keeper.tidy()
    assert read_figures("one")["3"]["requests"] == 4
    assert read_figures("other") == {}
    assert "Draftwood: " in caplog.text
    assert "tokens per row and step" in caplog.text
    caplog.clear()
    keeper.tidy()  # nothing happened since
    assert caplog.text == ""
    keeper.stop()
    keeper.stop()
    assert read_figures("one") == {}


def test_sessions_that_the_engine_has_closed_are_left_alone(tmp_path):
    sessions = served(path=str(tmp_path / "kept"))
    keeper = Housekeeping(sessions, "one")
    sessions.close()
    keeper.tidy()
    assert read_figures("one") == {}
    assert not sessions.figures.errors
    keeper.stop()


def test_a_folder_of_somebody_else_is_not_written(folder):
    sessions = served()
    housekeeping.figures_folder().mkdir()
    housekeeping.figures_folder().chmod(0o777)
    keeper = Housekeeping(sessions, "one")
    with pytest.raises(OSError, match="not this user's alone"):
        keeper.tidy()
    assert read_figures("one") == {}
    keeper.stop()


def test_figures_of_an_engine_that_was_killed_go_in_time():
    keeper = Housekeeping(served(), "one")
    keeper.tidy()
    killed = housekeeping.figures_folder() / "killed-0.json"
    killed.write_text("{}")
    os.utime(killed, (1, 1))
    keeper.tidy()
    assert not killed.exists()
    assert read_figures("one")
    keeper.stop()


def test_a_file_that_is_not_whole_is_left_out(folder):
    sessions = served()
    keeper = Housekeeping(sessions, "one")
    keeper.tidy()
    (housekeeping.figures_folder() / "one-7.json").write_text('{"requ')
    assert list(read_figures("one")) == ["0"]
    keeper.stop()


def test_housekeeping_that_fails_is_counted(monkeypatch):
    sessions = served(flush_seconds=0.1)
    keeper = Housekeeping(sessions, "one")
    monkeypatch.setattr(keeper, "tidy", lambda: 1 / 0)
    for _ in range(100):
        if sessions.figures.errors["housekeeping"]:
            break
        keeper._stopped.wait(0.05)
    assert sessions.figures.errors["housekeeping"]
    keeper.stop()


@pytest.fixture
def metrics(monkeypatch):
    pytest.importorskip("prometheus_client", reason="prometheus-client comes with vLLM")
    for name in ("vllm", "vllm.v1", "vllm.v1.metrics", "vllm.v1.metrics.loggers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["vllm.v1.metrics.loggers"].StatLoggerBase = object
    monkeypatch.delitem(sys.modules, "draftwood.vllm.metrics", raising=False)
    from draftwood.vllm import metrics

    yield metrics
    sys.modules.pop("draftwood.vllm.metrics", None)


def test_metrics_have_the_figures_under_conventional_names(metrics):
    from prometheus_client import CollectorRegistry, generate_latest

    keeper = Housekeeping(served(), "one")
    keeper.tidy()
    registry = CollectorRegistry()
    registry.register(metrics.DraftwoodCollector("one"))
    text = generate_latest(registry).decode()
    assert 'draftwood_requests_total{engine="0"} 4.0' in text
    assert 'draftwood_accepted_tokens_total{engine="0",source="recall: shared history"}' in text
    assert 'draftwood_drafting{batch="1",engine="0"} 1.0' in text
    assert "# TYPE draftwood_draft_seconds_total counter" in text
    keeper.stop()
    assert 'engine="0"' not in generate_latest(registry).decode()


def test_a_logger_registers_an_instance_once(metrics, monkeypatch):
    seen = []
    monkeypatch.setattr(metrics, "REGISTRY", SimpleNamespace(register=seen.append))
    for rank in (0, 1):
        logger = metrics.StatLogger(SimpleNamespace(instance_id="one"), rank)
        logger.record(None, None)
        logger.log_engine_initialized()
    assert [each.instance for each in seen] == ["one"]


def test_the_route_gives_the_figures_as_json():
    fastapi = pytest.importorskip("fastapi", reason="FastAPI comes with vLLM")
    from draftwood.vllm.endpoint import DraftwoodRoute

    keeper = Housekeeping(served(), "one")
    keeper.tidy()
    app, plugin = fastapi.FastAPI(), DraftwoodRoute()
    plugin.attach_router(app)
    route = next(each for each in app.routes if each.path == "/draftwood")
    assert route.methods == {"GET"}
    assert route.endpoint() == {"engines": {}}
    engine = SimpleNamespace(vllm_config=SimpleNamespace(instance_id="one"))
    state = app.state
    asyncio.run(plugin.init_state(None, state, None))
    assert route.endpoint() == {"engines": {}}
    asyncio.run(plugin.init_state(engine, state, None))
    assert route.endpoint()["engines"]["0"]["requests"] == 4
    keeper.stop()
