import numpy as np
from scipy.special import expit

from hpa_search.scoring.cuts import grid_plus
from hpa_search.scoring.rules import fit_rule
from tests.scoring.samples import alike


def test_it_leaves_probabilities_as_they_are():
    z, labels = alike(0)
    rule = fit_rule(z, labels, name="grid")
    np.testing.assert_array_equal(rule.probabilities(z), expit(z))
    np.testing.assert_array_equal(rule.thresholds, grid_plus(expit(z), labels))
