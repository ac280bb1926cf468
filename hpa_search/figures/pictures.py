"""Images of four stains as pictures for people, one by one or on a sheet with their labels."""

import textwrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpa_search.data.packed import PackedImages
from hpa_search.figures.drawing import drawing
from hpa_search.figures.predictions import Predictions

PIXELS = 256
BRIGHT = 99.5
"""The percentile of a channel's pixels that is shown at full brightness."""
COLUMNS = 4


def in_colour(image: NDArray[np.uint8], pixels: int = PIXELS) -> Image.Image:
    """Return ``image`` (4, s, s), at most ``pixels`` wide: microtubules red, protein green, nucleus blue, each stretched."""
    top = np.maximum(np.percentile(image[:3].reshape(3, -1), BRIGHT, axis=1), 1)[:, None, None]
    stretched = np.clip(image[:3] / top * 255, 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.moveaxis(stretched, 0, -1))
    return picture.resize((pixels, pixels), Image.Resampling.LANCZOS) if picture.width > pixels else picture


def of_row(images: PackedImages, identifier: str) -> Image.Image:
    """Return the picture of the image ``identifier``."""
    return in_colour(images.gather(np.array([images.ids.index(identifier)]))[0])


def sheet(images: PackedImages, predictions: Predictions, rows: NDArray[np.int64], names: tuple[str, ...]) -> bytes:
    """Return a JPEG of the images at ``rows`` of ``predictions``, each with its true and its predicted labels."""
    lines = max(1, -(-len(rows) // COLUMNS))
    with drawing(width=9.0, height=2.9 * lines, rows=lines, columns=COLUMNS, kind="jpg") as drawn:
        for place, axes in enumerate(drawn.figure.axes):
            axes.set_axis_off()
            if place >= len(rows):
                continue
            true, said = predictions.in_words(int(rows[place]), names)
            axes.imshow(np.asarray(of_row(images, predictions.ids[rows[place]])))
            axes.set_title(
                "\n".join([*textwrap.wrap(f"true: {true}", 38), *textwrap.wrap(f"said: {said}", 38)]), fontsize=6, loc="left"
            )
    return drawn.content
