"""A plan on a dataset: the first trials are trained for a few steps."""

import pytest
from click.testing import CliRunner

from hpa_search.cli import main
from hpa_search.phantom.dataset import make_phantom

pytestmark = pytest.mark.long

SPACE = """
name: planned
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet, resolution: downsize}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}, channels: {choice: [rgby, g]}}
budget: {trials: %d}
scheduler: {min_epochs: 1, max_epochs: 9, eta: 3}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planned")
    make_phantom(folder / "data", images=120, size=32, seed=0, lift=4)
    return folder


def planned(data, trials, *options):
    (data / "space.yaml").write_text(SPACE % trials)
    given = ["plan", data / "space.yaml", "--data", data / "data", "--cache", data / "cache", "--out", data / "new/out", *options]
    return CliRunner().invoke(main, list(map(str, given)))


def test_a_plan_is_printed_and_nothing_is_left(data):
    result = planned(data, 9, "--slots", 3)
    assert result.exit_code == 0, result.output
    plan, time, disk, measured = result.stdout.splitlines()
    assert plan == "Plan: 9 trials, of which 3 reach epoch 3 and 3 reach epoch 9; 33 epochs."
    assert "on 3 slot(s)" in time and "(keep: needed)" in disk and measured.startswith("Measured on 8 of its trials: 0.")
    assert not (data / "new").exists()


def test_a_search_that_cannot_work_is_planned_and_refused(data):
    result = planned(data, 4)
    assert result.exit_code == 2
    assert "Plan: 4 trials" in result.stdout and "the rung at epoch 9 is reached by no promotion" in result.stderr
