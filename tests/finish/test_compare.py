import shutil

import pytest

from hpa_search.errors import UserError
from hpa_search.finish.compare import compare, table
from hpa_search.scoring.comparison import Compared
from hpa_search.scoring.intervals import Interval
from hpa_search.scoring.metrics import macro_average_precision
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.job import trial_folder


def test_the_trials_of_a_setting_are_compared_as_one(study, material):
    found = compare(study / "out")
    assert {one.name for one in found} == {"channels rgby", "channels g"}
    assert all(one.trials == 2 for one in found) and found[0].to_best is None
    labels = material.labels(material.pool.rows)
    by_trial = [read_logits(trial_folder(study / "out", number))[2] for number in range(4)]
    scores = [macro_average_precision(logits, labels, material.provenance.classes) for logits in by_trial]
    mean = sorted(((scores[0] + scores[1]) / 2, (scores[2] + scores[3]) / 2), reverse=True)
    crossed = sorted(((scores[0] + scores[2]) / 2, (scores[1] + scores[3]) / 2), reverse=True)
    values = [one.macro_ap.value for one in found]
    assert values == pytest.approx(mean, abs=1e-6) or values == pytest.approx(crossed, abs=1e-6)


def test_settings_are_those_of_the_dimensions_that_are_named(study):
    assert {one.name for one in compare(study / "out", by=["replicate"])} == {"replicate 0", "replicate 1"}
    assert len(compare(study / "out", by=["channels", "replicate"])) == 4


def test_what_cannot_be_compared_is_refused(study, tmp_path):
    with pytest.raises(UserError, match="--by chanels: .*did you mean 'channels'"):
        compare(study / "out", by=["chanels"])
    with pytest.raises(UserError, match="is not a folder"):
        shutil.copytree(study / "out", tmp_path / "out")
        compare(tmp_path / "out", data=tmp_path / "nowhere")


def test_a_search_of_one_setting_has_nothing_to_compare(study, begin, tmp_path):
    text = (study / "out" / "search.yaml").read_text().replace("[rgby, g]", "[g]")
    begin(tmp_path / "out", text, study / "data", study / "cache")
    with pytest.raises(UserError, match="0 setting.* with a complete trial"):
        compare(tmp_path / "out")


def test_a_table_has_a_row_for_each_setting():
    ap, behind = Interval(0.5, 0.4, 0.6, 0.9), Interval(-0.1, -0.2, 0.05, 0.9)
    best = Compared("channels g", 2, ap, 0.01, None, None)
    alone = Compared("channels rgby", 1, ap, float("nan"), behind, None)
    assert table([best, alone])[2:] == [
        "| channels g | 2 | 0.5000 | 0.4000 to 0.6000 | 0.0100 |  |  |  |",
        "| channels rgby | 1 | 0.5000 | 0.4000 to 0.6000 |  | -0.1000 | -0.2000 to +0.0500 |  |",
    ]
