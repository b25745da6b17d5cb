"""Hooks of the documentation site: what is generated, and links that leave the pages.

`<!-- commands -->` on a page becomes the help of every command, `<!-- drafters -->` the drafters
that a spec can name, `<!-- api -->` the reference of all that `import draftwood` exports. Links to
files outside docs/ lead to the repository; a file that is not there is a warning, and so an error.
The pages that the navigation below does not name are its explanations.
"""

from __future__ import annotations

import inspect
import logging
import re
from pathlib import Path
from typing import Any

import click
import typer

import draftwood
from draftwood.cli.app import app
from draftwood.cli.drafters import described
from draftwood.drafters.catalog import DRAFTERS

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/draftwood/draftwood/blob/main/"
LOG = logging.getLogger("mkdocs.hooks.draftwood")
FIRST = [
    {"Start": "index.md"},
    {"Tutorial": "tutorial.md"},
    {"How to": "how-to.md"},
    {"Which drafter?": "which-drafter.md"},
    {"Will it help my logs?": "advise.md"},
    {"Log formats": "log-formats.md"},
    {"Questions": "faq.md"},
]
REFERENCE = [{"Commands": "commands.md"}, {"Python": "api.md"}, {"Glossary": "glossary.md"}]


def on_config(config: Any) -> Any:
    """Set the navigation: every page is in it."""
    named = {page for entry in (*FIRST, *REFERENCE) for page in entry.values()}
    pages = sorted(page.name for page in Path(config.docs_dir).glob("*.md"))
    others = [page for page in pages if page not in named]
    config.nav = [*FIRST, {"Reference": REFERENCE}, {"Explanation": others}]
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Fill in what is generated, and lead links out of docs/ to the repository."""
    made = {"commands": commands, "drafters": drafters, "api": api}
    for name, text in made.items():
        marker = f"<!-- {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, text())
    # what our tests read behind a fence's language, Markdown would not take for a fence
    markdown = re.sub(r"^```(\w+) (?:needs \w+|no-run)$", r"```\1", markdown, flags=re.MULTILINE)
    return re.sub(
        r"\]\(\.\./([^)#\s]+)", lambda found: f"]({_repository(found[1], page)}", markdown
    )


def _repository(path: str, page: Any) -> str:
    if not (ROOT / path).exists():
        LOG.warning("%s links to %s, which is not there", page.file.src_uri, path)
    return REPOSITORY + path


def commands() -> str:
    """The help of every command."""
    found = []

    def add(command: Any, names: list[str]) -> None:
        context = click.Context(command, info_name=" ".join(names))
        help_text = command.get_help(typer.Context(command, info_name=context.info_name))
        found.append(f"## {' '.join(names)}\n\n```text\n{help_text}\n```\n")
        for name, inner in getattr(command, "commands", {}).items():
            add(inner, [*names, name])

    add(typer.main.get_command(app), ["draftwood"])
    return "\n".join(found)


def drafters() -> str:
    """A table of the drafters that a spec can name."""
    rows = ["| spec | what it is | options |", "|---|---|---|"]
    for name, factory in DRAFTERS.items():
        told = described(factory)
        options = " ".join(f"`{key}={value}`" for key, value in told["options"].items())
        rows.append(f"| `{name}` | {told['about'].replace('|', ' ')} | {options} |")
    return "\n".join(rows)


def api() -> str:
    """mkdocstrings' directives for all public names."""
    found = []
    for name in sorted(draftwood.__all__):
        value = getattr(draftwood, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            found.append(f"::: {value.__module__}.{value.__qualname__}\n")
    return "\n".join(found)
