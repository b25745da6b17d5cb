"""Every log format: its example in the docs, its sample file, and forms that differ."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

from draftwood.demo.model import target_path
from draftwood.errors import InvalidOption, TraceError
from draftwood.logs.formats.catalog import FORMATS
from draftwood.logs.log import Log, logs_of
from draftwood.logs.tokenizer import TraceTokenizer

REPO = Path(__file__).resolve().parents[2]
SAMPLES = REPO / "tests" / "logs"
PAGE = (REPO / "docs" / "log-formats.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## `([\w-]+)`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
NAMES = [each.name for each in FORMATS]
CALLS = {
    "alpaca": 2,
    "anthropic": 2,
    "chatgpt": 2,
    "draftwood": 3,
    "events": 2,
    "helicone": 2,
    "langfuse": 2,
    "langsmith": 2,
    "litellm": 2,
    "message-rows": 4,
    "openai-batch": 3,
    "openai-chat": 5,
    "openai-messages": 3,
    "openai-responses": 2,
    "openinference": 2,
    "otel": 3,
    "pairs": 4,
    "requests": 2,
    "sharegpt": 3,
    "transcripts": 3,
    "vllm": 2,
}
USER = [{"role": "user", "content": "Hi"}]
HELLO = {"role": "assistant", "content": "Hello"}


class Characters:
    """A backend whose tokens are characters: ids are easily read back."""

    def get_vocab(self):
        return {chr(i): i for i in range(0x3000)}

    def get_vocab_size(self):
        return 0x3000

    def encode_batch_fast(self, input, *, add_special_tokens):
        return [type("Encoded", (), {"ids": [ord(c) for c in text]}) for text in input]


def tokenizer(**options):
    return TraceTokenizer(Characters(), **options)


def text(ids):
    return "".join(map(chr, ids.tolist()))


def write(path: Path, *entries: object) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in entries), encoding="utf-8")
    return path


def told(path: Path, **options) -> list[tuple[str, str, str | None]]:
    log = Log(path, tokenizer(), **options)
    found = [(text(r.prompt), text(r.response), r.session) for r in log]
    assert log.unread.lines() == []
    return found


def last_user(prompt: str) -> str:
    return re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", prompt, re.DOTALL)[-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_each_format_in_the_docs_reads(tmp_path, name):
    example = re.search(r"^```(?:json|text)\n(.*?)^```$", SECTIONS[name], re.DOTALL | re.MULTILINE)
    path = tmp_path / "log"
    path.write_text(example[1], encoding="utf-8")
    log = Log(path, tokenizer())
    assert [record for record in log if not len(record.response)] == []
    assert (log.unread.lines(), set(log.formats)) == ([], {name})
    assert log.requests >= 1


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_of_the_sample_file_reads(name):
    log = Log(sorted(SAMPLES.glob(f"{name}*")), tokenizer())
    assert len(list(log)) == CALLS[name]
    assert (log.unread.lines(), set(log.formats)) == ([], {name})


def test_samples_mixed_in_one_folder_read_too():
    log = Log(SAMPLES, TraceTokenizer.load(target_path()))
    # 2 rows of the table; two conversations go on with what stands alone in another file
    assert len(list(log)) == sum(CALLS.values()) + 2 - 2
    assert log.unread.total == 0


def test_every_format_reads_by_its_name_as_well():
    for name in NAMES:
        assert (
            len(list(Log(sorted(SAMPLES.glob(f"{name}*")), tokenizer(), format=name)))
            == CALLS[name]
        )
    with pytest.raises(InvalidOption, match="use one of draftwood, "):
        Log(SAMPLES, format="nope")


def test_tool_calls_are_part_of_prompt_and_response():
    records = list(Log(SAMPLES / "openai-chat.jsonl", tokenizer()))
    assert '"name": "run_sql"' in text(records[0].response)
    assert '"name": "run_sql"' in text(records[1].prompt)
    assert text(records[1].response) == "42 orders are open.<|im_end|>"


def test_streams_are_put_together(tmp_path):
    chunks = [{"choices": [{"delta": {"content": part}}]} for part in ("Hel", "lo")]
    sse = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
    blocks = [
        {"type": "message_start", "message": {"role": "assistant", "content": []}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hello"},
        },
    ]
    found = told(
        write(
            tmp_path / "s.jsonl",
            *({"request": {"messages": USER}, "response": each} for each in (chunks, sse, blocks)),
        )
    )
    assert [answer for _, answer, _ in found] == ["Hello<|im_end|>"] * 3


@pytest.mark.parametrize(
    "entry",
    [
        {"input": {"messages": USER}, "output": HELLO},
        {"inputs": USER, "outputs": {"choices": [{"message": HELLO}]}},
        {"request_body": json.dumps({"messages": USER}), "response_body": json.dumps(HELLO)},
        {"body": {"messages": USER}, "response": {"body": {"choices": [{"message": HELLO}]}}},
        {"messages": USER, "message": HELLO},
        {"kwargs": {"messages": USER}, "output": {"generations": [[{"text": "Hello"}]]}},
        {"messages": USER, "answer": "Hello"},
        {"conversation": [{"role": "user", "content": "Hi"}, HELLO]},
        {"conversations": [{"from": "user", "value": "Hi"}, {"from": "chatgpt", "value": "Hello"}]},
        {"items": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"data": [{"messages": USER, "completion": "Hello"}]},
        {"object": "response", "input": USER, "output": [{"type": "message", **HELLO}]},
        {"type": "GENERATION", "trace_id": "t", "input": USER, "output": "Hello"},
        {"standard_logging_object": {"call_type": "x", "messages": USER, "response": HELLO}},
        {"messages": [{"type": "human", "data": {"content": "Hi"}}], "response": "Hello"},
    ],
)
def test_forms_that_mean_the_same(tmp_path, entry):
    ((prompt, response, _),) = told(write(tmp_path / "l.jsonl", entry))
    assert last_user(prompt) == "Hi"
    assert response == "Hello<|im_end|>"


@pytest.mark.parametrize(
    "entry",
    [
        {"Prompt": "Hi", "Completion": "Hello"},
        {"question": "Hi", "answer": "Hello"},
        {"input_text": "Hi", "output_text": "Hello"},
        {"prompt": "Hi", "choices": [{"text": "Hello"}]},
        {"prompt": "Hi", "response": {"choices": [{"text": "Hello"}]}},
        {"query": "Hi", "response": "Hello"},
    ],
)
def test_texts_without_messages_stay_as_they_are(tmp_path, entry):
    ((prompt, response, _),) = told(write(tmp_path / "l.jsonl", entry))
    assert "Hi" in prompt
    assert response.startswith("Hello")


def test_several_answers_are_several_calls(tmp_path):
    entry = {"messages": USER, "choices": [{"message": HELLO}] * 3}
    assert len(told(write(tmp_path / "l.jsonl", entry))) == 3


def test_conversations_that_grow_are_counted_once_and_are_one_session(tmp_path):
    turn = [
        USER[0],
        HELLO,
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "So"},
    ]
    more = [*turn, {"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    found = told(
        write(tmp_path / "l.jsonl", {"messages": turn[:2]}, {"messages": turn}, {"messages": more})
    )
    assert [answer.partition("<")[0] for _, answer, _ in found] == ["Hello", "So", "!"]
    assert [session for _, _, session in found] == [None, "~0", "~0"]


def test_equal_conversations_are_calls_of_their_own(tmp_path):
    entry = {"messages": [*USER, HELLO]}
    assert len(told(write(tmp_path / "l.jsonl", entry, entry))) == 2


def test_texts_and_ids_that_go_on_are_one_session(tmp_path):
    found = told(
        write(
            tmp_path / "l.jsonl",
            {"prompt": "User: hi\n", "response": "Bot: hello\n"},
            {"prompt": "Another one", "response": "ok"},
            {"prompt": "User: hi\nBot: hello\nUser: bye\n", "response": "Bot: so long\n"},
            {"prompt": list(range(50, 60)), "response": [1, 2]},
            {"prompt": [*range(50, 60), 1, 2, 7], "response": [3]},
        )
    )
    assert [session for _, _, session in found] == [None, None, "~0", None, "~3"]


def test_halves_of_batch_jobs_are_joined_across_files_in_any_order():
    files = [SAMPLES / f"openai-batch-{half}.jsonl" for half in ("output", "input")]
    (log,) = logs_of(files, tokenizer())
    assert sorted(last_user(text(r.prompt))[-1] for r in log) == ["0", "1", "2"]
    alone = Log(files[1], tokenizer())
    assert list(alone) == []
    assert alone.unread.total == 3
    assert "its answer is in none of the files" in alone.unread.lines()[0]


def test_requests_come_in_the_order_of_their_times(tmp_path):
    entries = [
        {"prompt": f"{n}", "response": "x", "created_at": 1.7e9 + n, "latency": 2.5}
        for n in range(9)
    ]
    log = Log(write(tmp_path / "l.jsonl", *reversed(entries)), tokenizer())
    assert [text(r.prompt) for r in log] == [f"{n}" for n in range(9)]
    assert log.in_flight.peak == 3
    assert log.in_flight.mean == pytest.approx(9 * 2.5 / 10.5)


def test_a_log_that_begins_with_the_newest_is_sorted_as_a_whole(tmp_path):
    entries = [{"prompt": [n], "response": [n], "ts": 1.7e9 + n} for n in range(9000, 0, -1)]
    log = Log(write(tmp_path / "l.jsonl", *entries))
    assert [int(r.prompt[0]) for r in log] == list(range(1, 9001))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1740823200, 1740823200.0),
        (1740823200123, 1740823200.123),
        (1740823200123456, 1740823200.123456),
        ("1740823200000000000", 1740823200.0),
        ("2025-03-01T10:00:00Z", 1740823200.0),
        ("2025-03-01T11:00:00+01:00", 1740823200.0),
        ("2025-03-01 10:00:00", 1740823200.0),
    ],
)
def test_times_of_many_forms(tmp_path, value, seconds):
    (record,) = Log(
        write(tmp_path / "l.jsonl", {"prompt": [1], "response": [1], "timestamp": value})
    )
    assert record.start == pytest.approx(seconds)


def test_what_cannot_be_read_is_summed_up_in_three_lines(tmp_path):
    good = {"prompt": [1], "response": [2]}
    kinds = [
        {"prompt": 3, "response": [1]},
        {"foo": 1},
        {"prompt": [1]},
        {"conversations": [{"from": "x"}]},
    ]
    path = write(tmp_path / "l.jsonl", *kinds * 50, good)
    log = Log(path)
    assert len(list(log)) == 1
    assert log.unread.total == 200
    lines = log.unread.lines()
    assert len(lines) == 3
    assert lines[0] == (
        f"{path}:1: prompt is 3; give text or a list of token ids; 50 such entries are left out "
        "(next at 5, 9)"
    )
    assert "100 more entries are left out for 2 other reasons" in lines[2]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"conversations": [{"from": "alien", "value": "x"}]},
            "this looks like ShareGPT, but turn 0",
        ),
        ({"conversations": [{"from": "human", "value": "x"}]}, "none is an assistant's answer"),
        ({"instruction": "x", "outputs": None}, "this looks like alpaca, but has no "),
        ({"traceId": "t", "startTime": 1}, "this looks like Langfuse, but has no "),
        ({"request_id": 1, "request_created_at": 1, "delay_ms": 3}, "without bodies"),
        ({"color": "red"}, "keys color are of no known format"),
        ({"messages": USER, "response": {"error": {"message": "quota"}}}, "an error was recorded"),
        ({}, "an empty object"),
    ],
)
def test_what_is_close_to_a_format_is_told(tmp_path, entry, said):
    log = Log(write(tmp_path / "l.jsonl", entry), tokenizer())
    assert list(log) == []
    assert said in log.unread.lines()[0]


@pytest.mark.parametrize(
    "form",
    [
        "[{}, {}]",
        '{{"data": [{}, {}]}}',
        "[\n{},\n {}\n]",
        "{}\n{}",
        "{}\r\n{}\r\n",
        "\ufeff{}\n{}",
    ],
)
def test_json_in_lists_lines_and_objects(tmp_path, form):
    entry = json.dumps({"prompt": "Hi", "response": "Hello"}, indent=1 if "\n {" in form else None)
    path = tmp_path / "l.json"
    path.write_bytes(form.format(entry, entry).encode())
    assert len(told(path)) == 2


def test_a_long_list_is_read_in_pieces(tmp_path):
    path = tmp_path / "l.json"
    entries = [{"prompt": "x" * 5000, "response": f"{n}"} for n in range(1000)]
    path.write_text(json.dumps(entries, indent=1))
    assert [answer for _, answer, _ in told(path)] == [f"{n}" for n in range(1000)]


def test_tables_of_text(tmp_path):
    for mark, name in ((",", "a.csv"), ("\t", "a.tsv"), (";", "b.csv")):
        row = mark.join(("s1", '"Hi\nyou"', "Hello"))
        (tmp_path / name).write_text(mark.join(("session_id", "prompt", "response")) + f"\n{row}\n")
        assert told(tmp_path / name) == [("Hi\nyou", "Hello", "s1")]


def test_sqlite_by_its_tables_and_by_a_query(tmp_path):
    path = tmp_path / "calls.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (a)")
        database.execute("INSERT INTO other VALUES (1)")
        database.execute("CREATE TABLE calls (q TEXT, prompt TEXT, response TEXT)")
        database.execute("INSERT INTO calls VALUES ('Q', 'Hi', 'Hello')")
    database.close()
    assert told(path) == [("Hi", "Hello", None)]
    query = "SELECT q AS prompt, response FROM calls"
    assert told(path, query=query) == [("Q", "Hello", None)]
    with pytest.raises(TraceError, match="the query fails"):
        told(path, query="SELECT nope")


def test_duckdb(tmp_path):
    duckdb = pytest.importorskip("duckdb", reason="the logs extra brings duckdb")
    path = tmp_path / "calls.duckdb"
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE TABLE calls AS SELECT 'Hi' AS prompt, 'Hello' AS response")
    assert told(path) == [("Hi", "Hello", None)]


def test_parquet_and_arrow(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the logs extra brings pyarrow")
    from pyarrow import parquet

    table = pa.table({"messages": [[USER[0], HELLO]] * 700, "source": ["a"] * 700})
    parquet.write_table(table, tmp_path / "train.parquet")
    with (
        pa.OSFile(str(tmp_path / "data.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    for name in ("train.parquet", "data.arrow"):
        found = told(tmp_path / name)
        assert len(found) == 700
        assert last_user(found[-1][0]) == "Hi"


def test_folders_globs_and_magic_bytes(tmp_path):
    import gzip

    write(tmp_path / "a.jsonl", {"prompt": "1", "response": "x"})
    line = json.dumps({"prompt": "2", "response": "y"}).encode()
    (tmp_path / "b.jsonl").write_bytes(gzip.compress(line))
    (tmp_path / "notes.md").write_text("nothing")
    assert [prompt for prompt, *_ in told(tmp_path)] == ["1", "2"]
    assert [prompt for prompt, *_ in told(tmp_path / "*.jsonl")] == ["1", "2"]
    for nothing, said in ((tmp_path / "*.nope", "no file matches"), (tmp_path / "new", "no log")):
        (tmp_path / "new").mkdir(exist_ok=True)
        with pytest.raises(TraceError, match=said):
            Log(nothing)


def test_a_template_that_refuses_costs_the_call_only(tmp_path):
    refuses = "{{ raise_exception('roles must alternate') }}"
    log = Log(
        write(tmp_path / "l.jsonl", {"messages": [*USER, HELLO]}), tokenizer(template=refuses)
    )
    assert list(log) == []
    assert (
        "the chat template refuses these messages (roles must alternate)" in log.unread.lines()[0]
    )


def test_the_template_of_a_model_is_used_with_its_tools(tmp_path):
    template = (
        "{{ bos_token }}{% if tools %}{{ tools[0].function.name }}:{% endif %}"
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    entry = {"messages": USER, "tools": [{"name": "f", "input_schema": {}}], "response": "Hello"}
    path = write(tmp_path / "l.jsonl", entry)
    log = Log(path, tokenizer(template=template, special={"bos_token": "<s>"}))
    assert [(text(r.prompt), text(r.response)) for r in log] == [
        ("<s>f:[user]Hi[assistant]", "Hello")
    ]


def test_a_template_that_knows_no_tool_calls_is_given_them_as_text():
    plain = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    words = tokenizer(template=plain + "{% if add_generation_prompt %}[assistant]{% endif %}")
    records = list(Log(SAMPLES / "openai-chat.jsonl", words))
    assert '"name": "run_sql"' in text(records[0].response)
    assert '"name": "run_sql"' in text(records[1].prompt)
