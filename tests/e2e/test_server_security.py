"""Who is let in, whom namespaces keep apart, and what hostile requests come to."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import draftwood as dw
from draftwood.errors import InvalidOption

pytest.importorskip("torch")
pytest.importorskip("fastapi", reason="pip install 'draftwood[server]'")
httpx = pytest.importorskip("httpx2")
from serving import served  # noqa: E402

from draftwood.server.keys import ApiKeys, Caller  # noqa: E402
from draftwood.server.limits import ServerLimits  # noqa: E402
from draftwood.server.run import check_address  # noqa: E402

ALICE, BOB = "alice-key-0123456789", "bob-key-0123456789abc"
TEXT = "SELECT title FROM films WHERE year ="
LIMITS = ServerLimits(max_body=20_000, body_seconds=1, header_seconds=1)


@pytest.fixture(scope="module")
def llm():
    with dw.load("demo", cost="none") as model:
        yield model


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# of this test\n\nalice {ALICE}\nbob {BOB}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def guarded(llm, keys):
    with served(llm, keys=keys, limits=LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def server(llm):
    with served(llm) as running:
        yield running


def bearer(key):
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("header", [{}, bearer("wrong"), {"authorization": f"Basic {ALICE}"}])
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/draftwood/history"])
def test_without_a_key_nothing_is_told(guarded, path, header):
    answer = httpx.get(guarded.url + path, headers=header)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(guarded.url + path, headers=bearer(ALICE)).status_code == 200


def test_a_request_without_a_key_is_not_answered(guarded):
    for path in ("/v1/completions", "/v1/chat/completions"):
        answer = httpx.post(guarded.url + path, json={"prompt": "x", "messages": []})
        assert answer.status_code == 401
    assert httpx.get(f"{guarded.url}/health").status_code == 200


def drafted_from_history(server, key, **asked):
    """Tokens of a text that the drafter knew from the history that requests share."""
    body = {"prompt": TEXT, "max_tokens": 30, "draftwood": {"origins": True}, **asked}
    answer = httpx.post(f"{server.v1}/completions", json=body, headers=bearer(key))
    tokens = answer.json()["choices"][0]["draftwood"]["tokens"]
    return sum(token.get("accepted", {}).get("kind") == "shared history" for token in tokens)


def test_what_one_key_taught_is_drafted_for_no_other(guarded):
    drafted_from_history(guarded, ALICE, cache_salt="one")
    assert drafted_from_history(guarded, ALICE, cache_salt="one") > 0
    assert drafted_from_history(guarded, ALICE, cache_salt="two") == 0
    names = ["one", "", json.dumps(["alice", "one"]), 'one"]', "alice"]
    for name in names:  # whatever Bob calls his namespace, it is none of Alice's
        assert drafted_from_history(guarded, BOB, cache_salt=name) == 0
        assert drafted_from_history(guarded, BOB, user=name, cache_salt=f"of {name}") == 0


def test_callers_see_their_own_namespaces_only(guarded):
    drafted_from_history(guarded, ALICE, cache_salt="secret of Alice")
    drafted_from_history(guarded, BOB, cache_salt="secret of Bob")
    seen = httpx.get(f"{guarded.url}/draftwood/history", headers=bearer(BOB)).text
    assert "secret of Bob" in seen
    assert "Alice" not in seen


def test_namespaces_of_different_keys_are_never_one():
    salts = ["", "a", '"', '", "', '["b", "a"]', "b"]
    named = [Caller(name).namespace(salt) for name in ("a", "b", None) for salt in salts]
    assert len(set(named)) == len(named)
    assert Caller().namespace(None) == ""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "holds no key"),
        ("alice", "is no key"),
        ("alice short", "has 5 characters"),
        (f"alice {ALICE}\nalice {BOB}", "repeats"),
        (f"alice {ALICE}\nbob {ALICE}", "repeats"),
        (f"a/b {ALICE}", "is no key"),
        (f"alice {ALICE} more", "is no key"),
    ],
)
def test_a_file_of_keys_that_is_wrong_is_refused(tmp_path, text, wrong):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=wrong):
        ApiKeys(path)
    with pytest.raises(InvalidOption, match="cannot read the keys"):
        ApiKeys(tmp_path / "none")


def test_only_loopback_is_bound_without_keys():
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"):
        check_address(host, 0, None)
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org", ""):
        with pytest.raises(InvalidOption, match="--api-keys"):
            check_address(host, 0, None)
        check_address(host, 0, Path("keys"))


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (("--host", "0.0.0.0"), "--api-keys"),
        (("--port", "99999"), "port is 99999"),
        (("--api-keys", "no/such/file"), "cannot read the keys"),
    ],
)
def test_the_command_says_so_in_one_line_before_it_loads_a_model(options, wrong):
    done = subprocess.run(
        [sys.executable, "-m", "draftwood", "serve", "--model", "demo", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert wrong in done.stderr
    assert "serving" not in done.stderr


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(InvalidOption, match=f"port is {port}; give one from 1 to 65535"):
        check_address("127.0.0.1", port, None)


def test_a_page_elsewhere_cannot_ask_in_its_readers_name(server):
    post = f"{server.v1}/completions"
    body = json.dumps({"prompt": TEXT, "max_tokens": 1})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = httpx.post(post, content=body, headers={"content-type": kind})
        assert answer.status_code == 415
    rebound = httpx.get(f"{server.v1}/models", headers={"host": "evil.example"})
    assert rebound.status_code == 421
    asked = httpx.options(
        post, headers={"origin": "http://evil.example", "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in asked.headers
    for header in ("x-content-type-options", "referrer-policy"):
        assert header in httpx.get(f"{server.v1}/models").headers


HOSTILE = {
    "no JSON": b"{",
    "an array": b"[]",
    "a number": b"1e999",
    "deep": b"[" * 9000 + b"]" * 9000,
    "half a character": b'{"prompt": "\\ud800"}',
    "not UTF-8": b'{"prompt": "\xff\xfe"}',
    "NaN": b'{"prompt": "x", "temperature": NaN}',
    "infinite": b'{"prompt": "x", "temperature": Infinity}',
    "a seed too large": b'{"prompt": "x", "seed": 1' + b"0" * 400 + b"}",
    "ids too large": b'{"prompt": [4294967296]}',
    "ids of nobody": b'{"prompt": [2147483647]}',
    "ids below 0": b'{"prompt": [-1]}',
    "empty": b'{"prompt": ""}',
    "no prompts": b'{"prompt": []}',
    "too many": b'{"prompt": "x", "n": 1000000}',
    "unknown": b'{"prompt": "x", "no such field": 1}',
    "bias of words": b'{"prompt": "x", "logit_bias": {"x": 1}}',
    "bias of no digit": '{"prompt": "x", "logit_bias": {"²": 1}}'.encode(),
    "a stop of nothing": b'{"prompt": "x", "stop": ""}',
    "text for a number": b'{"prompt": "x", "max_tokens": "5"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_are_refused_in_the_shape_of_openai(server, name):
    for path in ("completions", "chat/completions"):
        answer = httpx.post(
            f"{server.v1}/{path}",
            content=HOSTILE[name],
            headers={"content-type": "application/json"},
        )
        assert 400 <= answer.status_code < 500, answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_programs_for_the_chat_template_are_refused(server):
    for name in ("chat_template", "tokenize", "tokenizer_kwargs", "return_dict"):
        asked = {
            "messages": [{"role": "user", "content": "x"}],
            "chat_template_kwargs": {name: "{{ 7 * 7 }}"},
        }
        answer = httpx.post(f"{server.v1}/chat/completions", json=asked)
        assert answer.status_code == 400


def test_a_body_that_is_too_large_or_too_slow_is_refused(guarded):
    large = json.dumps({"prompt": "x" * 30_000}).encode()
    post = f"{guarded.v1}/completions"
    headers = {"content-type": "application/json", **bearer(ALICE)}
    assert httpx.post(post, content=large, headers=headers).status_code == 413

    def pieces():  # no Content-Length says how much comes
        yield from (large[at : at + 5000] for at in range(0, len(large), 5000))

    assert httpx.post(post, content=pieces(), headers=headers).status_code == 413
    with socket.create_connection(address(guarded), timeout=30) as slow:
        slow.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            b"Content-Type: application/json\r\n\r\n{"
        )
        assert b" 408 " in slow.recv(4096)


def address(server):
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)


def test_headers_that_do_not_come_are_not_waited_for(guarded):
    begun = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    slow = [socket.create_connection(address(guarded), timeout=30) for _ in range(20)]
    try:
        silent, *begins = slow
        for each in begins:
            each.sendall(begun)
        for each in begins:
            said = b"".join(iter(lambda each=each: each.recv(4096), b""))  # to its end
            assert said.startswith(b"HTTP/1.1 408 ")
            assert b"the headers took more than 1 s" in said
        assert silent.recv(4096) == b""  # nothing was asked, so nothing is answered
    finally:
        for each in slow:
            each.close()
    assert httpx.get(f"{guarded.url}/health").status_code == 200


def test_the_second_request_of_a_connection_is_not_waited_for_either(guarded):
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(address(guarded), timeout=30) as kept:
        for _ in range(2):
            kept.sendall(whole)
            answer = b""
            while not answer.endswith(b"}"):  # head and body may come one after the other
                answer += kept.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 ")
        kept.sendall(whole[:-4])
        assert kept.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_its_own_description_finds_no_server_error(server):
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    from hypothesis import HealthCheck, given, settings

    described = httpx.get(f"{server.url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(described)
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=12,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def ask(case):
            if isinstance(case.body, dict):
                case.body["max_tokens"] = min(8, case.body.get("max_tokens") or 8)
            answer = case.call(base_url=server.url)
            assert answer.status_code < 500, answer.text

        ask()
    assert httpx.get(f"{server.url}/health").status_code == 200
