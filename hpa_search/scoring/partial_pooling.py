"""Calibration by partial pooling: a network is over- or underconfident as a whole, so classes share a map.

On real predictions the slopes of all 28 classes lie close together. For networks trained with a focal loss they are 2.5 to 2.9.
So the other classes say more about a rare class's slope than its few positives do. The loss also moves all offsets alike.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from hpa_search.scoring.calibration import Floats, PenalisedLoss, Platt, clipped_columns, fit_columns
from hpa_search.scoring.metrics import Booleans, as_labels

RIDGE_SLOPE = 20.0
"""The prior spread of a class's slope around the shared slope: a factor of 1 +- 0.22 (the ridge is the inverse variance)."""
RIDGE_OFFSET = 1.0
"""The prior spread of a class's offset around the shared offset: a standard deviation of 1."""

_LEAST_SLOPE = 0.01
_LAST_STEP = 1e-6
_MAX_STEPS = 200
# The relative rounding error of a summed loss.
_ROUNDING = 1e-12
# The ridge of parameters without a prior: it matters only if labels are separable, or all equal.
_FREE = 1e-4


def calibrate(logits: ArrayLike, labels: ArrayLike, start: Platt | None = None) -> Platt:
    """Return the map p = sigmoid(a z + b) of each class; see `PooledFit`. All arrays are (n, k)."""
    return PooledFit.of(logits, labels, start).platt


@dataclass(frozen=True, eq=False)
class PooledFit:
    """A calibration in two steps: a map for all classes, then a map ``around`` it for each class.

    The ``shared`` map is u = a0 z + b0; see `shared_map`. The map of each class is p = sigmoid(a u + b). It minimises
    log losses + RIDGE_SLOPE/2 (a - 1)^2 + RIDGE_OFFSET/2 b^2. This is the posterior mode under normal priors (Platt 1999).
    Partial pooling follows Gelman and Hill 2007, chapter 12. Scaled or shifted logits give the same probabilities.
    """

    shared: tuple[float, float]
    around: Platt
    loss: PenalisedLoss

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike, start: Platt | None = None) -> "PooledFit":
        """Fit to ``logits`` (n, k) and ``labels`` (n, k).

        ``start``, a calibration of nearly the same rows, saves time. It changes the result by less than 1e-8.
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
        """Both steps as a single map of the logits."""
        slope, offset = self.shared
        return Platt(self.around.slope * slope, self.around.slope * offset + self.around.offset)

    def moderated(self) -> Floats:
        """Return the probabilities (n, k) of the fitted rows, shrunk to 0.5 by the fit's uncertainty.

        The log odds v of a class are divided by sqrt(1 + pi/8 var v) (MacKay 1992, "The evidence framework applied to
        classification networks"). The variance is that of the second step, by the Laplace approximation. It is large for a
        class with one positive, and small for a class with fifty. A class without positives is not moderated: nothing was
        fitted to it.
        """
        columns, point = self.loss.columns, np.stack([self.around.slope, self.around.offset])
        aa, ab, bb = self.loss.evaluate(np.arange(len(columns)), point)[2][:, :, None]
        variance = (bb * columns**2 - 2 * ab * columns + aa) / (aa * bb - ab**2)
        counted = (self.loss.positives > 0)[:, None] * variance
        odds = point[0][:, None] * columns + point[1][:, None]
        return np.asarray(expit(odds / np.sqrt(1 + np.pi / 8 * counted))).T


def shared_map(columns: Floats, labels: Booleans, start: Platt | None = None) -> tuple[float, float]:
    """Return slope a and offset b0 of the map p = sigmoid(a z + b0) that fits all classes.

    ``columns`` (k, n) are their logits. All classes have the slope a. Each has its own offset, which spreads around b0 with
    variance 1/RIDGE_OFFSET. The slope is at least 0.01 per standard deviation of all logits. It reaches this bound if the
    classes together rank worse than chance. Newton's method starts at ``start``. It works on standardised logits, because on
    saturated logits the loss is flat.
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
    """Return the minimum of the joint ``loss``, by damped Newton steps. `_step` explains ``point``."""
    value, step = _step(loss, point)
    scale = 1.0
    for _ in range(_MAX_STEPS):
        if _small(step, point):
            return point + step
        found, next_step = _step(loss, tried := point + scale * step)
        # Rounding of a loss over thousands of rows hides its last fall, so a small next step counts as well.
        if found <= value + _ROUNDING * (1 + abs(value)) or _small(next_step, tried):
            point, value, step, scale = tried, found, next_step, 1.0
        else:
            scale /= 2
    raise AssertionError("the calibration that the classes share did not converge")


def _small(step: Floats, point: Floats) -> bool:
    return bool(np.abs(step).max() < _LAST_STEP * (1 + np.abs(point).max()))


def _step(loss: PenalisedLoss, point: Floats) -> tuple[float, Floats]:
    """Return the loss at ``point`` and the Newton step from there.

    Both hold the slope, the shared offset, and the k offsets of the classes. The k offsets interact only through the first two.
    So each is eliminated on its own. The shared offset has a tiny ridge, too. Without it a problem without positives has no
    minimum.
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
