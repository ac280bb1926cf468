"""The 28 location labels of the Human Protein Atlas task, in the competition's order."""

import re
from collections.abc import Iterable

import numpy as np

LABELS: tuple[str, ...] = (
    "Nucleoplasm",
    "Nuclear membrane",
    "Nucleoli",
    "Nucleoli fibrillar center",
    "Nuclear speckles",
    "Nuclear bodies",
    "Endoplasmic reticulum",
    "Golgi apparatus",
    "Peroxisomes",
    "Endosomes",
    "Lysosomes",
    "Intermediate filaments",
    "Actin filaments",
    "Focal adhesion sites",
    "Microtubules",
    "Microtubule ends",
    "Cytokinetic bridge",
    "Mitotic spindle",
    "Microtubule organizing center",
    "Centrosome",
    "Lipid droplets",
    "Plasma membrane",
    "Cell junctions",
    "Mitochondria",
    "Aggresome",
    "Cytosol",
    "Cytoplasmic bodies",
    "Rods & rings",
)
NUM_LABELS = len(LABELS)

_WITH_POINT = re.compile(r"([0-9]+)\.0*")
"""A label id that a program wrote as a decimal number."""


def parse_target(text: str) -> tuple[int, ...]:
    """Return the label ids of a target such as "0 16 25", sorted.

    Raises ValueError for an empty target, other words than numbers, repeated ids, and ids outside 0..27.
    """
    words = text.split()
    if not words:
        raise ValueError("no label; every image has at least one")
    for word in words:
        if not (word.isascii() and word.isdigit()):
            hint = f"; write it as {whole[1]}" if (whole := _WITH_POINT.fullmatch(word)) else ""
            raise ValueError(f"'{word}' is not a label id; expected numbers from 0 to {NUM_LABELS - 1} separated by spaces{hint}")
        if int(word) >= NUM_LABELS:
            raise ValueError(f"label {word} is out of range 0 to {NUM_LABELS - 1}")
    ids = sorted({int(word) for word in words})
    if len(ids) != len(words):
        raise ValueError(f"a label is repeated in '{text}'; write each once")
    return tuple(ids)


def to_vector(ids: Iterable[int]) -> np.ndarray:
    """Return a bool vector (28,) that is true at ``ids``."""
    vector = np.zeros(NUM_LABELS, dtype=bool)
    vector[list(ids)] = True
    return vector


def to_target(vector: np.ndarray) -> str:
    """Return the label ids of a bool vector (28,) as text such as "0 16 25"."""
    return " ".join(str(index) for index in np.flatnonzero(vector))
