"""Choose the training rows of an epoch; rare classes may repeat.

A sampling gives each row its mean number of copies in a pass. To add a sampling, register one function here.
"""

import csv
import io
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpa_search.config import TrialConfig
from hpa_search.labels import LABELS
from hpa_search.registry import Registry

RowNumbers = NDArray[np.int64]
Labels = NDArray[np.bool_]

Sampling = Callable[[TrialConfig, Labels], NDArray[np.float64]]
"""Returns the expected copies (m,) of each row, above 0, from the configuration and the training rows' labels (m, 28)."""

SAMPLINGS: Registry[Sampling] = Registry("sampling")

UNIT = 1 << 30
"""Copies are counted in units of 1 / UNIT, so that sums over any number of passes are exact."""


def epoch_rows(config: TrialConfig, rows: RowNumbers, labels: Labels, *, seed: int, epoch: int) -> RowNumbers:
    """Return the rows that ``epoch``, counted from 1, trains on, in order.

    ``rows`` (m,) are dataset rows; ``labels`` (m, 28) are their labels. The result depends on the arguments alone.

    The sampling gives a row k + f expected copies, k whole and 0 <= f < 1. Each pass 1, 2, ... holds the row k times. In the
    fraction f of all passes, it holds the row once more. A generator of ``seed`` and the pass shuffles the pass.

    Epoch e is pass e, unless `steps_per_epoch` is set. Then the passes are laid end to end. An epoch is the next
    steps_per_epoch x batch_size rows. So without a sampling, no row repeats before every row was seen.
    """
    passes = _Passes(rows, SAMPLINGS[config.sampling](config, labels), seed)
    if config.steps_per_epoch is None:
        return passes.rows(epoch)
    length = config.steps_per_epoch * config.batch_size
    return passes.piece((epoch - 1) * length, epoch * length)


class _Passes:
    """The endless sequence of passes over the training rows.

    A systematic sample decides which rows get the extra copy of their fraction. All copies of a pass lie along a line, in
    random order. A copy counts if a whole number lies in it. The next pass continues the line. The line's start is drawn
    once.

    So each row has its exact chance. Passes differ in length by at most one row. The start of a pass is known without the
    passes before it.
    """

    def __init__(self, rows: RowNumbers, copies: NDArray[np.float64], seed: int) -> None:
        if copies.shape != rows.shape or not (np.isfinite(copies).all() and (copies > 0).all()):
            raise ValueError("a sampling must give each training row a number of copies above 0")
        self._rows = rows
        self._units = np.maximum(1, np.rint(copies * UNIT)).astype(np.int64)
        self._a_pass = int(self._units.sum())
        self._start = int(np.random.default_rng([seed, 0]).integers(UNIT))
        self._seed = seed

    def rows(self, number: int) -> RowNumbers:
        """Return the rows of pass ``number``, counted from 1, in order."""
        generator = np.random.default_rng([self._seed, number])
        if not (self._units % UNIT).any():  # whole copies: every pass holds the same rows
            return generator.permutation(np.repeat(self._rows, self._units // UNIT))
        order = generator.permutation(len(self._rows))
        begin = (self._start + (number - 1) * self._a_pass) % UNIT
        line = np.concatenate([[begin], begin + np.cumsum(self._units[order])])
        return generator.permutation(np.repeat(self._rows[order], np.diff(line // UNIT)))

    def piece(self, start: int, stop: int) -> RowNumbers:
        """Return positions ``start`` to ``stop`` - 1 of all passes laid end to end."""
        parts: list[RowNumbers] = []
        first = self._pass_at(start)
        before = self._length(first - 1)
        for number in count(first):
            parts.append(self.rows(number)[max(0, start - before) : stop - before])
            before = self._length(number)
            if before >= stop:
                return np.concatenate(parts)
        raise AssertionError("there is always a next pass")

    def _length(self, number: int) -> int:
        """Return the number of rows in passes 1 to ``number`` together."""
        return (self._start + number * self._a_pass) // UNIT

    def _pass_at(self, position: int) -> int:
        """Return the pass that holds ``position``: the first whose `_length` is above it."""
        return -((self._start - (position + 1) * UNIT) // self._a_pass)


@SAMPLINGS.register("none")
def _none(config: TrialConfig, labels: Labels) -> NDArray[np.float64]:
    return np.ones(len(labels))


@SAMPLINGS.register("minority")
def _minority(config: TrialConfig, labels: Labels) -> NDArray[np.float64]:
    """Give rows with a rare label `sampling_copies`, other rows 1 (Tiabrat, DATS6203).

    A label is rare if less than `sampling_share` of the rows have it. In the competition's training table, .01 selects that
    report's seven classes.
    """
    assert config.sampling_share is not None and config.sampling_copies is not None
    rare = labels.mean(axis=0) < config.sampling_share
    return np.where(labels[:, rare].any(axis=1), float(config.sampling_copies), 1.0)


@SAMPLINGS.register("repeat_factor")
def _repeat_factor(config: TrialConfig, labels: Labels) -> NDArray[np.float64]:
    """Give the row's largest max(1, sqrt(t / f_c)), at most `sampling_copies`.

    t is `sampling_share`; f_c is the share of rows with label c. Gupta, Dollar and Girshick 2019 (LVIS, arXiv 1908.03195),
    section 3.2.
    """
    assert config.sampling_share is not None and config.sampling_copies is not None
    factors = np.sqrt(config.sampling_share / _shares(labels))
    return np.where(labels, factors, 1.0).max(axis=1).clip(1, config.sampling_copies)


@SAMPLINGS.register("sqrt")
def _sqrt(config: TrialConfig, labels: Labels) -> NDArray[np.float64]:
    """Give copies in proportion to the mean of 1 / sqrt(f_c) over the row's labels.

    f_c is the share of rows with label c. The copies sum to the number of rows. A row without labels counts as if its only
    label were on every row.
    """
    weights = labels @ (1 / np.sqrt(_shares(labels))) / np.maximum(1, labels.sum(axis=1))
    weights[~labels.any(axis=1)] = 1.0
    return weights * len(labels) / weights.sum()


def _shares(labels: Labels) -> NDArray[np.float64]:
    """Return each label's share of the rows (28,).

    An absent label counts as one row.
    """
    return np.maximum(1, labels.sum(axis=0)) / len(labels)


class Frequency(NamedTuple):
    """Rows with a label, and their share: in training and in an epoch."""

    label: int
    name: str
    train_rows: int
    train_share: float
    epoch_rows: int
    epoch_share: float


def frequency_table(labels_train: Labels, labels_epoch: Labels) -> list[Frequency]:
    """Return each label's frequencies.

    ``labels_train`` (m, 28) are those of the training rows. ``labels_epoch`` (e, 28) are those of an epoch's rows, copies
    included.
    """
    counts = [labels.sum(axis=0).tolist() for labels in (labels_train, labels_epoch)]
    return [
        Frequency(index, name, train, train / len(labels_train), epoch, epoch / len(labels_epoch))
        for index, (name, train, epoch) in enumerate(zip(LABELS, *counts, strict=True))
    ]


def frequencies_csv(labels_train: Labels, labels_epoch: Labels) -> str:
    """Return `frequency_table` as CSV text: a header, then a line a label. Shares have six decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Frequency._fields)
    for row in frequency_table(labels_train, labels_epoch):
        writer.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in row)
    return text.getvalue()
