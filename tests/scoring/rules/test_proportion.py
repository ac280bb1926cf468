import numpy as np

from hpa_search.scoring.cuts import proportion
from hpa_search.scoring.rules import fit_rule
from tests.scoring.samples import alike, claimed


def test_it_claims_as_many_as_there_are():
    z, labels = alike(1)
    rule = fit_rule(z, labels, name="proportion")
    np.testing.assert_array_equal(claimed(rule, z).sum(axis=0), labels.sum(axis=0))
    np.testing.assert_array_equal(rule.thresholds, proportion(rule.probabilities(z), labels))
