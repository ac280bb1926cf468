"""A whole search with data and OUT in an object store, without Ray: prepare, train, finish, compare, predict."""

import io
import json
import shutil
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from hpa_search import run as run_module
from hpa_search.board.events import EventFiles
from hpa_search.board.runs import TensorBoard
from hpa_search.board.serve import serve
from hpa_search.bundle.labelling import predict_folder
from hpa_search.bundle.manifest import MANIFEST, Manifest, OnnxFile, read_manifest, sha256
from hpa_search.errors import UserError
from hpa_search.files import write_json
from hpa_search.finish.compare import compare
from hpa_search.finish.measure import as_json
from hpa_search.finish.stage import DELETES, ORDER, _publish, finish
from hpa_search.finish.summary import summary
from hpa_search.ledger.ledger import Ledger
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.space.parsing import parse_search
from hpa_search.storage.data_cache import BUNDLE, localise
from hpa_search.storage.mirror import Mirror
from hpa_search.storage.opened import MIRRORS, opened
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store
from hpa_search.training.job import open_trial
from tests.servers.s3 import environment

pytestmark = pytest.mark.long

SPACE = """
name: stored
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}, channels: {choice: [rgby, g]}}
budget: {trials: 3}
scheduler: {kind: none, max_epochs: 2}
final: {onnx: false, max_members: 2}
split: {train: 0.6, validation: 0.2, test: 0.2}
"""


def upload(folder: Path, place: Place) -> None:
    Mirror(Store(place), folder).push()


def given(place, cache):
    return run_module._Given(place, None, cache, Console(file=io.StringIO()))


def train(job, search, folder, watcher):
    """Train the search in this process; its ledger lies in ``folder``."""
    agenda = Agenda(search, Ledger.create(folder, search.name), slots=1, spent_seconds=lambda: 0.0, watchers=(watcher,))
    while (leg := agenda.next()) is not None:
        trial = open_trial(job, leg.number, leg.parameters)
        while not agenda.report(leg.number, EpochReport.of(trial.run_epoch())):
            pass
        trial.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "data"
    make_phantom(folder, images=120, size=32, seed=0, lift=4, test_images=5)
    return folder


