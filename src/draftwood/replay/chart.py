"""The style of all plots; matplotlib (extra `[plot]`) is imported when first used.

Colors are Okabe and Ito's, which stay apart for color-blind readers; a bar's hatch and its printed
value tell the same, so that nothing hangs on color alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from draftwood.errors import InvalidOption, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
PLAIN = "#999999"
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "oo")
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",  # text stays text: searchable, and small
    "svg.hashsalt": "draftwood",  # the same rows give the same file
}


def check_drawable(path: Path) -> None:
    """Say at once, before any long work, that a picture cannot be drawn to `path`.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidOption: `path` cannot be written, or its ending names no picture format.
    """
    _require_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    if path.suffix and path.suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise _undrawable(path, f"{path.suffix} is no picture format")
    new = not path.exists()
    try:
        path.open("ab").close()  # an existing file stays as it is
        if new:
            path.unlink()
    except OSError as error:
        raise _undrawable(path, error.strerror or str(error)) from None


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, sizes in inches. It belongs to no global state.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    _require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def save(figure: Figure, path: Path) -> None:
    """Write the figure; the format is that of the path's ending.

    Raises:
        InvalidOption: `path` cannot be written, or its ending names no picture format.
    """
    from matplotlib import rc_context

    try:
        with rc_context(_STYLE):
            figure.savefig(
                path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None
            )
    except (OSError, ValueError) as error:
        raise _undrawable(path, str(error)) from None


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtra("plots need the matplotlib package; install draftwood[plot]") from None


def _undrawable(path: Path, why: str) -> InvalidOption:
    return InvalidOption(
        f"cannot draw to {path}: {why}; name a .svg, .png or .pdf file that can be written"
    )
