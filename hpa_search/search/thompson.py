"""Suggest a configuration by Thompson sampling from a Gaussian process of the scores that are known.

For each of some candidates a score at the top rung is drawn from what the model thinks possible, and the candidate with the highest
draw is suggested (Thompson 1933; for many candidates, as here, Salinas et al. 2023). Each is drawn by itself, not together with its
neighbours: the highest of so many draws is near an upper confidence bound of two to three standard deviations. So suggestions made
side by side differ, and what is uncertain is tried. Some candidates are random. The others come in rounds, each from changes to the
best so far and to the best that is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpa_search.config import Value
from hpa_search.search.encoding import Codes, Encoding
from hpa_search.search.gaussian_process import GaussianProcess, Scores
from hpa_search.search.known import Known
from hpa_search.space.search import Search

RANDOM, ROUNDS, PARENTS, CHILDREN = 400, 3, 16, 16
MOST_SCORES = 240
"""The model is told so many scores at most. Its cost grows with their third power."""
_Row = tuple[int, int, float]
"""A trial's place among those with a score, the index of a rung, and the score that is expected by it."""
WIDEST = 0.2
"""The standard deviation of a number's change in the first round, as a share of its range. It halves with each round."""
CHANGED_CHOICES, CHANGED_NUMBERS = 1.5, 0.4
"""The probability that a choice is drawn anew, times the number of dimensions, and the probability that a number changes."""


def likely_best(search: Search, known: Sequence[Known], rng: np.random.Generator) -> dict[str, Value] | None:
    """Return a configuration by Thompson sampling, or None if all candidates are excluded. Some of ``known`` must have a score."""
    encoding = Encoding(search)
    model, codes = _model(search, encoding, known, rng)
    candidates = _Candidates(encoding, model, rng)
    candidates.add(encoding.random(rng, RANDOM))
    best_known = codes[np.argsort(-model.at_the_top(encoding.features(codes))[0], kind="stable")[: PARENTS // 2]]
    parents = np.concatenate([candidates.best(PARENTS // 2), best_known])
    for turn in range(ROUNDS):
        candidates.add(_children(encoding, parents, WIDEST / 2**turn, rng))
        parents = candidates.best(PARENTS)
    return encoding.point(parents[0]) if len(parents) else None


def _model(search: Search, encoding: Encoding, known: Sequence[Known], rng: np.random.Generator) -> tuple[GaussianProcess, Codes]:
    """Return a model of what is known, and the codes of all that is known."""
    scored = [trial for trial in known if trial.scores]
    codes = encoding.codes([trial.parameters for trial in scored])
    rows = _most_telling([(row, rung, score) for row, trial in enumerate(scored) for rung, score in trial.scores.items()])
    which, rungs, values = (np.array(column) for column in zip(*rows, strict=True))
    scores = Scores(encoding.features(codes)[which], rungs, _without_outliers(values.astype(float)))
    model = GaussianProcess(scores, rungs=len(search.rungs), owners=encoding.owners, is_choice=encoding.choices > 0, rng=rng)
    in_training = encoding.codes([trial.parameters for trial in known if not trial.scores])
    if len(in_training):
        model.expect(encoding.features(in_training))
    return model, np.concatenate([codes, in_training])


def _most_telling(rows: list[_Row]) -> list[_Row]:
    """Return at most MOST_SCORES scores: of trials with several the lowest rungs' go first."""
    highest = {row: rung for row, rung, _ in rows}
    order = sorted(range(len(rows)), key=lambda at: (rows[at][1] < highest[rows[at][0]], -rows[at][1]))
    return [rows[at] for at in sorted(order[:MOST_SCORES])]


def _without_outliers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores with the worst ones raised: how bad a bad one is says nothing of the good ones."""
    middle, high = np.quantile(values, [0.5, 0.9])
    return values if middle == high else np.maximum(values, middle - 2 * (high - middle))


@dataclass
class _Candidates:
    """The candidates so far, and the score drawn for each."""

    encoding: Encoding
    model: GaussianProcess
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self._codes, self._drawn = self.encoding.codes([]), np.empty(0)

    def add(self, codes: Codes) -> None:
        """Draw scores for further candidates, but for those that are excluded."""
        settled = self.encoding.settle(codes)
        if len(settled):
            drawn = self.rng.normal(*self.model.at_the_top(self.encoding.features(settled)))
            self._codes, self._drawn = np.concatenate([self._codes, settled]), np.concatenate([self._drawn, drawn])

    def best(self, count: int) -> Codes:
        """Return the candidates with the highest draws, the best first."""
        return self._codes[np.argsort(-self._drawn, kind="stable")[:count]]


def _children(encoding: Encoding, parents: Codes, width: float, rng: np.random.Generator) -> Codes:
    """Return changed copies of each parent. Choices are drawn anew, numbers move by ``width`` of their range, more or less."""
    copies, is_choice = np.repeat(parents, CHILDREN, axis=0), encoding.choices > 0
    fresh = encoding.random(rng, len(copies))
    copies = np.where(np.isnan(copies), fresh, copies)  # what does not exist may come to exist
    moved = np.clip(copies + rng.normal(0, width, copies.shape), 0, 1)
    change = rng.random(copies.shape) < np.where(is_choice, CHANGED_CHOICES / len(is_choice), CHANGED_NUMBERS)
    return np.where(change, np.where(is_choice, fresh, moved), copies)
