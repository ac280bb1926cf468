"""A Gaussian process of the scores that configurations have at the rungs.

A configuration x scores f(x) at the top rung. At a lower one it scores f(x) and a deviation, the sum of one for each step that is left
to the top:

    f_r(x) = f(x) + d_r(x) + ... + d_top-1(x)

(Kennedy and O'Hagan 2000, here with the top rung as what the others deviate from.) So the model learns which configurations start
slowly, and how far the lower rungs can be trusted. All functions have one Matérn 5/2 kernel with a length scale for each dimension
(Rasmussen and Williams 2006, section 4.2 and 5.1), and each its own variance; each rung has its own noise. The hyperparameters are those
of the highest posterior density, under log-normal priors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, lapack, solve_triangular
from scipy.optimize import Bounds, minimize

Array = NDArray[np.float64]
NOISE, DEVIATION = 0.1, 0.05
"""The priors' medians of each rung's noise and of each step's deviation, as shares of the scores' variance."""
SPREAD = 1.5
"""The priors' standard deviation, in natural logarithms; that of f's own variance is 1."""
REACH = 5.0
"""How far from its prior's median a hyperparameter may lie, in natural logarithms."""
LEAST_NOISE = 1e-4
"""Added to each noise, as a share of the kernel's variance: the matrices stay positive definite."""
MOST_STEPS = 20
MOST_FITTED = 120
"""The hyperparameters are fitted to so many scores at most."""


@dataclass(frozen=True)
class Scores:
    """Scores at rungs: the features of each one's configuration, the index of its rung, and the score.

    ``features`` is scores by features, the others have one value a score.
    """

    features: Array
    rungs: NDArray[np.int64]
    values: Array

    def __getitem__(self, chosen: NDArray[np.int64]) -> "Scores":
        return Scores(self.features[chosen], self.rungs[chosen], self.values[chosen])


@dataclass(frozen=True)
class Hyperparameters:
    """The inverse squared length scale of each dimension, the variances of f and of each step's deviation, each rung's noise."""

    weights: Array
    variance: float
    deviations: Array
    noise: Array

    @property
    def least_noise(self) -> float:
        """What is added to each noise."""
        return LEAST_NOISE * (self.variance + float(self.deviations.sum()))

    @property
    def variances(self) -> Array:
        """The variance of the score at each rung, without noise."""
        return self.variance + np.append(np.cumsum(self.deviations[::-1])[::-1], 0.0)


class GaussianProcess:
    """The scores' posterior. ``owners`` is the dimension that each feature belongs to, and ``is_choice`` tells of each dimension.

    ``rng`` draws the scores that the hyperparameters are fitted to, if there are more than MOST_FITTED.
    """

    def __init__(
        self, scores: Scores, *, rungs: int, owners: NDArray[np.int64], is_choice: NDArray[np.bool_], rng: np.random.Generator
    ) -> None:
        largest = float(np.abs(scores.values).max()) or 1.0
        values = scores.values / largest  # their squares are finite
        mean, deviation = float(values.mean()), float(values.std()) or 1.0
        self._mean, self._scale = largest * mean, largest * deviation
        standard = Scores(scores.features, scores.rungs, (values - mean) / deviation)
        self._found = _Fit(standard[_fitted(standard, rng)], rungs, owners, is_choice).best()
        self._weights = np.sqrt(self._found.weights[owners])
        self._points, self._rungs = standard.features * self._weights, standard.rungs
        covariance = self._covariance(self._points, self._rungs, self._points, self._rungs)
        covariance[np.diag_indices_from(covariance)] += self._found.noise[self._rungs] + self._found.least_noise
        self._factor = cholesky(covariance, lower=True)
        self._values = standard.values
        self._solved = cho_solve((self._factor, True), self._values)

    def expect(self, features: Array) -> None:
        """Take for known that configurations will score at the first rung what is expected of them there.

        This narrows what is unknown near them, and moves no mean (Ginsbourger et al. 2010, "Kriging believer").
        """
        points, rungs = features * self._weights, np.zeros(len(features), np.int64)
        across = self._covariance(self._points, self._rungs, points, rungs)
        values = across.T @ self._solved
        root = solve_triangular(self._factor, across, lower=True)
        left = self._covariance(points, rungs, points, rungs) - root.T @ root
        left[np.diag_indices_from(left)] += self._found.noise[0] + self._found.least_noise
        before, added = len(self._points), len(points)
        self._factor = np.block([[self._factor, np.zeros((before, added))], [root.T, _root(left)]])
        self._points, self._rungs = np.concatenate([self._points, points]), np.concatenate([self._rungs, rungs])
        self._values = np.concatenate([self._values, values])
        self._solved = cho_solve((self._factor, True), self._values)

    def at_the_top(self, features: Array) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of the top rung's score of each configuration, without noise."""
        top = np.full(len(features), len(self._found.noise) - 1)
        across = self._covariance(self._points, self._rungs, features * self._weights, top)
        explained = np.square(solve_triangular(self._factor, across, lower=True)).sum(axis=0)
        deviation = np.sqrt(np.maximum(self._found.variance - explained, 1e-10))
        return self._mean + self._scale * (across.T @ self._solved), self._scale * deviation

    def _covariance(self, points: Array, rungs: NDArray[np.int64], others: Array, their: NDArray[np.int64]) -> Array:
        return _matern(_squared_distances(points, others)) * self._found.variances[np.maximum.outer(rungs, their)]


