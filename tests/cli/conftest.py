"""A command run in this process, an OUT without a driver, and a stand-in for a cluster's dashboard."""

import json
import shutil

import pytest
from click.testing import CliRunner

from hpa_search.cli import main
from hpa_search.cluster.answer import MARK
from hpa_search.cluster.remote import HELPER
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.ledger.ledger import Ledger
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.space.parsing import parse_search

SPACE = "name: toy\nfixed: {small_size: 32, full_size: 32}\nbudget: {trials: 2}\n"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HPA_SEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hpa():
    """Run a command, which has to end with ``code``; return its output."""

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, list(map(str, arguments)))
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result.output

    return run


@pytest.fixture
def space(tmp_path):
    """A search file."""
    (tmp_path / "toy.yaml").write_text(SPACE)
    return tmp_path / "toy.yaml"


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "data"
    make_phantom(folder, images=48, size=32, seed=1, test_images=2, workers=1)
    return folder


@pytest.fixture(scope="session")
def _made(phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    dataset = read_dataset(phantom)
    images = pack(dataset.train_folder, dataset.ids, folder / "cache")
    prepare(folder / "out", parse_search(SPACE, "toy.yaml"), SPACE, Inputs(dataset, images), folder / "cache", str)
    ledger = Ledger.create(folder / "out", "toy")
    ledger.add(0, {}, {}, target=2)
    ledger.report(0, 1, 0.25)
    ledger.report(0, 2, 0.5)
    ledger.end(0, "complete", "trained to the end")
    return folder / "out"


@pytest.fixture
def out(_made, tmp_path):
    """An OUT with one complete trial and no driver; each test has its own."""
    return shutil.copytree(_made, tmp_path / "out")


@pytest.fixture
def address(stand_in):
    return f"http://127.0.0.1:{stand_in.port}"


@pytest.fixture
def cluster(stand_in):
    """Add the job toy-1 of the search in /shared/toy, and let helpers find one list of ``answers`` after the other."""

    def set_up(state, *answers):
        stand_in.add("toy-1", state, {"hpa_search": "toy", "out": "/shared/toy", "cache": "/local"})
        stand_in.commands, left = [], list(answers)

        def on_send(server, request):
            if HELPER in request["metadata"]:
                server.log = f"{MARK}{json.dumps(left.pop(0) if len(left) > 1 else left[0])}\n"
                server.jobs[request["submission_id"]]["status"] = "SUCCEEDED"
                server.commands.append(request["entrypoint"])

        stand_in.on_send = on_send
        return stand_in

    return set_up
