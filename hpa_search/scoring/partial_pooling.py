"""Calibration that lets classes share what they have in common: networks are over- or underconfident as a whole.

On real predictions the slopes of all 28 classes lie near one another (2.5 to 2.9 for networks trained with a focal loss), so
the few positives of a rare class say less about its slope than the other classes do. The loss also moves all offsets alike.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from hpa_search.scoring.calibration import Floats, PenalisedLoss, Platt, clipped_columns, fit_columns
from hpa_search.scoring.metrics import Booleans, as_labels

RIDGE_SLOPE = 20.0
"""The slopes of the classes spread around the shared one by a factor of 1 +- 0.22 (the ridge is the inverse variance)."""
RIDGE_OFFSET = 1.0
"""The offsets spread around the shared one with a standard deviation of 1."""

_LEAST_SLOPE = 0.01
_LAST_STEP = 1e-6
_MAX_STEPS = 200
# Relative error of a summed loss.
_ROUNDING = 1e-12
# The ridge of what has no prior: it matters only where labels are separable, or all alike.
_FREE = 1e-4


def calibrate(logits: ArrayLike, labels: ArrayLike, start: Platt | None = None) -> Platt:
    """Return the map p = sigmoid(a z + b) of each class of ``logits`` (n, k); see `PooledFit`."""
    return PooledFit.of(logits, labels, start).platt


@dataclass(frozen=True, eq=False)
class PooledFit:
    """A calibration of given rows in two steps: one map for all classes, then one around it for each class.

    The first, u = a0 z + b0, is that of `shared_map`. The second, of each class, minimises the sum of log losses of
    sigmoid(a u + b) + RIDGE_SLOPE/2 (a - 1)^2 + RIDGE_OFFSET/2 b^2: the posterior mode under normal priors (Platt 1999;
    partial pooling as in Gelman and Hill 2007, chapter 12). Logits that are multiplied by a factor or shifted by a constant
    give the same probabilities.
    """

    shared: tuple[float, float]
    around: Platt
    loss: PenalisedLoss

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike, start: Platt | None = None) -> "PooledFit":
        """Fit to ``logits`` (n, k) and ``labels`` (n, k); ``start``, of nearly the same rows, saves time and changes < 1e-8.

        Raises ValueError for NaN logits or unequal shapes.
        """
        truth = as_labels(labels)
        columns = clipped_columns(logits, truth.shape)
        slope, offset = shared_map(columns, truth, start)
        loss = PenalisedLoss(slope * columns + offset, truth, RIDGE_SLOPE, RIDGE_OFFSET)
        first = None if start is None else Platt(start.slope / slope, start.offset - start.slope / slope * offset)
        return cls((slope, offset), fit_columns(loss, first), loss)

    @property
    def platt(self) -> Platt:
        """Both steps as one map of the logits."""
        slope, offset = self.shared
        return Platt(self.around.slope * slope, self.around.slope * offset + self.around.offset)

    def moderated(self) -> Floats:
        """Return the probabilities (n, k) of the rows that it was fitted to, its uncertainty counted in.

        The log odds v of a class are divided by sqrt(1 + pi/8 var v), with the variance that the second step's slope and offset
        have under the Laplace approximation (MacKay 1992, "The evidence framework applied to classification networks"). Much
        for a class with one positive, hardly anything for one with fifty. A class without positives is left as it is: it
        was not fitted to any.
        """
        columns, point = self.loss.columns, np.stack([self.around.slope, self.around.offset])
        aa, ab, bb = self.loss.evaluate(np.arange(len(columns)), point)[2][:, :, None]
        variance = (bb * columns**2 - 2 * ab * columns + aa) / (aa * bb - ab**2)
        counted = (self.loss.positives > 0)[:, None] * variance
        odds = point[0][:, None] * columns + point[1][:, None]
        return np.asarray(expit(odds / np.sqrt(1 + np.pi / 8 * counted))).T


def shared_map(columns: Floats, labels: Booleans, start: Platt | None = None) -> tuple[float, float]:
    """Return slope a and offset b0 of p = sigmoid(a z + b0) that fit all classes of logits, ``columns`` (k, n), best together.

    The classes have one slope, and offsets b of their own that spread around b0 with variance 1/RIDGE_OFFSET. Measured in
    standard deviations of all logits the slope is at least 0.01, which it is where the classes together rank worse than chance.
    Newton's method on standardised logits, for on saturated ones the loss is flat; ``start`` is where it begins.
    """
    middle, unit = float(columns.mean()), float(columns.std()) or 1.0
    loss = PenalisedLoss((columns - middle) / unit, labels, _FREE, RIDGE_OFFSET)
    point = np.zeros(2 + len(columns))
    point[0] = 1.0
    if start is not None:
        offsets = start.offset + start.slope * middle
        point = np.concatenate([[start.slope.mean() * unit, offsets.mean()], offsets])
    slope, offset = _minimise(loss, point)[:2]
    slope = max(slope, _LEAST_SLOPE) / unit
    return float(slope), float(offset - slope * middle)


def _minimise(loss: PenalisedLoss, point: Floats) -> Floats:
    """Return the minimum of the classes' joint ``loss`` by Newton steps, halved until it falls; see `_step` for ``point``."""
    value, step = _step(loss, point)
    scale = 1.0
    for _ in range(_MAX_STEPS):
        if _small(step, point):
            return point + step
        found, next_step = _step(loss, tried := point + scale * step)
        # The loss of thousands of rows is rounded too much to show the last fall.
        if found <= value + _ROUNDING * (1 + abs(value)) or _small(next_step, tried):
            point, value, step, scale = tried, found, next_step, 1.0
        else:
            scale /= 2
    raise AssertionError("the calibration that the classes share did not converge")


def _small(step: Floats, point: Floats) -> bool:
    return bool(np.abs(step).max() < _LAST_STEP * (1 + np.abs(point).max()))


def _step(loss: PenalisedLoss, point: Floats) -> tuple[float, Floats]:
    """Return the loss at ``point`` and the Newton step from there; both hold slope, shared offset, and the k offsets.

    The offsets of the classes meet each other by way of the first two only, so they are eliminated one by one. The shared offset
    has a ridge too, next to nothing: without it there is no minimum where no class has a positive.
    """
    (slope, shared), offsets, ridge = point[:2], point[2:], RIDGE_OFFSET
    loss.centre[1] = shared
    values, (along, across), (aa, ab, bb) = loss.evaluate(
        np.arange(len(offsets)), np.stack([np.full_like(offsets, slope), offsets])
    )
    gradient = np.array([along.sum(), _FREE * shared - ridge * (offsets - shared).sum()])
    cross = np.stack([ab, np.full_like(ab, -ridge)])
    hessian = np.diag([aa.sum(), _FREE + ridge * len(offsets)]) - (cross / bb) @ cross.T
    first = -np.linalg.solve(hessian, gradient - cross @ (across / bb))
    return float(values.sum() + _FREE / 2 * shared**2), np.concatenate([first, -(across + cross.T @ first) / bb])