@pytest.fixture(scope="module")
def trained(s3_process, data, tmp_path_factory):
    """A bucket with a trained search in out/ and its data in data/."""
    bucket, cache, search = (
        Place.of(f"s3://{s3_process.bucket()}"),
        tmp_path_factory.mktemp("driver"),
        parse_search(SPACE, "s.yaml"),
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(s3_process.url).items():
            patch.setenv(name, value)
        upload(data, bucket / "data")
        with opened(bucket / "out", cache, keeps=True, order=ORDER, deletes=DELETES) as work:
            job = run_module._ready(work, search, SPACE, given(bucket / "data", cache), print).job
            work.push()
            assert {"search.yaml", "split.csv", "provenance.json"} <= Store(bucket / "out").list().keys()
            train(job, search, work.folder, TensorBoard(EventFiles(work.folder), search))
    return bucket


@pytest.fixture
def searched(trained, s3):
    """The same, with the environment that it takes to work with it."""
    return trained


def test_everything_is_in_the_store_and_the_rest_works_from_there(searched, data, tmp_path, fetched):
    out, node = searched / "out", tmp_path / "node"
    there = Store(out).list()
    for number in range(3):
        names = {name.partition(f"trials/{number:04d}/")[2] for name in there}
        assert {"metrics.csv", "logits.npz", "checkpoint.pt", "device.txt", "weights/epoch-002.safetensors"} <= names
    assert any(name.startswith("tensorboard/0000/") for name in there)
    provenance = json.loads(Store(out).read("provenance.json"))
    assert provenance["data"] == f"{searched}/data"
    assert not any(str(tmp_path) in Store(out).read(name).decode() for name in ("provenance.json", "search.yaml", "split.csv"))

    said = []
    measured = finish(out, node, say=said.append)
    weights = [name for name in fetched if "/weights/" in name]
    sources = [*(member.source for member in measured.members), measured.best_single]
    wanted = {f"trials/{one.trial:04d}/weights/epoch-{one.epoch:03d}.safetensors" for one in sources}
    assert set(weights) == wanted and len(weights) == len(wanted)
    assert json.loads(Store(out).read("result.json")) == as_json(measured)
    assert list((node / MIRRORS).iterdir()) == []
    lines = "\n".join([*said, *summary(out, measured)])
    assert f"Bundle: {out}/bundle" in lines and f"Submission: {out}/submission.csv" in lines and str(node) not in lines

    local = tmp_path / "local"
    for name, stored in Store(out).list().items():
        Store(out).fetch(name, local / name, stored)
    assert finish(local, tmp_path / "cache", data=data) == measured

    fetched.clear()
    assert [one.name for one in compare(out, by=["channels"], cache=tmp_path / "laptop")]
    assert not any(name.endswith((".png", ".safetensors", ".pt")) for name in fetched)

    console = Console(file=io.StringIO(), soft_wrap=True)
    predict_folder(
        out / "bundle",
        searched / "data",
        searched / "labels/s.csv",
        node,
        console=console,
        probabilities=searched / "labels/p.csv",
    )
    assert Store(searched).read("labels/s.csv") == Store(out).read("submission.csv")
    assert Store(searched).read("labels/p.csv").startswith(b"Id,0,1,")
    text = console.file.getvalue()
    assert f"5 images labelled in {searched}/labels/s.csv." in text and f"Probabilities: {searched}/labels/p.csv." in text


def test_another_search_other_data_and_foreign_files_are_refused_by_their_places(searched, data, tmp_path):
    cache = tmp_path / "driver"
    other = SPACE.replace("max_epochs: 2", "max_epochs: 3")
    with pytest.raises(
        UserError, match=f"^{searched}/out holds another search: scheduler differ from {searched}/out/search.yaml"
    ):
        ready(searched / "out", other, searched / "data", cache)
    shutil.copytree(data, tmp_path / "changed")
    table = pd.read_csv(tmp_path / "changed/train.csv", dtype=str)
    table["Target"] = table["Target"].to_numpy()[::-1]
    table.to_csv(tmp_path / "changed/train.csv", index=False)
    with pytest.raises(UserError, match=f"{searched}/out holds a search on other data .its --data was {searched}/data."):
        ready(searched / "out", SPACE, tmp_path / "changed", cache)
    with pytest.raises(UserError, match=f"^{searched} holds files that are not a search's .data, "):
        ready(searched, SPACE, searched / "data", cache)
    Store(searched / "faulty").write("train/a_red.png", b"alone")
    with pytest.raises(UserError, match=f"(?s)^{searched}/faulty has .* fault.*train.csv: missing"):
        ready(searched / "new", SPACE, searched / "faulty", cache)
    assert Store(searched / "new").list() == {}


def ready(out, text, data, cache):
    with opened(out, cache, *run_module.BEGUN, keeps=True) as work:
        return run_module._ready(work, parse_search(text, "stored.yaml"), text, given(Place.of(data), cache), print)


class Killed(BaseException):
    """Nothing that a program handles."""


def with_graph(folder: Path, name: str) -> Manifest:
    """Give the bundle in ``folder`` a name and a graph of its own."""
    (folder / "model.onnx").write_bytes(name.encode() * 100)
    size = (folder / "model.onnx").stat().st_size
    graph = OnnxFile(file="model.onnx", sha256=sha256(folder / "model.onnx"), size=size, pixels=32)
    manifest = read_manifest(folder).model_copy(update={"name": name, "onnx": graph})
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def test_a_bundle_is_whole_at_every_moment_that_its_publishing_is_killed_at(searched, tmp_path, monkeypatch):
    finish(searched / "out", tmp_path / "node")
    bundle = localise(searched / "out/bundle", tmp_path / "node", suffixes=BUNDLE)
    names, left = [], [10**6]
    for method in ("push", "write", "delete", "look"):
        call = getattr(Store, method)

        def counted(*arguments, call=call):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return call(*arguments)

        monkeypatch.setattr(Store, method, counted)
    for fatal in range(10**6):
        left[0] = 10**6
        place = searched / f"out{fatal}"
        shutil.copytree(bundle, tmp_path / f"old{fatal}/bundle")
        with_graph(tmp_path / f"old{fatal}/bundle", "old")
        upload(tmp_path / f"old{fatal}", place)
        with opened(place, tmp_path / "node", order=ORDER, deletes=DELETES) as work:
            building = work.folder / ".bundle"
            shutil.copytree(bundle, building)
            manifest = with_graph(building, "new")
            left[0] = fatal
            with suppress(Killed):
                _publish(work, building, manifest)
            over = left[0] >= 0
            left[0] = 10**6
        names.append(read_manifest(localise(place / "bundle", tmp_path / f"reader{fatal}", suffixes=BUNDLE)).name)
        if over:
            break
    assert names[0] == "old" and names[-1] == "new" and len(names) > 5


def test_tensorboard_is_given_what_the_store_holds(searched, tmp_path, monkeypatch):
    seen = []

    def call(command):
        folder = Path(command[command.index("--logdir") + 1])
        seen.extend(path.parent.name for path in folder.rglob("events.*"))
        return 0

    monkeypatch.setattr("hpa_search.board.serve.subprocess.call", call)
    assert serve(searched / "out", tmp_path / "cache", 6006) == 0
    assert set(seen) == {"0000", "0001", "0002", "search"}
    with pytest.raises(UserError, match=f"{searched}/none/tensorboard: nothing to show"):
        serve(searched / "none", tmp_path / "cache", 6006)
