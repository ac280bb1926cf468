"""Which labels are taken for which."""

import numpy as np
from numpy.typing import NDArray

from hpa_search.figures.drawing import Kind, drawing


def confusion(counts: NDArray[np.int64], names: tuple[str, ...], kind: Kind = "svg") -> bytes:
    """Draw how often the label of a column was predicted in error where the label of the row was missed.

    ``counts`` (28, 28) are those of `Predictions.confused`. Labels that are never confused are left out.
    """
    shown = np.flatnonzero(counts.any(axis=0) | counts.any(axis=1))
    part = counts[np.ix_(shown, shown)]
    titles = [f"{label} {names[label]}" for label in shown]
    size = max(4.0, 0.27 * len(shown) + 2.4)
    with drawing(width=size + 1.0, height=size, kind=kind) as drawn:
        axes = drawn.axes
        axes.grid(visible=False, which="major")
        axes.set(xlabel="predicted, not there", ylabel="there, not predicted")
        axes.set_xticks(range(len(shown)), titles, rotation=90, fontsize=7)
        axes.set_yticks(range(len(shown)), titles, fontsize=7)
        if len(shown):
            axes.imshow(np.ma.masked_equal(np.sqrt(part), 0), cmap="Blues", vmin=0, aspect="equal")
            axes.set_xticks(np.arange(len(shown)) + 0.5, minor=True)
            axes.set_yticks(np.arange(len(shown)) + 0.5, minor=True)
            axes.grid(visible=True, which="minor", color="#e4e4e4", linewidth=0.5)
            axes.tick_params(which="minor", length=0)
        for row, column in zip(*np.nonzero(part), strict=True):
            colour = "white" if part[row, column] > part.max() / 4 else "black"
            axes.text(column, row, str(part[row, column]), ha="center", va="center", fontsize=6, color=colour)
    return drawn.content
