"""A contact sheet of a dataset's images and a table of its labels."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from hpa_search.data.resize import resize
from hpa_search.files import whole
from hpa_search.labels import LABELS, parse_target

TILE = 192
"""Height and width in pixels of one image of the sheet."""
GAP = 8
LINE = 14
COLUMNS = 6


def composite(images: np.ndarray) -> np.ndarray:
    """Colour uint8 images (n, 4, H, W) as uint8 (n, H, W, 3).

    Red, green and blue stay; yellow is added to red and green.
    """
    red, green, blue, yellow = np.moveaxis(images.astype(np.uint16), 1, 0)
    return np.stack([red + yellow, green + yellow, blue], axis=-1).clip(max=255).astype(np.uint8)


def write_sheet(images: np.ndarray, targets: Sequence[str], path: Path) -> None:
    """Write a PNG of uint8 images (n, 4, H, W), six a row.

    The names of an image's labels stand below it. ``targets`` has the label ids of each image as "0 16 25". Raises ValueError
    if there are none, or if their number differs.
    """
    if len(images) != len(targets) or not targets:
        raise ValueError(f"{len(images)} images and {len(targets)} targets; expected as many of each, and at least one")
    captions = [_caption(target) for target in targets]
    height = TILE + GAP + LINE * max(len(caption) for caption in captions)
    rows = -(-len(targets) // COLUMNS)
    sheet = Image.new("RGB", (GAP + min(COLUMNS, len(targets)) * (TILE + GAP), GAP + rows * (height + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=LINE - 2)
    for index, (tile, caption) in enumerate(zip(composite(resize(images, TILE)), captions, strict=True)):
        left, top = GAP + index % COLUMNS * (TILE + GAP), GAP + index // COLUMNS * (height + GAP)
        sheet.paste(Image.fromarray(tile), (left, top))
        for number, line in enumerate(caption):
            draw.text((left, top + TILE + 2 + number * LINE), line, fill="black", font=font)
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG")


def label_counts(labels: np.ndarray) -> pd.DataFrame:
    """Return a table of bool labels (n, 28), a row a class.

    Its columns are label (the id), name, count and percent of the images.
    """
    counts = labels.sum(axis=0)
    percent = 100 * counts / max(len(labels), 1)
    return pd.DataFrame({"label": range(len(LABELS)), "name": LABELS, "count": counts, "percent": percent})


def examples(labels: np.ndarray) -> np.ndarray:
    """Return the rows of a contact sheet, sorted and distinct.

    ``labels`` are bool (n, 28). Each class takes its first row not chosen yet, the rarest class first. A class whose rows are
    all chosen takes none.
    """
    chosen: set[int] = set()
    for label in np.argsort(labels.sum(axis=0), kind="stable"):
        chosen.update([int(row) for row in np.flatnonzero(labels[:, label]) if int(row) not in chosen][:1])
    return np.array(sorted(chosen), dtype=int)


def _caption(target: str) -> list[str]:
    names = ", ".join(LABELS[label] for label in parse_target(target))
    return textwrap.wrap(names, width=TILE // 6)