class _Fit:
    """Finds the hyperparameters by L-BFGS on the negative logarithm of the posterior density, with its gradient."""

    def __init__(self, scores: Scores, rungs: int, owners: NDArray[np.int64], is_choice: NDArray[np.bool_]) -> None:
        self._scores, self._owners, self._dimensions = scores, owners, len(is_choice)
        self._squares = np.square(scores.features)
        self._higher = np.maximum.outer(scores.rungs, scores.rungs)
        weights = np.exp(-0.5) * np.where(is_choice, 1.0, 6.0) / np.sqrt(len(is_choice))  # longer where there are more dimensions
        medians = [*weights, 1.0, *np.full(rungs - 1, DEVIATION), *np.full(rungs, NOISE)]
        self._prior = np.log(medians)
        self._spread = np.full(len(medians), SPREAD)
        self._spread[self._dimensions] = 1.0
        self._parts = np.cumsum([self._dimensions, 1, rungs - 1])

    def best(self) -> Hyperparameters:
        """Return what is best of all that was tried."""
        bounds = Bounds(self._prior - REACH, self._prior + REACH)
        options = {"maxiter": MOST_STEPS, "maxfun": MOST_STEPS + 5}
        found = minimize(self._loss, self._prior, jac=True, method="L-BFGS-B", bounds=bounds, options=options)  # type: ignore[call-overload]
        return self._read(found.x)

    def _read(self, logarithms: Array) -> Hyperparameters:
        weights, variance, deviations, noise = np.split(np.exp(logarithms), self._parts)
        return Hyperparameters(weights, float(variance[0]), deviations, noise)

    def _loss(self, logarithms: Array) -> tuple[float, Array]:
        """Return the negative logarithm of the posterior density, and its gradient. See Rasmussen and Williams, equation 5.9."""
        scores, found = self._scores, self._read(logarithms)
        points = scores.features * np.sqrt(found.weights[self._owners])
        squares = _squared_distances(points, points)
        kernel = _matern(squares)
        variances = found.variances[self._higher]
        covariance = kernel * variances
        covariance[np.diag_indices_from(covariance)] += found.noise[scores.rungs] + found.least_noise
        away = (logarithms - self._prior) / self._spread
        factor = cholesky(covariance, lower=True)
        solved = cho_solve((factor, True), scores.values)
        loss = 0.5 * scores.values @ solved + np.log(np.diag(factor)).sum() + 0.5 * away @ away
        inverse = _inverse(factor)
        steep = 0.5 * (inverse - np.outer(solved, solved))
        of_distance = steep * variances * _matern_slope(squares)
        by_feature = 2 * (
            of_distance.sum(axis=0) @ self._squares - ((of_distance @ scores.features) * scores.features).sum(axis=0)
        )
        of_weights = np.bincount(self._owners, by_feature, minlength=self._dimensions) * found.weights
        of_kernel = steep * kernel
        by_rung = np.bincount(self._higher.ravel(), of_kernel.ravel(), minlength=len(found.noise))
        of_deviations = np.cumsum(by_rung)[:-1] * found.deviations
        diagonal = np.diag(steep)
        of_noise = np.bincount(scores.rungs, diagonal, minlength=len(found.noise)) * found.noise
        shared = LEAST_NOISE * diagonal.sum()
        of_variance = (of_kernel.sum() + shared) * found.variance
        gradient = np.concatenate([of_weights, [of_variance], of_deviations + shared * found.deviations, of_noise])
        return float(loss), gradient + away / self._spread


def _squared_distances(points: Array, others: Array) -> Array:
    lengths = np.add.outer(np.square(points).sum(axis=1), np.square(others).sum(axis=1))
    return np.maximum(lengths - 2 * points @ others.T, 0.0)


def _matern(squares: Array) -> Array:
    """Return the Matérn 5/2 kernel of squared distances."""
    far = np.sqrt(5 * squares)
    return (1 + far * (1 + far / 3)) * np.exp(-far)


def _matern_slope(squares: Array) -> Array:
    """Return the kernel's derivative by the squared distance."""
    far = np.sqrt(5 * squares)
    return -5 / 6 * (1 + far) * np.exp(-far)


def _fitted(scores: Scores, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the scores to fit to: of too many the highest rungs' best, and as many others drawn."""
    count = len(scores.values)
    if count <= MOST_FITTED:
        return np.arange(count)
    order = np.lexsort((-scores.values, -scores.rungs))
    half = MOST_FITTED // 2
    return np.concatenate([order[:half], rng.permutation(order[half:])[: MOST_FITTED - half]])


def _inverse(factor: Array) -> Array:
    """Return the inverse of the matrix with this lower Cholesky factor."""
    half, fault = lapack.dpotri(factor, lower=1)  # the lower triangle; above it is the factor's, which is 0
    assert fault == 0
    whole = half + half.T
    whole[np.diag_indices_from(whole)] -= np.diag(half)
    return whole


def _root(matrix: Array) -> Array:
    """Return the lower Cholesky factor of a covariance that rounding may have made indefinite."""
    scale = float(np.trace(matrix)) / len(matrix)
    for share in (0.0, 1e-6, 1e-4, 1e-2):
        try:
            return cholesky(matrix + share * scale * np.eye(len(matrix)), lower=True)
        except LinAlgError:
            continue
    return np.diag(np.sqrt(np.maximum(np.diag(matrix), 1e-10)))
