"""HTML for notebooks: figures as a table, a token tree as nested lists.

Colors are shades of the page's own text color, so that it is readable on light and dark pages. All
text is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_BAR = "display:inline-block;width:0.8em;background:currentColor;opacity:0.55;margin-right:1px"
_CELL = "text-align:left;padding:0 1em 0 0"


def figures_html(rows: Mapping[str, str], shares: Sequence[float], caption: str) -> str:
    """A table of names and values, and below it a row of bars.

    shares: the bars' heights, from 0 to 1; without any, no bars are drawn. caption: of the bars.
    """
    lines = [
        f'<tr><th style="{_CELL}">{escape(name)}</th><td style="{_CELL}">{escape(value)}</td></tr>'
        for name, value in rows.items()
    ]
    bars = "".join(
        f'<span style="{_BAR};height:{max(0.0, min(1.0, share)) * 3:.2f}em" '
        f'title="{position}: {share:.0%}"></span>'
        for position, share in enumerate(shares)
    )
    drawn = f'<div style="color:inherit">{bars}<br><small>{escape(caption)}</small></div>'
    return f'<table style="color:inherit">{"".join(lines)}</table>{drawn if bars else ""}'


def tree_html(labels: Sequence[str], parents: Sequence[int], confidence: Sequence[float]) -> str:
    """Nested lists, one item a node, the less confident ones paler.

    labels, parents, confidence: [n]; a parent is -1 or an earlier node.
    """
    below: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        below.setdefault(parent, []).append(node)
    parts: list[str] = []
    waiting: list[tuple[int, bool]] = [(node, True) for node in reversed(below.get(-1, []))]
    while waiting:  # no recursion: a draft may be deeper than Python's stack
        node, opens = waiting.pop()
        if not opens:
            parts.append("</ul></li>")
            continue
        sure = min(1.0, max(0.0, confidence[node]))
        parts.append(
            f'<li><code style="opacity:{0.4 + 0.6 * sure:.2f}">{escape(labels[node])}</code> '
            f'<small style="opacity:0.6">{sure:.0%}</small>'
        )
        if node in below:
            parts.append("<ul>")
            waiting.append((node, False))
            waiting += [(child, True) for child in reversed(below[node])]
        else:
            parts.append("</li>")
    return f'<ul style="color:inherit">{"".join(parts)}</ul>'
