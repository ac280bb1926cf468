"""How a worker opens a trial: on the prepared data, with its device noted in its folder."""

import numpy as np
import pandas as pd
import pytest

from hpa_search.config import TrialConfig
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.splits import make_split, read_split, write_split
from hpa_search.layout import SPLIT
from hpa_search.phantom.dataset import make_phantom
from hpa_search.scoring.metrics import macro_f1
from hpa_search.scoring.rules import cross_fitted
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.device import choose_device
from hpa_search.training.job import Job, open_trial, trial_folder

FIXED = {"full_size": 32, "small_size": 32, "batch_size": 16, "backbone": "test_resnet"}


class Space:
    def trial_config(self, drawn):
        return TrialConfig(**FIXED, **drawn)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The dataset, whose images are in 9 groups, and a job on it whose trial 3 has trained one epoch."""
    folder = tmp_path_factory.mktemp("job")
    make_phantom(folder / "data", images=90, size=32, seed=0, lift=4)
    ids = read_dataset(folder / "data").ids
    groups = pd.DataFrame({"Id": ids, "Group": [f"g{row % 9}" for row in range(len(ids))]})
    groups.to_csv(folder / "data/groups.csv", index=False)
    dataset = read_dataset(folder / "data")
    write_split(folder / "out" / SPLIT, ids, make_split(dataset.labels, dataset.groups, (0.5, 0.5, 0), seed=0))
    job = Job(
        folder / "data", folder / "cache", folder / "out", 2, 0, "macro_f1", tuple(range(28)), (0.1,) * 4, (0.2,) * 4, Space()
    )
    trial = open_trial(job, 3, {"learning_rate": 3e-3})
    trial.run_epoch()
    trial.close()
    return dataset, job


def test_the_folder_says_where_the_trial_runs(opened):
    _, job = opened
    assert (trial_folder(job.out, 3) / "device.txt").read_text() == f"{choose_device()}\n"


def test_the_datasets_groups_are_held_together_when_it_is_scored(opened):
    dataset, job = opened
    rows, folder = read_split(job.out / SPLIT, dataset.ids).validation, trial_folder(job.out, 3)
    groups, labels = np.array(dataset.groups)[rows], dataset.labels[rows]
    fitted = cross_fitted(read_logits(folder)[1].astype(np.float32), labels, folds=min(5, len(set(groups))), groups=groups)
    assert pd.read_csv(folder / "metrics.csv").macro_f1.item() == pytest.approx(macro_f1(fitted, labels), abs=1e-12)
