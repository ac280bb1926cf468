"""Calibration: a logistic map of each class's logits to probabilities (Platt 1999), pulled to the identity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.special import logit as exact_logit

from hpa_search.rounding import digits, in_unit, settled, spare
from hpa_search.scoring.metrics import Floats, as_labels, as_scores

_MAX_STEPS = 200
_LAST_STEP = 1e-6
# The relative rounding error of a summed loss.
_ROUNDING = 1e-12
# A diverged network gives logits of thousands, which slow the fit down; beyond 50 a logit carries no further information.
LARGEST_LOGIT = 50.0


def logit(probabilities: ArrayLike, margin: float = 1e-7) -> Floats:
    """Return log(p / (1 - p)) in float64, with p clipped to [margin, 1 - margin].

    So 0 and 1 give -16.1 and 16.1. Raises ValueError as `as_probabilities` does.
    """
    p = as_probabilities(probabilities).astype(np.float64, copy=False)
    return exact_logit(np.clip(p, margin, 1 - margin))


def as_probabilities(probabilities: ArrayLike, shape: tuple[int, ...] | None = None) -> NDArray[np.floating]:
    """Return ``probabilities`` as floats. Values that miss 0 or 1 by rounding are moved there.

    Raises ValueError for NaN, values further outside [0, 1], or a shape other than ``shape``.
    """
    p = as_scores(probabilities, shape, name="probabilities")
    try:
        return in_unit(p, spare(np.asarray(probabilities).dtype))
    except ValueError as error:
        raise ValueError(f"probabilities lie outside 0 to 1 ({error}; are they logits?)") from None


def frozen_vector(values: ArrayLike, field: str) -> Floats:
    """Return a read-only float64 copy (k,) of ``values``. Raises ValueError unless they are 1-D, finite and not empty."""
    vector = np.array(values, dtype=np.float64)
    if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
        raise ValueError(f"'{field}' must be a list of finite numbers, one a class")
    vector.setflags(write=False)
    return vector


@dataclass(frozen=True, eq=False)
class Platt:
    """The map p = sigmoid(slope * logit + offset) of each class.

    ``slope`` >= 0 and ``offset`` have shape (k,). Logits are clipped to [-50, 50] first.
    """

    slope: Floats
    offset: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "slope", frozen_vector(self.slope, "slope"))
        object.__setattr__(self, "offset", frozen_vector(self.offset, "offset"))
        if self.slope.shape != self.offset.shape:
            raise ValueError(f"{self.slope.size} slopes but {self.offset.size} offsets")
        if (least := settled(float(self.slope.min()), 0.0, float(self.slope.max()))) < 0:
            raise ValueError(f"'slope' must not be negative ({digits(least)}): the map would reverse a class's order")
        object.__setattr__(self, "slope", frozen_vector(self.slope.clip(min=0), "slope"))

    def probabilities(self, logits: ArrayLike) -> Floats:
        """Return the calibrated probabilities (n, k) of ``logits`` (n, k). Raises ValueError for NaN or another k."""
        return np.asarray(expit(self.logits(logits)))

    def logits(self, logits: ArrayLike) -> Floats:
        """Return the calibrated log odds (n, k) of ``logits`` (n, k). Raises ValueError for NaN or another k."""
        z = as_scores(logits, name="logits")
        if z.ndim != 2 or z.shape[1] != self.slope.size:
            raise ValueError(f"logits have shape {z.shape}, the calibration has {self.slope.size} classes")
        return np.asarray(self.slope * np.clip(z, -LARGEST_LOGIT, LARGEST_LOGIT) + self.offset)


def fit_platt(
    logits: ArrayLike,
    labels: ArrayLike,
    ridge_slope: float = 1.0,
    ridge_offset: float = 1.0,
    start: Platt | None = None,
) -> Platt:
    """Return the map p = sigmoid(a z + b) of each class, by penalised maximum likelihood.

    ``logits`` and ``labels`` are (n, k). Each class minimises its own sum:
    log losses + ``ridge_slope``/2 (a - 1)^2 + ``ridge_offset``/2 b^2. A ridge is the inverse variance of a Gaussian prior. Losses
    are summed, not averaged. So the prior fades as rows are added.

    A class without positives gets the finite optimum of the same sum. Its offset falls until the n probabilities sum to
    ``ridge_offset`` |b|. Its order stays unless its logits are high. A class worse than chance has its optimum at a < 0. It gets
    the best constant, a = 0. `partial_pooling.calibrate` lets the classes share their prior.

    ``start``, a calibration of nearly the same rows, saves time. It changes the result by less than 1e-8.
    Raises ValueError for NaN logits, unequal shapes, or a ridge <= 0.
    Platt 1999, "Probabilistic outputs for support vector machines". Damped Newton for all classes at once.
    """
    truth = as_labels(labels)
    if not (ridge_slope > 0 and ridge_offset > 0):
        raise ValueError(f"ridges must be positive, got {ridge_slope} and {ridge_offset}")
    return fit_columns(PenalisedLoss(clipped_columns(logits, truth.shape), truth, ridge_slope, ridge_offset), start)


def clipped_columns(logits: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Return ``logits`` of ``shape`` (n, k) as float64 columns (k, n), clipped. Raises ValueError for NaN."""
    columns = as_scores(logits, shape, name="logits").T.astype(np.float64, order="C", copy=True)
    return np.clip(columns, -LARGEST_LOGIT, LARGEST_LOGIT, out=columns)


