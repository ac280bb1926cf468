"""A finished search of promoted trials, with a failed one, trained in this process."""

from pathlib import Path

import pytest

from hpa_search.finish.stage import finish
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import FINISHED
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.leg import EpochReport
from hpa_search.training.job import open_trial
from tests.finish.conftest import begin  # noqa: F401

SEARCH = """
name: reported
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space:
  learning_rate: {log_range: [1.0e-3, 1.0e-2]}
  channels: {choice: [rgby, g]}
  loss: {choice: [bce, focal]}
  gamma: {range: [0.5, 3.0], when: {loss: focal}}
budget: {trials: 9}
scheduler: {min_epochs: 1, max_epochs: 3, eta: 3}
split: {train: 0.6, validation: 0.2, test: 0.2}
final: {members: 1, rounds: 5, bags: 2, onnx: false}
"""
FAILED = 4


@pytest.fixture(scope="session")
def unfinished(tmp_path_factory, begin) -> Path:  # noqa: F811
    """A folder with data/, cache/ and out/, whose search has no final stage yet; not to be changed."""
    folder = tmp_path_factory.mktemp("reported")
    make_phantom(folder / "data", images=140, size=32, seed=0, lift=6)
    job, agenda = begin(folder / "out", SEARCH, folder / "data", folder / "cache")
    while (leg := agenda.next()) is not None:
        if leg.number == FAILED:
            agenda.fail(FAILED, "out of memory | on a GPU")
            continue
        trial = open_trial(job, leg.number, leg.parameters)
        while not agenda.report(leg.number, EpochReport.of(trial.run_epoch())):
            pass
        trial.close()
    agenda.close()
    return folder


@pytest.fixture(scope="session")
def finished(unfinished) -> Path:
    """The same with its final stage; not to be changed."""
    finish(unfinished / "out", unfinished / "cache")
    Ledger.create(unfinished / "out", "reported").note(FINISHED, True)
    return unfinished
