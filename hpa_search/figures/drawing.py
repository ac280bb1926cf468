"""How figures look: colours that colour-blind people tell apart, one font size, and files that do not change from run to run."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#767676"
"""Okabe and Ito 2008, "Color Universal Design"; their vermilion stands for orange."""
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW)
_STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "hpa-search",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
}
_NO_DATE: Any = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}, "jpg": None}
Kind = Literal["svg", "png", "jpg"]


class Drawing:
    """A figure in the making. ``content`` is its file once the block of `drawing` has ended."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.content = b""

    @property
    def axes(self) -> Axes:
        """The only axes."""
        return self.figure.axes[0]


@contextmanager
def drawing(width: float = 9.0, height: float = 3.6, rows: int = 1, columns: int = 1, kind: Kind = "svg") -> Iterator[Drawing]:
    """Yield a figure of ``width`` x ``height`` inches, of ``rows`` x ``columns`` axes."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained" if kind != "jpg" else None)
        figure.subplots(rows, columns)
        made = Drawing(figure)
        yield made
        file = io.BytesIO()
        figure.savefig(file, format=kind, metadata=_NO_DATE[kind])
    made.content = file.getvalue()
