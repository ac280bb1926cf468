"""Small searches trained in this process, without Ray."""

from pathlib import Path

import pandas as pd
import pytest

from hpa_search.data.external import read_external
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.finish.material import read_material
from hpa_search.ledger.ledger import Ledger
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.space.parsing import parse_search
from hpa_search.training.job import open_trial

STUDY = """
name: study
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet, learning_rate: 3.0e-3}
space: {channels: {choice: [rgby, g]}, replicate: {choice: [0, 1]}}
sampler: grid
scheduler: {kind: none, max_epochs: 2}
final: {onnx: false}
split: {train: 0.6, validation: 0.2, test: 0.2}
"""


@pytest.fixture(scope="session")
def begin():
    """Return a function that makes an OUT ready for the search of a text, and its job and agenda."""

    def ready(out: Path, text: str, data: Path, cache: Path, external: Path | None = None, say=print):
        search, dataset = parse_search(text, "finish.yaml"), read_dataset(data)
        images = pack(dataset.train_folder, dataset.ids, cache)
        more = read_external(external, images.size, cache) if external else None
        job = prepare(out, search, text, Inputs(dataset, images, more, external), cache, say)
        return job, Agenda(search, Ledger.create(out, search.name), slots=1, spent_seconds=lambda: 0.0)

    return ready


@pytest.fixture(scope="session")
def train(begin):
    """Return a function that runs the whole search of a text into an OUT."""

    def run(out: Path, text: str, data: Path, cache: Path, external: Path | None = None, say=print) -> Path:
        job, agenda = begin(out, text, data, cache, external, say)
        while (leg := agenda.next()) is not None:
            trial = open_trial(job, leg.number, leg.parameters)
            while not agenda.report(leg.number, EpochReport.of(trial.run_epoch())):
                pass
            trial.close()
        return out

    return run


@pytest.fixture(scope="session")
def study(tmp_path_factory, train) -> Path:
    """A folder with data/ of 120 images in 40 groups, and out/, a grid of two settings with two seeds each; not to be changed."""
    folder = tmp_path_factory.mktemp("study")
    make_phantom(folder / "data", images=120, size=32, seed=0, lift=6, test_images=3)
    ids = read_dataset(folder / "data").ids
    groups = [f"g{row // 3}" for row in range(len(ids))]
    pd.DataFrame({"Id": ids, "Group": groups}).to_csv(folder / "data/groups.csv", index=False)
    train(folder / "out", STUDY, folder / "data", folder / "cache")
    return folder


@pytest.fixture(scope="session")
def material(study):
    """What the final stage reads of the study."""
    return read_material(study / "out", study / "cache", None, (), print)
