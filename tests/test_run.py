"""What a run refuses before it needs a Ray."""

import pytest
from rich.console import Console

from hpa_search import run as module
from hpa_search.data.check import load_dataset
from hpa_search.data.phantom import make_phantom
from hpa_search.errors import UserError
from hpa_search.layout import STUDY
from hpa_search.run import run
from hpa_search.storage.store import Store

TEXT = "name: toy\nfixed: {small_size: 32, full_size: 32}\nbudget: {trials: 1}\nobjective: {min_positives: 2}\n"
URL = "postgresql://me@host/studies"


def begun_meanwhile(out, *arguments):
    """Do what is done with a dataset, while another driver begins a search in ``out``."""
    Store(out).write(STUDY, b'{"url": "postgresql://me@host/studies", "name": "toy-1"}')
    return load_dataset(*arguments)


def test_two_searches_that_begin_at_once_in_one_folder_of_a_store_do_not_mix(bucket, tmp_path, monkeypatch):
    make_phantom(tmp_path / "data", images=48, size=32, seed=1, lift=0, test_images=1, workers=1)
    (tmp_path / "toy.yaml").write_text(TEXT)
    out = bucket / "out"
    monkeypatch.setattr(module, "load_dataset", lambda *arguments: begun_meanwhile(out, *arguments))
    with pytest.raises(UserError, match="another driver has begun a search there meanwhile; give the same command again"):
        run(
            *(tmp_path / "toy.yaml", tmp_path / "data", out.plain, tmp_path / "cache"),
            external=None,
            ray_address=None,
            console=Console(),
            study=URL,
        )
    assert list(Store(out).list()) == [STUDY]
