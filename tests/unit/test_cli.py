from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from draftwood.cli import app as command_line
from draftwood.index.fingerprint import vocab_fingerprint
from draftwood.index.history_writer import HistoryWriter
from draftwood.replay import run

COMMANDS = [
    *([], ["demo"], ["generate"], ["replay"], ["advise"], ["measure"], ["drafters"], ["index"]),
    *(["index", name] for name in ("build", "info", "merge", "export")),
]
MAIN = "from draftwood.cli.app import main; main()"


@pytest.fixture
def draftwood(monkeypatch, capsys):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["draftwood", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            command_line.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def trace(tmp_path):
    """Two records of token ids."""
    path = tmp_path / "two.jsonl"
    records = [([1, 2, 3, 1, 2], [3, 1, 2, 3]), ([4], [5, 6])]
    lines = [json.dumps({"prompt": p, "response": r}) for p, r in records]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_help_lists_the_commands_and_loads_no_backend():
    code = (
        f"import sys\nsys.argv = ['draftwood', '--help']\ntry:\n    {MAIN}\nfinally:\n"
        "    print(sorted({'torch', 'transformers', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"demo", "generate", "replay"} <= set(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_runs_as_a_module(trace):
    command = [sys.executable, "-m", "draftwood", "replay", trace, "--drafter", "none", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["drafter"] == "none"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_a_short_and_a_long_option_for_help(draftwood, command):
    short, long = (draftwood(*command, option) for option in ("-h", "--help"))
    assert short == long
    assert short[0] == 0
    assert "Usage:" in short[1]


def test_replay_refuses_a_history_of_another_tokenizer(draftwood, trace, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    vocab = {"?": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="?")).save(
        str(tmp_path / "tokenizer.json")
    )
    code = {}
    for name, words in {"same": vocab, "other": vocab | {"a": 2, "b": 1}}.items():
        with HistoryWriter(tmp_path / name, fingerprint=vocab_fingerprint(words)) as out:
            out.add([1, 2, 3])
        code[name], out, err = draftwood(
            *("replay", trace, "--drafter", f"suffix:history={tmp_path / name}", "--json"),
            *("--tokenizer", tmp_path / "tokenizer.json"),
        )
        assert bool(out) == (name == "same")
        assert ("use a history of this model's tokenizer" in err) == (name == "other")
    assert code == {"same": 0, "other": 2}


def test_replay_prints_one_json_object_for_each_trace_and_drafter(draftwood, trace):
    code, out, err = draftwood(
        "replay", trace, "--drafter", "lookup", "--drafter", "none", "--json"
    )
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [(row["trace"], row["drafter"]) for row in rows] == [("two", "lookup"), ("two", "none")]
    assert {
        *("trace", "drafter", "tokens", "steps", "tokens_per_step", "drafted_per_step"),
        *("acceptance_rate", "accepted_by_position", "draft_us_p50", "draft_us_p99"),
        "observe_us_per_token",
    } <= rows[0].keys()
    assert (rows[0]["tokens"], rows[0]["steps"]) == (6, 3)
    assert (rows[1]["tokens"], rows[1]["steps"]) == (6, 6)


def test_replay_prints_a_table(draftwood, trace):
    code, out, _ = draftwood("replay", trace, "--drafter", "lookup:max_ngram=2")
    assert code == 0
    assert "lookup:max_ngram=2" in out
    assert "2.00" in out


def test_replay_limits_and_interleaves(draftwood, trace):
    _, out, _ = draftwood(
        *("replay", trace, "--drafter", "none", "--limit-tokens", 5, "--interleave", 2, "--json")
    )
    assert json.loads(out)["tokens"] == 5


def test_replay_predicts_the_speed_up_at_a_cost(draftwood, trace):
    specs = ("--drafter", "lookup", "--drafter", "lookup:cost=auto", "--drafter", "none")
    code, out, err = draftwood("replay", trace, *specs, "--cost", 2, "--json")
    drafts, spends, plain = map(json.loads, out.splitlines())
    assert (code, err) == (0, "")
    assert drafts["predicted_speedup"] < 1.0  # a drafted token takes as long as two steps
    assert drafts["predicted_speedup"] == pytest.approx(
        drafts["tokens"] / (drafts["steps"] + 2 * drafts["drafted_per_step"] * drafts["steps"])
    )
    assert spends["drafted_per_step"] < drafts["drafted_per_step"]
    assert plain["predicted_speedup"] == 1.0


def test_replay_prices_by_a_measured_curve_and_by_batch(draftwood, trace, tmp_path):
    curve = tmp_path / "curve.json"
    curve.write_text('{"batches": {"1": [[0, 5], [9, 5]], "2": [[0, 6], [9, 6]]}}')
    for batch in (1, 2):
        code, out, _ = draftwood(
            *("replay", trace, "--drafter", "lookup", "--cost-curve", curve),
            *("--batch", batch, "--json"),
        )
        row = json.loads(out)
        assert code == 0
        assert row["predicted_speedup"] >= row["tokens"] / row["steps"] / batch
        assert row["tokens"] == 6


def test_the_table_has_room_for_the_prediction_only_where_there_is_one(draftwood, trace):
    assert "predicted" in draftwood("replay", trace, "--drafter", "none", "--cost", 0.1)[1]
    assert "predicted" not in draftwood("replay", trace, "--drafter", "none")[1]


def test_replay_draws_the_prediction(draftwood, trace, tmp_path):
    picture = tmp_path / "out.svg"
    code, _, _ = draftwood("replay", trace, "--drafter", "none", "--cost", 0.1, "--plot", picture)
    assert code == 0
    assert "predicted speed-up (1 = plain decoding)" in picture.read_text()


def test_a_bad_line_costs_that_line_and_the_exit_code(draftwood, trace):
    with trace.open("a") as file:
        file.write('\n{"prompt": [1]\n')
    code, out, err = draftwood("replay", trace, "--drafter", "none", "--json")
    assert code == 2
    assert json.loads(out)["tokens"] == 6
    assert err.startswith(f"draftwood: {trace}:3: not JSON")
    assert err.count("\n") == 1


def test_an_unreadable_trace_does_not_cost_the_others(draftwood, trace, tmp_path):
    code, out, err = draftwood(
        "replay", tmp_path / "nowhere.jsonl", trace, "--drafter", "none", "--json"
    )
    assert code == 2
    assert json.loads(out)["trace"] == "two"
    assert "cannot read" in err


def test_a_trace_without_any_record_is_said_to_be_empty(draftwood, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    code, out, err = draftwood("replay", tmp_path / "empty.jsonl", "--drafter", "none")
    assert (code, out) == (2, "")
    assert "holds no record" in err


def test_replay_draws(draftwood, trace, tmp_path):
    code, _, _ = draftwood("replay", trace, "--drafter", "none", "--plot", tmp_path / "out.svg")
    assert code == 0
    assert "tokens per step" in (tmp_path / "out.svg").read_text()


def test_ctrl_c_shows_the_traces_that_are_done(draftwood, trace, monkeypatch):
    real = run.replay_trace

    def interrupted(of, *arguments, **options):
        if of.paths == [trace]:
            return real(of, *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "replay_trace", interrupted)
    others = ("second.jsonl", "third.jsonl")
    code, out, err = draftwood("replay", trace, *others, "--drafter", "none")
    assert code == 130
    assert "two" in out
    assert err == "draftwood: interrupted after 1 of 3 traces\n"


def shell(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`draftwood ARGUMENTS` in the place of $0 of a shell command."""
    line = shlex.join([sys.executable, "-c", MAIN, *map(str, arguments)])
    return subprocess.run(
        ["bash", "-c", command.replace("draftwood", line)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("form", [["--json"], []], ids=["json", "table"])
def test_a_full_disk_after_stdout_is_one_line(trace, form):
    done = shell("draftwood > /dev/full", "replay", trace, "--drafter", "none", *form)
    assert done.returncode == 2
    assert done.stderr == "draftwood: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("form", [["--json"], []], ids=["json", "table"])
def test_a_closed_stdout_ends_quietly(trace, form):
    done = shell("draftwood >&-", "replay", trace, "--drafter", "none", *form)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_ends_it_quietly(trace):
    command = "(sleep 0.2; draftwood; echo $? >&2) | true"
    done = shell(command, "replay", *[trace] * 3, "--drafter", "none", "--json")
    assert done.stderr == "1\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "x.jsonl", "--plot", "nowhere/out.svg"], "cannot draw to nowhere/out.svg: No"),
        (["replay", "x.jsonl", "--plot", "out.docx"], ".docx is no picture format"),
        (["demo", "--plot", "nowhere/out.svg"], "cannot draw to nowhere/out.svg: No"),
        (["replay", "x.jsonl", "--drafter", "sufix"], "did you mean 'suffix'?"),
        (["replay", "x.jsonl", "--drafter", "lookup:nodes=many"], "is not a whole number"),
        (["replay", "x.jsonl", "--drafter", "lookup:nodes=-1"], "ask for at least 1"),
        (["replay", "x.jsonl", "--drafter", "none", "--tokenizer", "nowhere"], "no tokenizer at"),
        (["replay", "x.jsonl", "--drafter", "none", "--interleave", "0"], "at least 1 request"),
        (["replay", "x.jsonl", "--drafter", "none:cost=auto"], "give --cost with a part of a step"),
        (["replay", "x.jsonl", "--drafter", "none:cost=free"], "cost=free"),
        (["replay", "x.jsonl", "--cost", "-1"], "--cost is -1.0; use 0 or more"),
        (["replay", "x.jsonl", "--cost", "1", "--cost-curve", "c"], "exclude each other"),
        (["replay", "x.jsonl", "--cost-curve", "nowhere"], "cannot be read"),
        (["replay", "x.jsonl", "--batch", "0"], "batch is 0"),
        (["replay", "x.jsonl", "--batch", "2", "--interleave", "2"], "give one of them"),
        (["generate", "--model", "m"], "give either --prompt or --prompt-file"),
        (["generate", "--model", "m", "--prompt-file", "nowhere"], "No such file"),
        (["generate", "--model", "m", "--prompt", "p", "--stream", "--json"], "exclude each other"),
        (["demo", "--requests", "0"], "--requests is 0; give at least 1"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(draftwood, arguments, said):
    code, out, err = draftwood(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("draftwood: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize("arguments", [["replay"], ["replay", "x", "--nope"], ["frobnicate"], []])
def test_wrong_usage_exits_with_2(draftwood, arguments):
    assert draftwood(*arguments)[0] == 2


def test_drafters_are_listed_with_their_options_and_defaults(draftwood):
    code, out, _ = draftwood("drafters")
    assert code == 0
    assert "recall\n" in out
    assert "max_ngram=3" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = draftwood("drafters", "--json")
    found = json.loads(out)
    assert found["chain"]["options"]["model"] == "..."
    assert all(each["about"].endswith((".", ":")) for each in found.values())
    code, out, err = draftwood("drafters", "nope")
    assert (code, "choose from recall" in err) == (2, True)


def test_the_table_keeps_its_names_in_a_narrow_terminal(trace):
    from rich.console import Console

    from draftwood.replay.report import replay_table

    row = {"trace": "agents", "drafter": "recall:cost=auto", "tokens": 1, "steps": 1}
    row |= {"tokens_per_step": 1.5, "drafted_per_step": 2, "acceptance_rate": 0.1}
    row |= {"accepted_by_position": [1], "draft_us_p50": 1, "draft_us_p99": 2}
    row |= {"observe_us_per_token": 1, "predicted_speedup": 1.2}
    for width in (60, 80, 120):
        console = Console(width=width)
        with console.capture() as shown:
            console.print(replay_table([row], width=width))
        text = shown.get()
        assert "agents" in text
        assert "recall" in text
        assert "…" not in text


def test_a_terminal_without_unicode_shows_the_table(trace):
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "replay", trace, "--drafter", "none"],
        capture_output=True,
        check=False,
        env={"PATH": "", "PYTHONIOENCODING": "ascii", "COLUMNS": "160"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"tokens" in done.stdout


def test_completion_is_offered(draftwood):
    assert "--install-completion" in draftwood("--help")[1]
