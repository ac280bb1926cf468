"""Small searches trained in this process, without Ray."""

from pathlib import Path

import pytest

from hpa_search.data.external import read_external
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import Agenda
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.space.parsing import parse_search
from hpa_search.training.job import open_trial


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
            while not agenda.report(leg.number, trial.run_epoch()):
                pass
            trial.close()
        return out

    return run
