"""The stains of an image, one a channel: their colours, letters, order and number."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stain:
    """One channel: ``colour`` ends its file's name, ``letter`` names it in a setting, ``shows`` is the structure it marks."""

    colour: str
    letter: str
    shows: str


STAINS = (
    Stain("red", "r", "microtubules"),
    Stain("green", "g", "protein of interest"),
    Stain("blue", "b", "nucleus"),
    Stain("yellow", "y", "endoplasmic reticulum"),
)
"""The stains in the order of the channels in every image array."""

NUM_STAINS = len(STAINS)
COLOURS = tuple(stain.colour for stain in STAINS)
LETTERS = "".join(stain.letter for stain in STAINS)
