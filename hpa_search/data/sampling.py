"""Which training rows an epoch holds, and how often: rare classes may be shown more often than they occur.

A sampling says how many copies of each row a pass over the training part holds on average. A new one is one function,
registered here, and nothing else.
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

Rows = NDArray[np.int64]
Labels = NDArray[np.bool_]

Sampling = Callable[[TrialConfig, Labels], NDArray[np.float64]]
"""Takes the configuration and the training rows' labels (m, 28), returns the expected copies (m,) of each, above 0."""

SAMPLINGS: Registry[Sampling] = Registry("sampling")

UNIT = 1 << 30
"""Copies are counted in this fraction of one, so that sums over any number of passes are exact."""


def epoch_rows(config: TrialConfig, rows: Rows, labels: Labels, *, seed: int, epoch: int) -> Rows:
    """Return the rows that ``epoch``, counted from 1, trains on, in their order: a function of the arguments alone.

    ``rows`` (m,) are dataset rows, ``labels`` (m, 28) theirs. Pass 1, 2, ... holds row i, r_i being its expected
    copies, floor(r_i) times or once more, the latter in the fraction r_i - floor(r_i) of all passes, shuffled by a
    generator of ``seed`` and the pass. Epoch e is pass e; with `steps_per_epoch` the epochs are instead consecutive
    pieces of steps_per_epoch x batch_size rows of all passes one after the other, so that without a sampling nothing is
    seen twice before everything was seen once.
    """
    passes = _Passes(rows, SAMPLINGS[config.sampling](config, labels), seed)
    if config.steps_per_epoch is None:
        return passes.rows(epoch)
    length = config.steps_per_epoch * config.batch_size
    return passes.piece((epoch - 1) * length, epoch * length)


class _Passes:
    """The endless sequence of passes over the training rows.

    Of each pass, which rows get the copy that their fraction asks for is a systematic sample: all copies are laid out
    along a line, in an order drawn anew for the pass, and those count in which a whole number lies. The line goes on
    from pass to pass, from a start drawn once. Thus each row has the chance it should have, passes differ in length by
    one row at most, and where a pass begins is known without making those before it.
    """

    def __init__(self, rows: Rows, copies: NDArray[np.float64], seed: int) -> None:
        if copies.shape != rows.shape or not (np.isfinite(copies).all() and (copies > 0).all()):
            raise ValueError("a sampling must give each training row a number of copies above 0")
        self._rows = rows
        self._units = np.maximum(1, np.rint(copies * UNIT)).astype(np.int64)
        self._a_pass = int(self._units.sum())
        self._start = int(np.random.default_rng([seed, 0]).integers(UNIT))
        self._seed = seed

    def rows(self, number: int) -> Rows:
        """Return the rows of pass ``number``, from 1, in their order."""
        generator = np.random.default_rng([self._seed, number])
        if not (self._units % UNIT).any():
            return generator.permutation(np.repeat(self._rows, self._units // UNIT))
        order = generator.permutation(len(self._rows))
        begin = (self._start + (number - 1) * self._a_pass) % UNIT
        line = np.concatenate([[begin], begin + np.cumsum(self._units[order])])
        return generator.permutation(np.repeat(self._rows[order], np.diff(line // UNIT)))

    def piece(self, start: int, stop: int) -> Rows:
        """Return positions ``start`` to ``stop`` (not included), from 0, of all passes one after the other."""
        parts: list[Rows] = []
        first = self._pass_at(start)
        before = self._length(first - 1)
        for number in count(first):
            parts.append(self.rows(number)[max(0, start - before) : stop - before])
            before = self._length(number)
            if before >= stop:
                return np.concatenate(parts)
        raise AssertionError("there is always a next pass")

    def _length(self, number: int) -> int:
        """Return how many rows passes 1 to ``number`` hold together."""
        return (self._start + number * self._a_pass) // UNIT

    def _pass_at(self, position: int) -> int:
        """Return the pass that holds ``position``: the first with `_length` above it."""
        return -((self._start - (position + 1) * UNIT) // self._a_pass)


@SAMPLINGS.register("none")
def _none(config: TrialConfig, labels: Labels) -> NDArray[np.float64]:
    return np.ones(len(labels))


@SAMPLINGS.register("minority")
def _minority(config: TrialConfig, labels: Labels) -> NDArray[np.float64]:
    """`sampling_copies` of each row with a label that less than `sampling_share` of the rows have (Tiabrat, DATS6203).

    Of the competition's training table a share of .01 selects that report's seven classes.
    """
    assert config.sampling_share is not None and config.sampling_copies is not None
    rare = labels.mean(axis=0) < config.sampling_share
    return np.where(labels[:, rare].any(axis=1), float(config.sampling_copies), 1.0)


@SAMPLINGS.register("repeat_factor")
def _repeat_factor(config: TrialConfig, labels: Labels) -> NDArray[np.float64]:
    """max(1, sqrt(t / f_c)), the largest of the row's labels, at most `sampling_copies`; t is `sampling_share`.

    Gupta, Dollar and Girshick 2019 (LVIS, arXiv 1908.03195), section 3.2, f_c being the share of rows with label c.
    """
    assert config.sampling_share is not None and config.sampling_copies is not None
    factors = np.sqrt(config.sampling_share / _shares(labels))
    return np.where(labels, factors, 1.0).max(axis=1).clip(1, config.sampling_copies)


@SAMPLINGS.register("sqrt")
def _sqrt(config: TrialConfig, labels: Labels) -> NDArray[np.float64]:
    """In proportion to the mean of 1 / sqrt(f_c) over the row's labels, scaled so that they sum to the number of rows.

    f_c is the share of rows with label c. A row without labels counts as one whose only label all rows have.
    """
    weights = labels @ (1 / np.sqrt(_shares(labels))) / np.maximum(1, labels.sum(axis=1))
    weights[~labels.any(axis=1)] = 1.0
    return weights * len(labels) / weights.sum()


def _shares(labels: Labels) -> NDArray[np.float64]:
    """Return the share (28,) of rows with each label, that of one row where there is none."""
    return np.maximum(1, labels.sum(axis=0)) / len(labels)


class Frequency(NamedTuple):
    """How many rows have a label, and their share, in the training part and among the rows that an epoch holds."""

    label: int
    name: str
    train_rows: int
    train_share: float
    epoch_rows: int
    epoch_share: float


def frequency_table(labels_train: Labels, labels_epoch: Labels) -> list[Frequency]:
    """Return each label's frequencies; ``labels_train`` (m, 28), ``labels_epoch`` (e, 28) of an epoch's rows, copies too."""
    counts = [labels.sum(axis=0).tolist() for labels in (labels_train, labels_epoch)]
    return [
        Frequency(index, name, train, train / len(labels_train), epoch, epoch / len(labels_epoch))
        for index, (name, train, epoch) in enumerate(zip(LABELS, *counts, strict=True))
    ]


def frequencies_csv(labels_train: Labels, labels_epoch: Labels) -> str:
    """Return `frequency_table` as CSV text, a line a label below a line of names; shares to six decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Frequency._fields)
    for row in frequency_table(labels_train, labels_epoch):
        writer.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in row)
    return text.getvalue()
