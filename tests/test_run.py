"""What a run refuses before it needs a Ray."""

import pytest
from rich.console import Console

from hpa_search import run as module
from hpa_search.data.check import load_dataset
from hpa_search.engine import driver
from hpa_search.errors import UserError
from hpa_search.layout import SEARCH, STUDY
from hpa_search.ledger import lease
from hpa_search.phantom.dataset import make_phantom
from hpa_search.run import run
from hpa_search.storage.store import Store

TEXT = "name: toy\nfixed: {small_size: 32, full_size: 32}\nbudget: {trials: 1}\nobjective: {min_positives: 2}\n"
URL = "postgresql://me@host/studies"


class NoRayError(Exception):
    """What comes next would need one."""


def no_ray(address, scratch):
    raise NoRayError


def begun_meanwhile(out, *arguments):
    """Do what is done with a dataset, while another driver begins a search in ``out``."""
    Store(out).write(STUDY, b'{"url": "postgresql://me@host/studies", "name": "toy-1"}')
    return load_dataset(*arguments)


@pytest.fixture
def start(tmp_path):
    """Return a function that runs the search ``text`` on a small phantom."""
    make_phantom(tmp_path / "data", images=48, size=32, seed=1, lift=0, test_images=1, workers=1)

    def start(out, text=TEXT, study=None):
        (tmp_path / "toy.yaml").write_text(text)
        given = tmp_path / "toy.yaml", tmp_path / "data", out, tmp_path / "cache"
        return run(*given, external=None, ray_address=None, console=Console(), study=study)

    return start


def test_two_searches_that_begin_at_once_in_one_folder_of_a_store_do_not_mix(bucket, start, monkeypatch):
    out = bucket / "out"
    monkeypatch.setattr(module, "load_dataset", lambda *arguments: begun_meanwhile(out, *arguments))
    with pytest.raises(UserError, match="another driver has begun a search there meanwhile; give the same command again"):
        start(out.plain, study=URL)
    assert list(Store(out).list()) == [STUDY]


@pytest.mark.parametrize("where", ["folder", "store"])
def test_beside_a_driver_at_work_what_has_changed_is_not_written(where, bucket, tmp_path, start, monkeypatch):
    out, study = (tmp_path / "out", None) if where == "folder" else (bucket / "out", f"sqlite:///{tmp_path}/study.db")
    held = []

    class AtWork(driver.Driver):
        """A driver whose lease stays held after its block."""

        def __exit__(self, *exception):
            held.append(self._lease)

        def run(self):
            return "stopped"

    def written():
        return (out / SEARCH).read_text() if where == "folder" else Store(out).read(SEARCH).decode()

    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.3)
    with monkeypatch.context() as other:
        other.setattr(module, "Driver", AtWork)
        start(out, study=study)
    assert written() == TEXT
    changed = TEXT + "resources: {cpus: 1, gpus: 0}\n"
    with pytest.raises(UserError, match="this search is being run by process"):
        start(out, changed, study)
    assert written() == TEXT
    held[0].release()
    monkeypatch.setattr(driver, "ray_up", no_ray)
    with pytest.raises(NoRayError):
        start(out, changed, study)
    assert written() == changed