def fit_columns(loss: "PenalisedLoss", start: Platt | None = None) -> Platt:
    """Return the map that minimises ``loss`` for each class; see `fit_platt`."""
    classes = len(loss.columns)
    first = (np.ones(classes), np.zeros(classes)) if start is None else (start.slope, start.offset)
    slope, offset = _minimise(loss, np.stack(first))
    for c in np.flatnonzero(slope < 0):
        slope[c], offset[c] = 0.0, loss.best_constant(int(c))
    return Platt(slope, offset)


class PenalisedLoss:
    """The penalised loss of each class by slope and offset; see `fit_platt`. ``columns`` are logits (k, n)."""

    def __init__(self, columns: Floats, labels: NDArray[np.bool_], ridge_slope: float, ridge_offset: float) -> None:
        self.columns, self.rows = columns, columns.shape[1]
        self.positives = labels.sum(axis=0).astype(np.float64)
        # The labels y enter the loss only by two sums: sum of log losses = sum softplus(a z + b) - a sum yz - b sum y.
        self.positive_logits = np.array([z[rows].sum() for z, rows in zip(columns, labels.T, strict=True)])
        self.ridge, self.centre = np.array([ridge_slope, ridge_offset]), np.array([[1.0], [0.0]])
        # Reuse the buffers: fresh arrays of this size cost more than the arithmetic.
        self._z, self._p, self._w = np.empty((3, *columns.shape))

    def evaluate(self, classes: NDArray[np.intp], point: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the loss (c,), gradient (2, c) and Hessian (3, c) of ``classes`` at ``point`` (2, c).

        The Hessian's entries are aa, ab and bb, for slope a and offset b.
        """
        z, p, w = (buffer[: len(classes)] for buffer in (self._z, self._p, self._w))
        np.take(self.columns, classes, axis=0, out=z)
        np.multiply(z, point[0, :, None], out=p)
        p += point[1, :, None]
        softplus = np.maximum(p, 0, out=w).sum(axis=1)
        expit(p, out=p)
        # log(1 + exp(u)) = max(u, 0) - log(max(p, 1 - p)): exact in both tails, and p is known already.
        np.subtract(1, p, out=w)
        np.maximum(w, p, out=w)
        softplus -= np.log(w, out=w).sum(axis=1)
        targets = np.stack([self.positive_logits[classes], self.positives[classes]])
        pull = point - self.centre
        loss = softplus - (targets * point).sum(axis=0) + self.ridge @ pull**2 / 2
        gradient = np.stack([np.einsum("kn,kn->k", p, z), p.sum(axis=1)]) - targets + self.ridge[:, None] * pull
        np.multiply(p, p, out=w)
        np.subtract(p, w, out=w)
        bb = w.sum(axis=1) + self.ridge[1]
        w *= z
        return loss, gradient, np.stack([np.einsum("kn,kn->k", w, z) + self.ridge[0], w.sum(axis=1), bb])

    def best_constant(self, c: int) -> float:
        """Return the offset that minimises the loss of class ``c`` at slope 0."""
        centre = self.centre[1, 0]
        return float(
            brentq(lambda b: self.rows * expit(b) - self.positives[c] + self.ridge[1] * (b - centre), -1e3, 1e3, xtol=1e-12)
        )


def _newton_step(gradient: Floats, hessian: Floats) -> Floats:
    """Return -H^-1 g of each class, shape (2, c). The ridges keep H positive definite."""
    aa, ab, bb = hessian
    determinant = aa * bb - ab * ab
    return np.stack([ab * gradient[1] - bb * gradient[0], ab * gradient[0] - aa * gradient[1]]) / determinant


def _minimise(problem: PenalisedLoss, point: Floats) -> Floats:
    """Return the minimum (2, k) of each class's strictly convex loss, by damped Newton steps.

    A step is halved until the loss falls. Classes run side by side, and leave once converged. A step below 1e-6 is the last:
    its error is about its square.
    """
    point = point.copy()
    active, scale = np.arange(point.shape[1]), np.ones(point.shape[1])
    loss, gradient, hessian = problem.evaluate(active, point)
    step = _newton_step(gradient, hessian)
    for _ in range(_MAX_STEPS):
        done = np.abs(step).max(axis=0) < _LAST_STEP
        point[:, active[done]] += step[:, done]
        active, loss, scale, step = active[~done], loss[~done], scale[~done], step[:, ~done]
        if not active.size:
            return point
        tried = point[:, active] + scale * step
        new_loss, gradient, hessian = problem.evaluate(active, tried)
        # A class whose loss fell takes a new, full step; any other class retries half of its step.
        better = new_loss <= loss + _ROUNDING * (1 + np.abs(loss))
        point[:, active] = np.where(better, tried, point[:, active])
        step = np.where(better, _newton_step(gradient, hessian), step)
        loss, scale = np.where(better, new_loss, loss), np.where(better, 1.0, scale / 2)
    raise AssertionError(f"calibration of classes {active.tolist()} did not converge")
