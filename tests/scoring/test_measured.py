import dataclasses

import numpy as np
import pytest

from hpa_search.scoring.appraisal import appraise
from hpa_search.scoring.final import FinalChoice
from hpa_search.scoring.measured import Nested
from tests.scoring.measurements import measured, measured_search
from tests.scoring.samples import miscalibrated


def test_the_nested_estimate_is_that_of_the_appraisal():
    logits, labels = miscalibrated(seed=1, rows=60, classes=5)
    labels[:, 4] = False
    appraisal = appraise(FinalChoice(rounds=3, bags=2), np.stack([logits, logits[::-1]]).astype(np.float32), labels, folds=3)
    found = Nested.of(appraisal, rows=60, groups=None, folds=3, networks=4)
    assert found.macro_f1 == appraisal.interval
    assert found.optimism == pytest.approx(found.naive - found.macro_f1.value)
    assert found.absent == (4,) and found.present_only == pytest.approx(found.macro_f1.value * 5 / 4)
    assert (found.rows, found.groups, found.folds, found.networks) == (60, None, 3, 4)
    assert (found.classes, found.ways, found.rules) == (appraisal.classes, appraisal.ways, appraisal.rules)


@pytest.mark.parametrize("make", [measured, measured_search])
def test_equal_measurements_are_equal_records_that_nothing_changes(make):
    assert make() == make() != make(candidates=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().labels = ()
