"""docs/families.md, from the outcomes of all classes."""

from __future__ import annotations

from typing import Any

OUTCOMES = {
    "equal": "Drafts are trees, and every text is that of `generate`.",
    "chains": "The same, with drafts that do not branch: the model takes no masks of ours.",
    "refused": "Not run at all; the error says why.",
    "wrong": "Another text than that of `generate`.",
    "untried": "Could not be shrunk to a tiny model, or `generate` itself fails on it.",
}

HEAD = """# Which model families

Draftwood gives token for token the text of `model.generate`, or refuses the model with the reason.
Which of the two is found out by trying: when a model is loaded, a few short passes over chains,
trees and several sequences at once are compared with what its own `generate` computes, once as it
is and once with every window narrowed to a few tokens (`targets/transformers/probe.py`).

The tables below are of every class that transformers {transformers} calls a causal language model,
each shrunk to a tiny random model with windows of 12 tokens. Greedy texts after 5 and 40 tokens
were compared with those of `generate`, with right and wrong drafts, alone and several in a pass:

    python benchmarks/families/run.py --out benchmarks/families/results.json --page docs/families.md

| outcome | classes | |
|---|---|---|
"""


def page(result: dict[str, Any]) -> str:
    """The page in Markdown."""
    classes = result["classes"]
    lines = [f"| {name} | {result['counts'][name]} | {what} |" for name, what in OUTCOMES.items()]
    for name in OUTCOMES:
        those = [each for each in classes if each["outcome"] == name]
        if not those:
            continue
        lines += ["", f"## {name.capitalize()}", ""]
        if name in ("equal", "chains"):
            alone = [f"`{each['kind']}`" for each in those if not each["batches"]]
            lines.append(", ".join(f"`{each['kind']}`" for each in those))
            if alone:
                lines += ["", "One sequence a pass, in batches too: " + ", ".join(alone)]
        else:
            lines += ["| model type | reason |", "|---|---|"]
            lines += [f"| `{each['kind']}` | {each['reason']} |" for each in those]
    versions = result["provenance"]["versions"]
    return HEAD.format(transformers=versions["transformers"]) + "\n".join(lines) + "\n"
