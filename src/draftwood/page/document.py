"""Finished runs as one HTML file, which asks nobody for anything, and as a frame in notebooks."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any, Final

STATIC: Final = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "run.css": "text/css; charset=utf-8",
    "run.js": "text/javascript; charset=utf-8",
}
"""The files of the page, with their media types."""

_SHOW: Final = """
useTheme();
const runs = JSON.parse(document.getElementById("runs").textContent);
for (const run of runs) showFinished(run, document.getElementById("shown"));
"""


def static_file(name: str) -> bytes:
    """One of `STATIC`."""
    return files(__package__).joinpath(name).read_bytes()


def run_document(runs: Sequence[Mapping[str, Any]], *, title: str = "Draftwood") -> str:
    """An HTML page that shows finished runs (`Generation.as_run`); all of it in one text.

    Its Content-Security-Policy allows the script and the styles that it brings and nothing else;
    texts of models and people are data in it, and never markup.
    """
    style = "\n".join(static_file(name).decode() for name in ("run.css", "page.css"))
    script = static_file("run.js").decode() + _SHOW
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    )
    data = json.dumps(list(runs)).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header class="top"><h1>Draftwood</h1><p class="tagline">the same text in fewer steps</p></header>
<main><div id="shown" class="runs"></div></main>
<script type="application/json" id="runs">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def notebook_frame(document: str, *, height: int = 420) -> str:
    """A document as a notebook shows it: in a frame, apart from the notebook's own page."""
    return (
        f'<iframe srcdoc="{escape(document)}" sandbox="allow-scripts" title="Where each token came '
        f'from" style="width:100%;height:{height}px;border:0"></iframe>'
    )


def _hash(text: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
