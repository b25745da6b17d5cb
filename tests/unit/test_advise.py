from __future__ import annotations

import json
import re
import shlex
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
import typer

from draftwood.advise import run as advising
from draftwood.advise.candidates import Candidate
from draftwood.advise.interval import gain_of, units
from draftwood.advise.pricing import PricedBy
from draftwood.advise.run import advise
from draftwood.advise.serving import Server, measured_server
from draftwood.advise.settings import settings_of
from draftwood.advise.words import as_json, candidate_table, verdict_text
from draftwood.budget.cost import CurveCost, LinearCost
from draftwood.budget.curve import CostCurve
from draftwood.budget.roofline import MACHINES, SHAPES, RooflineCost
from draftwood.cli import app as command_line
from draftwood.drafters.catalog import make_priced_drafter
from draftwood.errors import InvalidOption
from draftwood.logs import log as log_module
from draftwood.logs.call import LoggedCall, Record
from draftwood.logs.sample import SessionSample
from draftwood.serving.options import EngineOptions

KEYS = [
    *("verdict", "low", "high", "setting", "engine", "format", "requests", "unread", "cost"),
    *("splits", "candidates"),
]
CHEAP = PricedBy(LinearCost(0.01), "linear", "0.01")


def traffic(count=48, *, repeats=True, length=24):
    """Requests of 12 sessions of two stages; `repair` repeats one text, `new` never does."""
    random = np.random.default_rng(0)
    fixed = random.integers(0, 900, length, dtype=np.int32)
    found = []
    for number in range(count):
        repair = repeats and number % 2
        response = fixed if repair else random.integers(0, 900, length, dtype=np.int32)
        found.append(
            Record(
                np.arange(3, dtype=np.int32),
                response.astype(np.int32),
                f"s{number // 4}",
                number,
                fields={"stage": "repair" if repair else "new", "user": f"u{number % 3}"},
            )
        )
    return found


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "calls.jsonl"
    lines = [
        {"prompt": r.prompt.tolist(), "response": r.response.tolist(), "session": r.session}
        | dict(r.fields)
        for r in traffic()
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def draftwood(monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["draftwood", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            command_line.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def test_an_interval_holds_the_gain_and_is_wider_over_sessions_that_differ():
    plain, unit = np.full(40, 2.0), np.repeat(np.arange(10), 4)
    same = gain_of(plain, np.full(40, 1.0), unit)
    assert (same.low, same.speedup, same.high) == (2.0, 2.0, 2.0)
    drafted = np.where(unit < 5, 0.5, 1.5)
    by_session, by_request = gain_of(plain, drafted, unit), gain_of(plain, drafted, np.arange(40))
    assert by_session.low < by_request.low < 2.0 < by_request.high < by_session.high


def test_few_sessions_are_no_units():
    assert units(traffic(8)).tolist() == list(range(8))
    assert units(traffic(48)).max() == 11


def test_traffic_that_repeats_itself_gains_and_says_where():
    advice = advise(traffic(), CHEAP)
    assert advice.verdict == "gain"
    assert advice.best.gain.low > 1.2
    stages = {row["value"]: row for row in advice.splits if row["by"] == "stage"}
    assert stages["repair"]["speedup"] > 2 > 1.1 > stages["new"]["speedup"]
    assert sum(row["share_of_gain"] for row in stages.values()) == pytest.approx(1.0)
    text = verdict_text(advice)
    assert re.match(r"[\d.]+x to [\d.]+x on your traffic at batch 1 ", text)
    assert "of the gain comes from stage 'repair'" in text
    assert 0.4 < advice.idle < 0.6
    assert {"sharing", "prediction"} <= {row["by"] for row in advice.splits}


def test_a_loss_is_called_one_and_nothing_of_it_is_bold_or_to_be_set():
    candidates = (Candidate("lookup:max_ngram=1", ("draftwood", "vllm")),)
    records = [
        Record(np.zeros(3, np.int32), np.tile([1, 2, 1, 3], 20).astype(np.int32), number=n)
        for n in range(9)
    ]
    advice = advise(records, PricedBy(LinearCost(1.0), "linear", "1"), candidates=candidates)
    assert advice.verdict == "loss"
    assert verdict_text(advice).startswith("Do not draft")
    assert list(settings_of(advice)) == []
    assert "[bold]" not in "".join(map(str, candidate_table(advice).columns[1].cells))
    found = as_json(advice, form="draftwood", unread=0)
    assert (found["verdict"], found["setting"]) == ("loss", "none")
    assert found["high"] < 1


def test_what_neither_gains_nor_loses_is_unclear():
    advice = advise(traffic(repeats=False), CHEAP, candidates=(Candidate("none", ("draftwood",)),))
    assert advice.verdict == "unclear"
    assert verdict_text(advice).startswith("No clear gain")


def test_a_batch_shares_passes_and_all_their_time_is_accounted_for():
    candidates = (Candidate("recall", ("draftwood",)),)
    advice = advise(traffic(), CHEAP, batch=4, candidates=candidates, more=False)
    plain, drafted = advice.best.ledger.times(advice.records)
    figures = advice.best.figures
    assert drafted.sum() == pytest.approx(figures.clock.seconds)
    assert plain.sum() == pytest.approx(figures.plain_seconds)
    assert sum(each.tokens for each in advice.best.ledger.accounts.values()) == figures.stats.tokens


def test_namespaces_and_predictions_of_records_reach_the_drafter():
    rows = advise(traffic(), CHEAP).splits
    apart = next(row for row in rows if row["value"] == "each user alone")
    together = next(row for row in rows if row["value"] == "all users together")
    assert apart["speedup"] < together["speedup"]


def calls_of(sessions, turns=4, length=40, *, together=3):
    """Calls of sessions that begin one after the other, `together` of them at a time."""
    order = sorted(
        ((each // together, turn, each) for each in range(sessions) for turn in range(turns)),
    )
    return [
        LoggedCall("p", f"{each:06}" + "x" * (4 * length - 6), f"s{each}") for _, _, each in order
    ]


def test_a_sample_has_whole_sessions_from_all_parts_of_a_log():
    calls = calls_of(600)
    sample = SessionSample(16_000)
    for each in calls:
        sample.add(each)
    kept = sample.calls()
    assert sample.full
    assert sample.seen == len(calls)
    assert 0.8 * 16_000 <= sum(len(each.response) // 4 for each in kept) <= 16_000
    sessions = Counter(each.session for each in kept)
    assert set(sessions.values()) == {4}
    starts = [int(name[1:]) for name in sessions]
    assert min(starts) < 150 < 450 < max(starts)
    assert sample.stretches >= 8
    neighbors = sum(each + 1 in set(starts) for each in starts)
    assert neighbors >= len(starts) / 2  # what neighbors share is in the sample
    assert [calls.index(each) for each in kept] == sorted(calls.index(each) for each in kept)


def test_every_part_of_a_log_has_the_same_chance():
    counts = Counter()
    for rounds in range(12):  # logs of other lengths choose other parts
        sample = SessionSample(6_000)
        calls = calls_of(240 + 24 * rounds)
        for each in calls:
            sample.add(each)
        for each in sample.calls():
            counts[4 * int(each.session[1:]) // (240 + 24 * rounds)] += 1
    assert min(counts.values()) > sum(counts.values()) / 10
    assert set(counts) == {0, 1, 2, 3}


def test_a_log_that_fits_is_kept_whole_and_of_one_long_session_the_first_calls():
    whole, long = SessionSample(10_000), SessionSample(1_000)
    calls = calls_of(10)
    for each in calls:
        whole.add(each)
    assert whole.calls() == calls
    assert not whole.full
    for each in calls_of(1, turns=100):
        long.add(each)
    assert len(long.calls()) == 25


def test_a_sample_forgets_neither_answers_without_text_nor_ids():
    sample = SessionSample(100)
    tool = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    for answer in ("", np.empty(0, np.int32), tool, np.arange(3, dtype=np.int32)):
        sample.add(LoggedCall("p", answer))
    assert [each.response is tool for each in sample.calls()] == [True, False]
    assert not sample.full  # one without an answer could not be served anyway


def interrupted_after(calls, monkeypatch):
    """Ctrl-C comes while a log's entries are read."""
    entries = log_module.Log._entries

    def stopping(self, path):
        for number, entry in enumerate(entries(self, path)):
            if number == calls:
                raise KeyboardInterrupt
            yield entry

    monkeypatch.setattr(log_module.Log, "_entries", stopping)


def test_ctrl_c_while_a_log_is_read_gives_the_advice_of_what_was_read(draftwood, log, monkeypatch):
    interrupted_after(30, monkeypatch)
    code, out, err = draftwood("advise", log, "--cost", 0.01, "--json", "--quick")
    assert code == 130
    assert json.loads(out)["requests"] == 30
    assert "interrupted while reading" in err
    interrupted_after(0, monkeypatch)
    assert draftwood("advise", log, "--cost", 0.01)[0] != 0


def test_text_without_a_tokenizer_is_refused_at_the_first_call(draftwood, tmp_path, monkeypatch):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n' * 9_000)
    read = []
    entries = log_module.Log._entries
    monkeypatch.setattr(
        log_module.Log,
        "_entries",
        lambda self, path: (read.append(each) or each for each in entries(self, path)),
    )
    code, _, err = draftwood("advise", path)
    assert code == 2
    assert "pass --tokenizer" in err
    assert len(read) < 9_000


def test_ctrl_c_leaves_what_was_finished(monkeypatch):
    real, seen = advising.replay, []

    def interrupted(*arguments, **options):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(advising, "replay", interrupted)
    assert len(advise(traffic(), CHEAP).tried) == 2
    seen[:] = [1, 1]
    with pytest.raises(KeyboardInterrupt):
        advise(traffic(), CHEAP)


def test_the_best_for_each_engine_is_one_that_it_can_run():
    advice = advise(traffic(), CHEAP, more=False)
    assert "mode=chain" in advice.best_for("vllm").candidate.spec
    texts = {each.engine: each.text for each in settings_of(advice)}
    assert '"method": "suffix"' in texts["vllm-suffix"]
    assert "draftwood.vllm.Proposer" in texts["vllm"]
    told = json.loads(re.search(r"--additional-config '(.*)'", texts["vllm"])[1])
    EngineOptions(**told["draftwood"])
    options, *_ = shlex.split(texts["sglang"])
    EngineOptions(**json.loads(options.removeprefix("DRAFTWOOD_OPTIONS=")))


def test_the_setting_for_the_server_is_one_that_it_takes():
    advice = advise(traffic(), CHEAP, more=False)
    (text,) = (each.text for each in settings_of(advice) if each.title == "Draftwood's server")
    words = shlex.split(text)
    assert words[:2] == ["draftwood", "serve"]
    command = typer.main.get_command(command_line.app).commands["serve"]
    given = command.make_context("serve", words[2:]).params
    assert given["drafter"].partition(":")[0] == advice.best.candidate.spec.partition(":")[0]
    make_priced_drafter(given["drafter"], cost=given["cost"])


def test_the_command_prints_one_object_with_just_these_keys(draftwood, log):
    code, out, err = draftwood("advise", log, "--cost", 0.01, "--json", "--quick")
    found = json.loads(out)
    assert (code, err, list(found)) == (0, "", KEYS)
    assert (found["format"], found["requests"], found["unread"]) == ("draftwood", 48, 0)
    assert found["low"] <= found["candidates"][0]["speedup"] <= found["high"]
    assert found["cost"]["steps"][0] == [0, 1.0]
    assert found["cost"]["steps"][1][1] == pytest.approx(1.04)


def test_without_a_cost_one_is_assumed_and_said_to_be(draftwood, log):
    _, out, _ = draftwood("advise", log, "--json", "--quick")
    assert json.loads(out)["cost"]["assumed"] is True
    _, out, _ = draftwood("advise", log, "--quick")
    assert "a roofline estimate, assumed" in out.replace("\n", " ")


def test_the_report_asks_nothing_of_a_network(draftwood, log, tmp_path):
    page, picture = tmp_path / "report.html", tmp_path / "out.svg"
    code, out, _ = draftwood(
        *("advise", log, "--cost", 0.01, "--quick", "--html", page, "--plot", picture)
    )
    text = page.read_text()
    assert code == 0
    assert out.splitlines()[0][:20] in text
    assert not re.search(r"(src|href)=|url\(|@import|https?:", text)
    assert "<svg" in text
    assert "batch 1, 1,152 output tokens, 48 requests" in picture.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cost", "0.1", "--preset", "h100:8b"], "exclude each other"),
        (["--preset", "h100:9b"], "machines: b200"),
        (["--preset", "h100:70b"], "do not fit"),
        (["--cost", "-1"], "--cost is -1.0"),
        (["--batch", "0"], "--batch is 0"),
        (["--limit-tokens", "0"], "--limit-tokens is 0"),
        (["--drafter", "nope"], "nope"),
        (["--html", "nowhere/report.html"], "cannot write nowhere/report.html"),
        (["--plot", "nowhere/out.svg"], "cannot draw to"),
        (["--format", "nope"], "use one of draftwood"),
    ],
)
def test_wrong_options_are_refused_before_the_log_is_read(draftwood, tmp_path, options, said):
    code, out, err = draftwood("advise", tmp_path / "not-there.jsonl", *options)
    assert (code, out) == (2, "")
    assert said in err
    assert "not-there" not in err


def test_a_roofline_grows_with_rows_batch_and_context():
    cost = RooflineCost.preset("h100:8b")
    assert 5e-3 < cost.seconds(0) < 12e-3
    assert cost.seconds(64) < 1.05 * cost.seconds(0)  # memory-bound: the weights are read once
    assert cost.seconds(2000) > 2 * cost.seconds(0)
    assert cost.seconds(0, batch=64) > cost.seconds(0)
    assert cost.seconds(0, context=100_000) > cost.seconds(0)
    assert RooflineCost.preset("2xh100:8b").seconds(0) < cost.seconds(0)
    assert RooflineCost.preset("h100:8b-fp8").seconds(0) < cost.seconds(0)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_has_presets(machine):
    assert RooflineCost.preset(f"8x{machine}:8b").seconds(0) > 0
    assert all(RooflineCost.preset(f"8x{machine}:{size}").seconds(8) > 0 for size in SHAPES)


def test_a_curve_file_is_read_back(tmp_path):
    curve = CostCurve({1: [(0, 0.01), (8, 0.012)], 4: [(0, 0.02), (32, 0.03)]}, 0.05)
    (tmp_path / "curve.json").write_text(curve.as_json())
    cost = CurveCost.read(tmp_path / "curve.json")
    assert cost.seconds(8) == 0.012
    assert cost.seconds(32, batch=4) == 0.03
    assert "1.20 times as long; repeats varied by 5%" in curve.summary()


class Completions(BaseHTTPRequestHandler):
    """A server whose passes take a time of their own for every word and token."""

    asked: ClassVar[list[dict]] = []

    def do_GET(self):
        self.answer({"data": [{"id": "m"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        self.answer({"choices": [{"text": "x"}]})

    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def test_a_server_is_asked_for_prompts_that_differ_by_the_drafted_tokens():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Completions)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        curve = measured_server(Server(url), batches=(1, 2), drafted=(0, 4), context=10, repeats=2)
    finally:
        server.shutdown()
        server.server_close()
    words = {len(each["prompt"].split()) for each in Completions.asked}
    assert words == {11, 15}
    assert {each["max_tokens"] for each in Completions.asked} == {1, 17}
    assert {each["model"] for each in Completions.asked} == {"m"}
    assert set(curve.batches) == {1, 2}
    assert [n for n, _ in curve.batches[2]] == [0, 8]
    assert curve.about["how"].startswith("estimated")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "0 of --model, --openai and --vllm are given"),
        (["--model", "demo", "--openai", "x"], "2 of --model"),
        (["--model", "demo", "--batches", "x"], "--batches is 'x'"),
        (["--model", "demo", "--batches", "0"], "use 1 or more"),
        (["--model", "demo", "--drafted", "4"], "measure 0 as well"),
        (["--openai", "localhost"], "give a URL"),
        (["--openai", "http://127.0.0.1:9/v1"], "gives no answer"),
    ],
)
def test_what_cannot_be_measured_is_refused(draftwood, tmp_path, options, said):
    code, _, err = draftwood("measure", "-o", tmp_path / "curve.json", *options)
    assert code == 2
    assert said in err


def test_a_server_that_is_no_server_is_named():
    with pytest.raises(InvalidOption, match="gives no answer"):
        Server("http://127.0.0.1:9/v1")
