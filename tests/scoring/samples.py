"""Labels and scores that the tests of scoring share; everything follows from a seed."""

import numpy as np
from hypothesis import strategies as st
from scipy.special import expit

seeds = st.integers(0, 2**32 - 1)


def miscalibrated(seed, rows=400, classes=4, spread=2.0):
    """Logits (n, k) whose truth is another slope and offset in each class, and labels drawn from that truth."""
    rng = np.random.default_rng(seed)
    z = rng.normal(rng.normal(0, spread, classes), spread, (rows, classes))
    return z, rng.random(z.shape) < expit(z * rng.uniform(-0.5, 3, classes) + rng.normal(0, 2, classes))


def known_map(rows=40_000):
    """Logits, labels drawn from a logistic map of them, and the slopes and offsets of this map."""
    rng = np.random.default_rng(0)
    z, slope, offset = rng.normal(-1, 2, (rows, 3)), np.array([0.5, 1.0, 2.5]), np.array([-1.0, 0.0, 1.5])
    return z, rng.random(z.shape) < expit(slope * z + offset), slope, offset


def alike(seed, rows=400, classes=5, lower=0.0):
    """Logits (n, k) of a network that is wrong about all its classes in nearly the same way, and labels.

    The logits of the first class are ``lower``, which makes it rare.
    """
    rng = np.random.default_rng(seed)
    z = rng.normal(rng.normal(-1, 0.5, classes), 1, (rows, classes))
    z[:, 0] -= lower
    slopes, offsets = 2.5 * rng.normal(1, 0.1, classes), -1 + rng.normal(0, 0.5, classes)
    return z, rng.random(z.shape) < expit(z * slopes + offsets)


def probabilities(seed, rows=60, classes=4, steps=None):
    """Probabilities (n, k), rounded to 1/``steps`` to make ties, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.5, 2, (rows, classes))
    labels = rng.random(p.shape) < p
    return (np.round(p * steps) / steps if steps else p), labels


def pool(seed, noise, rows=400, classes=4):
    """Logits (m, n, k) of members that see the truth through independent noise of the given strengths, and labels."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1.5, 2, (rows, classes))
    labels = rng.random(truth.shape) < expit(truth)
    members = [truth + strength * rng.normal(size=truth.shape) for strength in noise]
    return np.array(members, dtype=np.float32), labels


def odd_inputs():
    """Logits and labels that a diverged network or a handful of rows give, by name."""
    z, labels = miscalibrated(0, rows=60, classes=3)
    signs = np.where(z > 0, 1.0, -1.0)
    return {
        "one row": (z[:1], labels[:1] | True),
        "one row, no positive": (z[:1], labels[:1] & False),
        "one class": (z[:, :1], labels[:, :1]),
        "no positives": (z, labels & False),
        "no negatives": (z, labels | True),
        "no positives, high logits": (z + 40, labels & False),
        "constant": (np.zeros_like(z), labels),
        "constant and low": (np.full_like(z, -1e4), labels),
        "constant and high": (np.full_like(z, 1e4), labels),
        "constant, no positives": (np.full_like(z, 3.0), labels & False),
        "tied": (np.round(z), labels),
        "infinite": (signs * np.inf, labels),
        "far below": (z - 45, labels),
        "far above": (z + 45, labels),
        "separable": (z, z > 1),
        "separable and huge": (300 * z, z > 1),
        "worse than chance": (z, z < -1),
        "single precision, huge": ((40 * z).astype(np.float32), labels),
        "half precision": (z.astype(np.float16), labels),
    }


def claimed(rule, logits):
    """Where ``rule`` gives a label before empty rows are filled."""
    return rule.probabilities(logits) >= rule.thresholds


def without_first(seed, rows=800):
    """Logits and labels in which no row carries the first class."""
    z, labels = alike(seed, rows, lower=1.5)
    labels[:, 0] = False
    return z, labels
