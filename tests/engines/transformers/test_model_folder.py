"""A model's folder with `custom_generate/`: loaded by transformers, and served by it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import draftwood.transformers as ours  # noqa: E402
from draftwood.errors import InvalidSpec, ModelNotFound  # noqa: E402
from draftwood.load import load  # noqa: E402
from tests.engines.byte_model import make_model  # noqa: E402

torch.set_num_threads(1)
PROMPT = "select a from t; select a from t; "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = make_model(tmp_path_factory.mktemp("model"))
    ours.save_custom_generate(made, drafter="recall:cost=none,share=8")
    return made


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """Code of model folders is copied to a cache; not to the one of the user."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_folder_generates_with_drafts(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    options = {"max_new_tokens": 48, "do_sample": False, "pad_token_id": 0}
    expected = plain.generate(**inputs, **options)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    for _ in range(2):
        assert model.eval().generate(**inputs, **options).tolist() == expected.tolist()
    assert ours.statistics(model).tokens > ours.statistics(model).steps
    text = tokenizer.decode(expected[0, inputs["input_ids"].shape[1] :])
    for given in ({"stop_strings": [text[10:14]]}, {"stop_strings": text[20:22]}):
        stopped = plain.generate(**inputs, **options, **given, tokenizer=tokenizer)
        found = model.generate(**inputs, **options, **given, tokenizer=tokenizer)
        assert found.tolist() == stopped.tolist()
        config = transformers.GenerationConfig(**options, **given)
        found = model.generate(**inputs, generation_config=config, tokenizer=tokenizer)
        assert found.tolist() == stopped.tolist()
    lent = plain.generate(**inputs, **options, custom_generate=str(folder), trust_remote_code=True)
    assert lent.tolist() == expected.tolist()


def test_our_own_loader_takes_the_folder(folder):
    with load(str(folder), trust_remote_code=True) as drafted, load(str(folder)) as plain:
        options = {"max_tokens": 24, "drafter": "none"}
        assert drafted.generate(PROMPT, **options).text == plain.generate(PROMPT, **options).text


def test_a_folder_that_is_none_and_a_spec_that_is_none_are_refused(tmp_path):
    with pytest.raises(ModelNotFound, match="no folder"):
        ours.save_custom_generate(tmp_path / "nothing")
    with pytest.raises(InvalidSpec):
        ours.save_custom_generate(tmp_path, drafter="recal")
    assert list(tmp_path.iterdir()) == []


def ask(port, model, **options):
    body = {"model": str(model), "prompt": PROMPT, "max_tokens": 40, "temperature": 0} | options
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read().decode()


def test_transformers_serve_drafts(tmp_path):
    for name in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(name, reason="transformers serve needs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    folder, history, log = make_model(tmp_path / "model"), tmp_path / "history", tmp_path / "log"
    ours.save_custom_generate(folder, drafter=f"recall:path={history},share=8")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    texts = {}
    for options in ([], ["--trust-remote-code"]):
        with (
            log.open("w") as out,
            subprocess.Popen(
                [*command, *options], stdout=out, stderr=out, env=environment
            ) as server,
        ):
            try:
                texts[tuple(options)] = answers(server, port, folder, log)
            finally:
                server.send_signal(signal.SIGINT)
                try:
                    server.wait(20)
                except subprocess.TimeoutExpired:
                    server.kill()
        assert history.exists() == bool(options)  # our loop ran there
    plain, drafted = texts.values()
    assert drafted == plain
    assert plain[0]


def answers(server, port, folder, log):
    """The text of two requests, and of a streamed one."""
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
    texts = [json.loads(ask(port, folder))["choices"][0]["text"] for _ in range(2)]
    events = ask(port, folder, stream=True)
    pieces = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    texts.append("".join(piece["choices"][0].get("text") or "" for piece in pieces))
    return texts
