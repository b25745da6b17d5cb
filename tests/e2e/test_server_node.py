"""OpenAI's client for Node gets the same answers."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import draftwood as dw

pytest.importorskip("torch")
pytest.importorskip("fastapi", reason="pip install 'draftwood[server]'")
from serving import served

SCRIPT = Path(__file__).parent / "openai_node" / "ask.mjs"
CLIENT = "openai@7"
NODE, NPM = shutil.which("node"), shutil.which("npm")
if NODE is None or NPM is None:
    pytest.skip("node and npm are not installed (apt-get install npm)", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The script beside its client, installed once a machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "draftwood-tests"
    place = cache / CLIENT.replace("@", "-")
    if not (place / "node_modules" / "openai" / "package.json").exists():
        try:
            place.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                [NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", CLIENT],
                cwd=place,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
            failed = done.stderr[-200:] if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            failed = str(error)
        if failed:
            pytest.skip(f"npm cannot install {CLIENT}: {failed}")
    own = tmp_path_factory.mktemp("node")
    shutil.copy(SCRIPT, own)
    (own / "node_modules").symlink_to(place / "node_modules")
    return own


def test_the_client_for_node_gets_the_texts_of_generate(folder):
    with dw.load("demo", cost="none") as llm, served(llm) as server:
        done = subprocess.run(
            [NODE, "ask.mjs", server.v1],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        chat = [{"role": "user", "content": "List all open orders."}]
        expected = llm.generate(chat, max_tokens=24)
        assert said["whole"] == said["streamed"] == expected.text
        assert said["usage"]["completion_tokens"] == len(expected.tokens)
        assert said["completion"] == llm.generate("SELECT", max_tokens=8, chat=False).text
    assert said["refused"] == {"status": 404, "code": "model_not_found"}
    assert said["models"] == ["demo"]
