from dataclasses import replace

import numpy as np
import pytest

from hpa_search.bundle.predict import network_logits
from hpa_search.finish.views import under_views
from hpa_search.scoring.final import FinalChoice


@pytest.mark.parametrize("tta", ["mean", "max"])
def test_the_best_entries_judge_the_rows_anew(material, tta):
    choice = FinalChoice(classes=material.pool.classes, ensemble="uniform", max_members=1)
    said: list[str] = []
    found = under_views(material, choice, tta, said.append)
    assert 1 <= len(found.networks) <= 3, "twice as many as it may take, and the best single one"
    assert material.pool.candidates[material.pool.best_single] in found.candidates
    for candidate, logits in zip(found.candidates, found.logits, strict=True):
        expected = network_logits(material.network(candidate), material.images, found.rows, tta)
        np.testing.assert_array_equal(logits, expected)
    taken = f"{len(found.networks)} of {len(material.pool.networks)}"
    assert said == [f"Predicting {len(found.rows)} images by their eight views, with {taken} candidates."]


def test_each_row_is_judged_by_the_network_that_was_not_trained_on_it(material):
    one, other = material.pool.candidates[:2]
    predictor = np.arange(len(material.pool.rows)) % 2
    pool = replace(material.pool, networks=((one, other),), logits=material.pool.logits[:1], predictor=predictor)
    found = under_views(replace(material, pool=pool), FinalChoice(ensemble="single"), "mean", print)
    for place, candidate in enumerate((one, other)):
        rows = pool.rows[predictor == place]
        expected = network_logits(material.network(candidate), material.images, rows, "mean")
        np.testing.assert_array_equal(found.logits[0][predictor == place], expected)
