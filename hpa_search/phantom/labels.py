"""The labels of a phantom's images, as frequent as in the competition's training images."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from hpa_search.errors import UserError
from hpa_search.labels import LABELS, NUM_LABELS, parse_target, to_vector

LabelSet = tuple[int, ...]


@cache
def real_label_sets() -> tuple[tuple[LabelSet, ...], NDArray[np.int64]]:
    """Return the 577 distinct label sets of the competition's 31,072 training images, and the number of images with each.

    Drawing whole sets keeps every dependence between labels. For example, Lysosomes never come without Endosomes.
    """
    lines = files("hpa_search.phantom").joinpath("label_sets.csv").read_text(encoding="utf-8").split("\n")[1:]
    pairs = [line.split(",") for line in lines if line]
    return tuple(parse_target(target) for target, _ in pairs), np.array([int(count) for _, count in pairs])


def draw_label_sets(number: int, lift: int, rng: Generator, strict: bool = True) -> list[LabelSet]:
    """Draw the label sets of ``number`` images, at real frequencies, then give each class at least ``lift`` images.

    Classes are lifted one by one, the rarest in reality first. Images that no class needs are redrawn from the real sets with
    that class. So every image carries a real label set, and only the rare classes' shares change. Raises UserError if
    ``number`` images cannot hold ``lift`` of each class. Without ``strict``, it lifts as far as possible instead.
    """
    sets, counts = real_label_sets()
    member = np.array([to_vector(labels) for labels in sets])
    drawn = rng.choice(len(sets), size=number, p=counts / counts.sum())
    totals = member[drawn].sum(axis=0)
    for label in np.argsort(counts @ member, kind="stable"):
        while totals[label] < lift:
            place = _spare_image(member[drawn], totals, int(label), lift, rng)
            if place is None:
                break
            weights = counts * member[:, label]
            chosen = rng.choice(len(sets), p=weights / weights.sum())
            totals += member[chosen].astype(int) - member[drawn[place]]
            drawn[place] = chosen
    if strict and (totals < lift).any():
        short = ", ".join(LABELS[label] for label in np.flatnonzero(totals < lift))
        raise UserError(
            f"{number} images cannot hold {lift} images of each of the {NUM_LABELS} classes "
            f"(short of {short}): ask for more images or a smaller lift"
        )
    return [sets[index] for index in drawn]


def _spare_image(held: NDArray[np.bool_], totals: NDArray[np.int64], label: int, lift: int, rng: Generator) -> int | None:
    """Return a random image of ``held`` (n, 28) that no class needs for its ``lift`` images; None if there is none."""
    spare = np.flatnonzero(~held[:, label] & ~held[:, totals <= lift].any(axis=1))
    return int(rng.choice(spare)) if len(spare) else None


def class_counts(label_sets: Sequence[LabelSet]) -> NDArray[np.int64]:
    """Return the number of ``label_sets`` that hold each class, shape (28,)."""
    return np.sum([to_vector(labels) for labels in label_sets], axis=0, dtype=np.int64)
