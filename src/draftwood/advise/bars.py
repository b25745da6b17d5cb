"""Bars and lines as SVG, for the report: no package, no request."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_ROW = 46
_WIDTH = 400


def interval_bars(rows: Sequence[tuple[str, float, float, float]], *, title: str) -> str:
    """A bar for each (label, value, low, high), with its interval; a line stands at 1."""
    most = max(1.2, *(high for _, _, _, high in rows)) * 1.12
    scale = (_WIDTH - 20) / most
    height = _ROW * len(rows) + 24
    found = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
    ]
    for at, (label, value, low, high) in enumerate(rows):
        top = at * _ROW
        kind = "gain" if low > 1 else "loss" if high < 1 else "even"
        found += [
            f'<text x="10" y="{top + 14}">{escape(label)}</text>',
            f'<rect class="{kind}" x="10" y="{top + 20}" width="{value * scale:.1f}" height="16"/>',
            f'<path class="whisker" d="M{10 + low * scale:.1f} {top + 28}H{10 + high * scale:.1f}'
            f'M{10 + low * scale:.1f} {top + 23}v10M{10 + high * scale:.1f} {top + 23}v10"/>',
            f'<text class="value" x="{14 + high * scale:.1f}" y="{top + 33}">{value:.2f}x</text>',
        ]
    one = 10 + scale
    found += [
        f'<path class="one" d="M{one:.1f} 0V{height - 18}"/>',
        f'<text class="value" x="{one + 4:.1f}" y="{height - 6}">1 = plain decoding</text>',
        "</svg>",
    ]
    return "".join(found)


def cost_line(points: Sequence[Sequence[float]], *, title: str) -> str:
    """The time of a pass by drafted tokens, in plain steps."""
    most_x = max(x for x, _ in points) or 1.0
    most_y = max(1.5, *(y for _, y in points)) * 1.1
    width, height = _WIDTH - 80, 220

    def place(x: float, y: float) -> tuple[float, float]:
        return 50 + x / most_x * width, height - 40 - y / most_y * (height - 60)

    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(x, y) for x, y in points))
    marks = []
    for x, y in points:
        a, b = place(x, y)
        marks.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4"/>')
        marks.append(f'<text class="value" x="{a - 8:.1f}" y="{b - 9:.1f}">{y:.2f}</text>')
        marks.append(f'<text class="value" x="{a - 6:.1f}" y="{height - 22}">{x:g}</text>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
        f'<polyline class="line" points="{line}"/>{"".join(marks)}'
        f'<text x="50" y="{height - 4}">drafted tokens of a sequence</text></svg>'
    )
