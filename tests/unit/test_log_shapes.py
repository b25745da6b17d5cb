"""Logs as strangers have them: other encodings, other words before the JSON, other names."""

from __future__ import annotations

import json

import pytest

from draftwood.errors import TraceError
from draftwood.logs.call import Conversation
from draftwood.logs.columns import pair_of
from draftwood.logs.formats.catalog import recognized
from draftwood.logs.log import Log, logs_of
from draftwood.logs.recognizer import in_line

USER = {"role": "user", "content": "Hi"}
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]}


def calls(log):
    """Prompt and answer of each call, before they are tokenized."""
    return [(each.prompt, each.response) for each in log._joined()]


def test_lines_of_another_encoding_are_read_as_well(tmp_path):
    path = tmp_path / "log.jsonl"
    entry = json.dumps({"prompt": "Größe", "response": "1 €"}, ensure_ascii=False)
    path.write_bytes(entry.encode() + b"\n" + entry.encode("cp1252") + b"\r\n")
    log = Log(path)
    assert calls(log) == [("Größe", "1 €")] * 2
    assert log.unread.total == 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_tables_of_spreadsheets_are_read(tmp_path, encoding):
    path = tmp_path / "table.csv"
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    rows = [f'"question {n}","line one\nline ""two"" €"' for n in range(400)]
    path.write_text(mark + "\n".join(["prompt,answer", *rows]), encoding=encoding)
    found = calls(Log(path))
    assert len(found) == 400
    assert found[399] == ("question 399", 'line one\nline "two" €')


def test_json_after_the_words_of_a_programs_log_is_read(tmp_path):
    path = tmp_path / "app.log"
    entry = json.dumps({"messages": [USER], "response": "Hello"})
    lines = [
        "2026-03-01 08:00:00,123 INFO starting {pool}",
        f"2026-03-01 08:00:01,500 INFO [w-1] client - request {entry}",
        '2026-03-01 08:00:02 DEBUG state {"pool": 4}',
        "2026-03-01 08:00:03 DEBUG {broken",
        f"2026-03-01T08:00:04Z INFO request={entry}",
    ]
    path.write_text("\n".join(lines))
    log = Log(path)
    found = list(log._joined())
    assert [each.response for each in found] == ["Hello", "Hello"]
    assert found[1].start - found[0].start == pytest.approx(2.5)
    assert log.unread.total == 0


def test_lines_of_json_among_other_lines_are_read(tmp_path):
    path = tmp_path / "mixed.jsonl"
    entry = json.dumps({"prompt": "a", "response": "b"})
    path.write_text(f"{entry}\nINFO {entry}\n--- rotated ---\n{entry[:-4]}\n")
    log = Log(path)
    assert calls(log) == [("a", "b")] * 2
    assert log.unread.total == 2


def test_a_text_without_calls_says_how_many_lines_it_has(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("one\ntwo {x}\nthree\n")
    with pytest.raises(TraceError, match="3 lines of text hold none"):
        Log(path).sample(100)
    assert in_line({"line": 'x {"pool": 4}'}) == {"line": 'x {"pool": 4}'}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"User Prompt": "Hi", "LLM Response": "Hello", "Prompt Tokens": "2"}, ("Hi", "Hello")),
        ({"prompt_token_ids": [1, 2], "response_ids": [3]}, ([1, 2], [3])),
        ({"userMessage": "Hi", "botMessage": "Hello"}, ("Hi", "Hello")),
        ({"input_text": "Hi", "model_output": "Hello", "output_tokens": "7"}, ("Hi", "Hello")),
        ({"rawInput": "Hi", "query": "Hello?", "final answer": "x"}, ("Hello?", "x")),
        ({"prompt_tokens": "12", "completion_tokens": "7"}, None),
        ({"prompt_cost": "Hi", "response_time": "x"}, None),
        ({"prompt": 3, "response": "x"}, None),
    ],
)
def test_names_tell_the_prompt_and_the_answer_by_their_words(entry, expected):
    assert pair_of(entry) == expected


def test_the_names_of_people_tell_times_and_fields(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "Created At;User Prompt;LLM Response;Model Name\n2026-03-01 08:00:00;Hi;Hello;m\n"
    )
    (found,) = Log(path)._joined()
    assert (found.start is not None, found.fields["model"]) == (True, "m")


def test_the_runs_of_chains_are_not_counted_again(tmp_path):
    path = tmp_path / "runs.jsonl"
    model = {"run_type": "llm", "inputs": {"messages": [[USER]]}, "outputs": ANSWER}
    chain = {"run_type": "chain", "inputs": {"question": "Hi"}, "outputs": {"output": "Hello"}}
    tool = {"run_type": "tool", "inputs": {"input": "Hi"}, "outputs": {"output": "Hello"}}
    failed = {"run_type": "llm", "inputs": {"messages": [USER]}, "error": "timeout"}
    same = {"session_id": "project"}
    threads = [{**model, **same, "extra": {"metadata": {"thread_id": n}}} for n in "ab"]
    path.write_text("\n".join(map(json.dumps, [model, chain, tool, failed, *threads])))
    log = Log(path)
    found = list(log._joined())
    assert len(found) == 3
    assert [each.session for each in found[1:]] == ["a", "b"]
    assert log.unread.total == 1


def test_a_shown_branch_is_what_was_said():
    messages = {
        name: {"author": {"role": role}, "content": {"parts": [name]}}
        for name, role in {
            "a": "user",
            "b": "assistant",
            "c": "user",
            "d": "assistant",
            "e": "user",
        }.items()
    }
    parents = {"a": None, "b": "a", "c": "b", "d": "c", "e": "b"}
    tree = {name: {"parent": parents[name], "message": messages[name]} for name in parents}
    entry = {"mapping": tree}
    found = list(recognized(entry).read(entry))
    assert [each.response["content"] for each in found] == ["b", "d"]
    shown = list(recognized(entry).read({**entry, "current_node": "e"}))
    assert [each.response["content"] for each in shown] == ["b"]


def test_a_tree_that_bites_its_tail_ends():
    nodes = {n: {"parent": p, "message": None} for n, p in (("a", "b"), ("b", "a"))}
    entry = {"mapping": nodes}
    with pytest.raises(TraceError, match="ChatGPT"):
        list(recognized(entry).read(entry))


def test_requests_and_answers_apart_meet_across_files(tmp_path):
    asked = {"event": "request", "request_id": "r1", "ts": 1740000000, "body": {"messages": [USER]}}
    answered = {"event": "response", "request_id": "r1", "ts": 1740000003, "body": ANSWER}
    (tmp_path / "a.jsonl").write_text(json.dumps(asked))
    (tmp_path / "b.jsonl").write_text(json.dumps(answered))
    (log,) = logs_of([tmp_path])
    (found,) = log._joined()
    assert found.end - found.start == 3
    alone = Log(tmp_path / "a.jsonl")
    assert calls(alone) == []
    assert "its answer is in none of the files" in alone.unread.lines()[0]


def test_conversations_are_found_one_level_down():
    entry = {"id": 1, "info": {"history": [USER, {"role": "assistant", "content": "Hello"}]}}
    (found,) = recognized(entry).read(entry)
    assert isinstance(found.prompt, Conversation)
    assert found.response["content"] == "Hello"


def read(tmp_path, *entries):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, entries)))
    log = Log(path)
    return list(log._joined()), log.unread.total


@pytest.mark.parametrize(
    "wrapping",
    [
        lambda inner: {"@timestamp": "2026-03-01T08:00:00Z", "@message": json.dumps(inner)},
        lambda inner: {"log": json.dumps(inner), "time": "2026-03-01T08:00:00Z"},
        lambda inner: {"log": f"INFO got {json.dumps(inner)}", "time": "2026-03-01T08:00:00Z"},
        lambda inner: {"category": "x", "time": "2026-03-01T08:00:00Z", "properties": inner},
    ],
)
def test_entries_that_a_collector_wraps_are_read(tmp_path, wrapping):
    inner = {"request": {"messages": [USER]}, "response": ANSWER}
    (found,), unread = read(tmp_path, wrapping(inner))
    assert (found.response["content"], unread) == ("Hello", 0)
    assert found.start is not None


def test_what_wraps_nothing_says_what_it_is_itself(tmp_path):
    found, unread = read(tmp_path, {"log": '{"pool": 4}', "n": 1})
    assert (found, unread) == ([], 1)


def test_messages_that_come_one_by_one_are_calls_of_their_conversations(tmp_path):
    def row(session, role, content, at):
        return {"thread_id": session, "role": role, "content": content, "ts": 1740000000 + at}

    found, unread = read(
        tmp_path,
        row("a", "user", "Hi", 0),
        row("b", "user", "Bye", 1),
        row("a", "assistant", "Hel", 2),
        row("a", "assistant", "lo", 3),
        row("b", "assistant", "Goodbye", 4),
        row("a", "user", "More", 5),
        row("a", "assistant", "Enough", 6),
        row("c", "assistant", "to nobody", 7),
    )
    said = {each.response["content"]: (len(each.prompt.messages), each.session) for each in found}
    assert said == {"Hello": (1, "a"), "Goodbye": (1, "b"), "Enough": (3, "a")}
    assert unread == 0


def test_what_is_said_now_stands_beside_the_history_of_a_chat(tmp_path):
    history = [{"role": "USER", "message": "Hi"}, {"role": "CHATBOT", "message": "Hello"}]
    request = {"message": "Bye", "chat_history": history}
    (found,), _ = read(tmp_path, {"request": request, "response": {"text": "Goodbye"}})
    assert [each["content"] for each in found.prompt.messages] == ["Hi", "Hello", "Bye"]
